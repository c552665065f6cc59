//! Listens, and serves the connections that come until it has to end.

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use forewarm_tls::{ServerTls, TlsFiles};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::InTurns,
    config::{GatewayConfig, GatewayError},
    connection,
    control_api::{self, ControlPort},
    dial::Dialer,
    handover::{Handover, Predecessor},
    keys::Keys,
    metrics::GatewayMetrics,
    receive::Receiving,
    registry::GatewayHandle,
    reload::{Followed, Reloader},
    worker::{self, Worker},
};

/// Longest time on the wall to send clients their last answer when the gateway has to stop.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Wait after the system could not accept a connection, such as when it is out of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A gateway that listens and does not serve yet.
#[derive(Debug)]
pub struct Gateway {
    front: Arc<Front>,
    control_tls: Option<Arc<ServerTls>>,
    reloader: Reloader,
    listeners: Vec<std::net::TcpListener>,
    /// One for each listener, or none: then the caller's runtime serves.
    workers: Vec<Worker>,
    control: Option<TcpListener>,
    predecessor: Option<Predecessor>,
    /// Open already where there is no gateway before.
    handover: Option<Handover>,
}

/// What answers clients, on whichever connection.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) config: GatewayConfig,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) keys: Option<Arc<Keys>>,
    pub(crate) receiving: Receiving,
    pub(crate) handle: GatewayHandle,
    permits: Arc<Semaphore>,
    /// Cancelled when what is in flight or waits has to end.
    stopping: CancellationToken,
}

impl Gateway {
    /// Takes the ports.
    ///
    /// # Errors
    /// When a port cannot be had, a file cannot be used, or a value makes no sense; the error names it.
    pub async fn bind(config: GatewayConfig) -> Result<Self, GatewayError> {
        let files = Files::read(&config)?;
        let (mut predecessor, mut listeners) = (None, Vec::new());
        if let Some(path) = config.handover.clone() {
            let (asked, listen) = (path.clone(), config.listen);
            let answer = tokio::task::spawn_blocking(move || Predecessor::ask(&asked, listen)).await;
            let answer = answer.unwrap_or_else(|_| Err(std::io::Error::other("asking for it panicked")));
            let answer = answer.map_err(|source| GatewayError::Handover { path, source })?;
            if let Some((before, sockets)) = answer {
                (predecessor, listeners) = (Some(before), sockets);
            }
        }
        if listeners.is_empty() {
            listeners = worker::bind(config.listen, config.threads.unwrap_or(NonZeroUsize::MIN))?;
        }
        Self::serving(config, files, listeners, predecessor).await
    }

    /// Takes sockets that listen already, such as those of a service manager, in the place of `listen`.
    ///
    /// # Errors
    /// When a file cannot be used, or a value makes no sense; the error names it.
    pub async fn bind_to(
        config: GatewayConfig,
        listeners: Vec<std::net::TcpListener>,
    ) -> Result<Self, GatewayError> {
        let files = Files::read(&config)?;
        for listener in &listeners {
            let address = config.listen;
            listener.set_nonblocking(true).map_err(|source| GatewayError::Listen { address, source })?;
        }
        Self::serving(config, files, listeners, None).await
    }

    async fn serving(
        config: GatewayConfig,
        files: Files,
        listeners: Vec<std::net::TcpListener>,
        predecessor: Option<Predecessor>,
    ) -> Result<Self, GatewayError> {
        let mut workers = Vec::new();
        // As many as there are sockets: a connection that comes to one must not wait for ever.
        for number in 0..config.threads.map_or(0, |_| listeners.len()) {
            workers.push(Worker::start(number).await.map_err(GatewayError::Thread)?);
        }
        let control = match config.control {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|source| GatewayError::Listen { address, source })?,
            ),
            None => None,
        };
        let stopping = CancellationToken::new();
        let handle = GatewayHandle::new(config.speed, stopping.clone(), files.dialer);
        let handover = match &config.handover {
            Some(path) if predecessor.is_none() => Some(
                Handover::open(path, &listeners, handle.clone())
                    .map_err(|source| GatewayError::Handover { path: path.clone(), source })?,
            ),
            _ => None,
        };
        let receiving = Receiving::new(config.max_receiving_bytes);
        let permits = Arc::new(Semaphore::new(config.max_connections));
        let Files { keys, tls, control_tls, .. } = files;
        let front = Arc::new(Front { config, tls, keys, receiving, handle, permits, stopping });
        let reloader = Reloader::default();
        Ok(Self { front, control_tls, reloader, listeners, workers, control, predecessor, handover })
    }

    /// Its metrics, for a page that shows them beside others.
    pub fn metrics(&self) -> GatewayMetrics {
        GatewayMetrics { handle: self.handle(), keys: self.front.keys.clone() }
    }

    /// Makes the gateway read its keys and certificates again.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Where a controller in this process gives its plans.
    pub fn handle(&self) -> GatewayHandle {
        self.front.handle.clone()
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listeners[0].local_addr()
    }

    /// Where controllers connect.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn control_addr(&self) -> std::io::Result<Option<SocketAddr>> {
        self.control.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Serves until cancelled; then takes nothing new and lets what is there finish, for as long as the
    /// configuration says. What is left then ends with an honest error.
    pub async fn run(self, shutdown: CancellationToken) {
        // The controller's port stays until the end: what drains has to be seen, and needs its replicas.
        let ended = CancellationToken::new();
        let _ended = ended.clone().drop_guard();
        let front = &self.front;
        if let Some(listener) = self.control {
            let port = ControlPort {
                listener,
                tls: self.control_tls.clone(),
                token: front.config.control_token.clone(),
                handle: front.handle.clone(),
                keys: front.keys.clone(),
            };
            tokio::spawn(control_api::serve(port, ended.clone(), shutdown.clone()));
        }
        let followed = Followed {
            keys: front.keys.clone(),
            tls: front.tls.iter().chain(&self.control_tls).cloned().collect(),
        };
        if !followed.is_empty() {
            tokio::spawn(followed.follow(self.reloader, ended.clone()));
        }
        if let Some(predecessor) = self.predecessor {
            // Until there is a plan, the one before serves.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = front.handle.planned(&predecessor.scalers) => {}
            }
            if let Err(error) = predecessor.relieve() {
                tracing::warn!(%error, "the gateway before this one is gone already");
            }
        }
        let handover = match (self.handover, &front.config.handover) {
            (Some(open), _) => Some(open),
            (None, Some(path)) => Handover::open(path, &self.listeners, front.handle.clone())
                .inspect_err(
                    |error| tracing::error!(%error, path = %path.display(), "no gateway can take over"),
                )
                .ok(),
            (None, None) => None,
        };
        if let Some(handover) = handover {
            tokio::spawn(handover.wait(shutdown.clone()));
        }
        let mut workers = self.workers.into_iter();
        let serving = self.listeners.into_iter().map(|listener| {
            let serve = Arc::clone(front).serve(listener, shutdown.clone());
            let (worker, ended) = (workers.next(), ended.clone());
            async move {
                match worker {
                    Some(worker) => worker.run(serve, ended).await,
                    None => serve.await,
                }
            }
        });
        futures_util::future::join_all(serving).await;
    }
}

/// What a gateway reads before it takes any port.
struct Files {
    keys: Option<Arc<Keys>>,
    tls: Option<Arc<ServerTls>>,
    control_tls: Option<Arc<ServerTls>>,
    dialer: Dialer,
}

impl Files {
    fn read(config: &GatewayConfig) -> Result<Self, GatewayError> {
        config.check()?;
        let tls = |files: &Option<TlsFiles>, protocols| {
            let tls = files.clone().map(|files| ServerTls::open(files, protocols)).transpose();
            tls.map(|tls| tls.map(Arc::new))
        };
        Ok(Self {
            keys: config.keys.as_deref().map(Keys::open).transpose()?.map(Arc::new),
            tls: tls(&config.tls, &["h2", "http/1.1"])?,
            control_tls: tls(&config.control_tls, &["http/1.1"])?,
            dialer: Dialer::open(&config.upstream_tls)?,
        })
    }
}

/// The next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it a streamed token may wait for the acknowledgement of the one before.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::trace!(%error, "a connection was gone before it was served");
                    continue;
                }
                return (stream, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// The connections that wait in a listener's backlog; then it is closed.
fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let mut waiting = Vec::new();
    let Ok(listener) = listener.into_std() else { return waiting };
    while let Ok((stream, peer)) = listener.accept() {
        if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            waiting.push((stream, peer));
        }
    }
    waiting
}

impl Front {
    /// Serves a listener until cancelled, and then what is there.
    async fn serve(self: Arc<Self>, listener: std::net::TcpListener, shutdown: CancellationToken) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "a listener cannot be served"),
        };
        let connections = TaskTracker::new();
        loop {
            let (stream, peer) = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&listener) => accepted,
            };
            // One more than there is room for is accepted and waits: with several listeners, who has to wait for a
            // client must not keep the room from those who have one. On the way out it is served all the same.
            let permit: Option<OwnedSemaphorePermit> = tokio::select! {
                permit = Arc::clone(&self.permits).acquire_owned() => permit.ok(),
                () = shutdown.cancelled() => None,
            };
            let served = connection::serve(Arc::clone(&self), stream, peer, shutdown.clone());
            connections.spawn(InTurns::new(async move {
                let _permit = permit;
                served.await;
            }));
        }
        // What the system has accepted already would be reset.
        for (stream, peer) in waiting(listener) {
            let served = connection::serve(Arc::clone(&self), stream, peer, shutdown.clone());
            connections.spawn(InTurns::new(served));
        }
        connections.close();
        if tokio::time::timeout(self.config.shutdown_timeout, connections.wait()).await.is_err() {
            tracing::warn!("requests were still in flight when the gateway had to stop");
            self.stopping.cancel();
            if tokio::time::timeout(LAST_WORDS, connections.wait()).await.is_err() {
                tracing::warn!("some clients did not take their last answer");
            }
        }
    }
}
