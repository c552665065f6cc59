//! The engine's life as a process: cold start, serving, and the two ways it ends.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::body::EngineBody;
use crate::clock::wall_duration;
use crate::cold_start::ColdStartDraw;
use crate::config::{EngineConfig, LoadingBehaviour};
use crate::core::EngineCore;
use crate::error::EngineError;
use crate::service::{Service, answer_loading};

/// Connections served at a time; more wait in the system's backlog. It bounds the requests in flight, and is below
/// the usual limit of open files.
const MAX_CONNECTIONS: usize = 16_384;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Bytes buffered per connection for a request's head (and thereby the head's limit) and for reading its body.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Header lines per request.
const MAX_HEADERS: usize = 100;

/// How long a client may take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a killed vLLM still listens, answering 500 (measured: its listener closes within 0.5 s).
const DEAD_LISTEN_TIME: Duration = Duration::from_millis(300);

/// Pause after a failed `accept`, so that running out of file descriptors doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A line about the engine's start, for those who learn how long its stages take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageReport {
    /// The stage that just ended, or `ready`.
    pub stage: &'static str,
    /// Modelled seconds that it took; for `ready`, since the start began.
    pub seconds: f64,
    /// Where the engine listens; with `ready` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
}

impl StageReport {
    /// Writes the report to standard error as one line of JSON.
    pub fn print(self) {
        let line = serde_json::json!(self);
        // Nobody may be reading: a start doesn't fail for that.
        drop(writeln!(io::stderr(), "{line}"));
    }
}

/// Runs an engine until `shutdown` and until the last client has gone, printing [`StageReport`]s to standard error.
///
/// `shutdown` is SIGTERM. With `shutdown_timeout_seconds` 0 streams in flight then hang until their clients leave;
/// otherwise they may finish first. Dropping the future is SIGKILL: connections break at once.
///
/// # Errors
/// If the configuration is invalid, the address can't be listened on, or the cold start fails.
pub async fn run(config: EngineConfig, shutdown: CancellationToken) -> Result<(), EngineError> {
    let running = match Engine::start_reporting(config, shutdown, StageReport::print).await {
        Ok(running) => running,
        Err(EngineError::StoppedWhileStarting) => return Ok(()),
        Err(error) => return Err(error),
    };
    running.stopped().await;
    Ok(())
}

/// A serving engine in this process.
#[derive(Debug)]
pub struct Engine {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Engine {
    /// Starts an engine and waits until it is ready. See [`run`] for `shutdown`.
    ///
    /// # Errors
    /// As [`run`], and if `shutdown` comes before it is ready.
    pub async fn start(config: EngineConfig, shutdown: CancellationToken) -> Result<Self, EngineError> {
        Self::start_reporting(config, shutdown, |_| {}).await
    }

    /// Starts an engine as [`start`](Self::start) does, and hands a report of each stage to `report`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_reporting(
        config: EngineConfig,
        shutdown: CancellationToken,
        mut report: impl FnMut(StageReport) + Send,
    ) -> Result<Self, EngineError> {
        config.validate()?;
        let socket = bind(config.listen)?;
        let connections = Connections::new(config.listen);
        // Until it is handed on, a failed or abandoned start breaks the connections made meanwhile.
        let broken = connections.broken.clone().drop_guard();
        let mut server = None;
        let mut socket = Some(socket);
        if config.loading == LoadingBehaviour::LlamaCpp
            && let Some(socket) = socket.take()
        {
            server = Some(connections.serve(socket)?);
        }
        let draw = config.cold_start.draw();
        let total = tokio::select! {
            total = start_cold(&draw, config.speed, &mut report) => total?,
            () = shutdown.cancelled() => return Err(EngineError::StoppedWhileStarting),
        };
        let core = EngineCore::new(&config);
        connections.open(&core, &config);
        let (address, accepting) = match (server, socket) {
            (Some(server), _) => server,
            (None, Some(socket)) => connections.serve(socket)?,
            (None, None) => return Err(EngineError::StoppedWhileStarting),
        };
        report(StageReport { stage: "ready", seconds: total.as_secs_f64(), address: Some(address) });
        let server = tokio::spawn(serve_until(shutdown, config, core, connections, accepting, broken));
        Ok(Self { address, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the engine has been told to stop and its last client has gone.
    pub async fn stopped(mut self) {
        // An error is a panic in the server, which has already been reported on standard error.
        drop((&mut self.server).await);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Waits through a cold start; returns how long it took.
async fn start_cold(
    draw: &ColdStartDraw,
    speed: f64,
    report: &mut (impl FnMut(StageReport) + Send),
) -> Result<Duration, EngineError> {
    let mut total = Duration::ZERO;
    for (stage, duration) in &draw.stages {
        tokio::time::sleep(wall_duration(*duration, speed)).await;
        total += *duration;
        if draw.fails_at == Some(*stage) {
            return Err(EngineError::ColdStartFailed { stage: *stage, after: total });
        }
        report(StageReport { stage: stage.label(), seconds: duration.as_secs_f64(), address: None });
    }
    Ok(total)
}

/// Takes the address without listening on it: as with vLLM, a port in use shows at once, while clients are refused
/// until the engine listens.
fn bind(address: SocketAddr) -> Result<TcpSocket, EngineError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    });
    bound.map_err(|source| EngineError::listen(address, source))
}

/// The server's connections, before and after the engine is ready.
#[derive(Clone)]
struct Connections {
    address: SocketAddr,
    tracker: TaskTracker,
    /// Absent while the model is loading.
    service: Arc<OnceLock<Service>>,
    /// No more requests on existing connections; those under way may finish.
    closing: CancellationToken,
    /// Breaks all connections.
    broken: CancellationToken,
}

/// The task that accepts connections; ends, and closes the listener, when dropped.
struct Accepting(JoinHandle<()>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connections {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tracker: TaskTracker::new(),
            service: Arc::new(OnceLock::new()),
            closing: CancellationToken::new(),
            broken: CancellationToken::new(),
        }
    }

    fn open(&self, core: &Arc<EngineCore>, config: &EngineConfig) {
        self.service.get_or_init(|| Service::new(Arc::clone(core), config));
    }

    /// Listens and accepts connections.
    fn serve(&self, socket: TcpSocket) -> Result<(SocketAddr, Accepting), EngineError> {
        let failed = |source| EngineError::listen(self.address, source);
        let listener = socket.listen(BACKLOG).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok((address, Accepting(tokio::spawn(self.clone().accept(listener)))))
    }

    async fn accept(self, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    self.tracker.spawn(self.clone().connection(stream, permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream, _permit: OwnedSemaphorePermit) {
        // Tokens are small writes; without this each would wait for the last one's acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "failed to set TCP_NODELAY");
        }
        let service = service_fn(|request| {
            let service = &self.service;
            async move {
                Ok::<http::Response<EngineBody>, std::convert::Infallible>(match service.get() {
                    Some(service) => service.answer(request).await,
                    None => answer_loading(),
                })
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_BUFFER_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut closing = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended early");
                    }
                    return;
                }
                () = self.closing.cancelled(), if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.broken.cancelled() => return,
            }
        }
    }
}

/// Serves until told to stop, then ends as vLLM does.
async fn serve_until(
    shutdown: CancellationToken,
    config: EngineConfig,
    core: Arc<EngineCore>,
    connections: Connections,
    accepting: Accepting,
    // If this future is dropped, connections break as if the process had died.
    _broken: DropGuard,
) {
    {
        let drive = core.drive();
        let stop = async {
            shutdown.cancelled().await;
            let grace = Duration::from_secs_f64(config.shutdown_timeout_seconds);
            if grace > Duration::ZERO {
                core.start_draining();
                let grace = wall_duration(grace, config.speed);
                if tokio::time::timeout(grace, core.wait_until_idle()).await.is_ok() {
                    return;
                }
                tracing::warn!("requests are still in flight at the end of the shutdown timeout");
            }
            core.kill();
            tokio::time::sleep(DEAD_LISTEN_TIME).await;
        };
        tokio::pin!(drive, stop);
        tokio::select! {
            () = &mut drive => stop.await,
            () = &mut stop => {}
        }
    }
    drop(accepting);
    connections.closing.cancel();
    connections.tracker.close();
    connections.tracker.wait().await;
}
