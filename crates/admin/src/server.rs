//! The listener and its connections.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Command, Dashboard, Metrics, Readiness,
    api::{self, MAX_EVENT_STREAMS, Shared},
    guard::Guard,
};

/// Connections at a time: every live stream and as many other calls again; more wait in the backlog.
const MAX_CONNECTIONS: usize = 2 * MAX_EVENT_STREAMS;
/// Longest time the headers of a request may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time calls that are under way may take when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept (no file descriptors, mostly), so that the loop does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What the admin port serves, and where.
pub struct AdminConfig {
    /// Where to listen.
    pub address: SocketAddr,
    /// The command-line flag that sets `address`, named when it cannot be used.
    pub flag: &'static str,
    /// Asked of every call that changes something. Without one such calls are taken on loopback only.
    pub token: Option<String>,
    /// What is shown.
    pub dashboard: Dashboard,
    /// What is counted.
    pub metrics: Metrics,
    /// What has to be ready.
    pub readiness: Readiness,
    /// Who obeys; `None`: nobody.
    pub commands: Option<mpsc::Sender<Command>>,
}

impl AdminConfig {
    /// Where the admin port is unless told otherwise: on loopback, at a port that neither Prometheus
    /// (9090) nor vLLM (8000) uses.
    pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

    /// An admin port over `dashboard` at the default address.
    pub fn new(dashboard: Dashboard) -> Self {
        Self {
            address: Self::DEFAULT_ADDRESS,
            flag: "--admin",
            token: None,
            metrics: Metrics::new(dashboard.clone()),
            dashboard,
            readiness: Readiness::new(),
            commands: None,
        }
    }
}

/// Why the admin port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody has it.
    #[error("cannot listen on {address}, it is in use: choose another address with `{flag}`")]
    InUse {
        /// The address.
        address: SocketAddr,
        /// The flag.
        flag: &'static str,
    },
    /// The system refused.
    #[error("cannot listen on {address}, set by `{flag}`")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The flag.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// The admin port, open.
pub struct Admin {
    listener: TcpListener,
    local_address: SocketAddr,
    config: AdminConfig,
}

impl Admin {
    /// Opens the port. Calls wait until [`Admin::run`].
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(config: AdminConfig) -> Result<Self, BindError> {
        let (address, flag) = (config.address, config.flag);
        let refused = |source: io::Error| match source.kind() == io::ErrorKind::AddrInUse {
            true => BindError::InUse { address, flag },
            false => BindError::Refused { address, flag, source },
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let local_address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, local_address, config })
    }

    /// Where it listens; the port is the real one when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_address
    }

    /// Serves until `shutdown`, then ends live streams and lets other calls finish for a short time.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, local_address, config } = self;
        let guard = match config.token {
            Some(token) => Guard::Token(token),
            None if local_address.ip().is_loopback() => Guard::Loopback,
            None => Guard::Closed,
        };
        let service = TowerToHyperService::new(api::router(Arc::new(Shared {
            dashboard: config.dashboard,
            metrics: config.metrics,
            readiness: config.readiness,
            commands: config.commands,
            guard,
            streams: Arc::new(Semaphore::new(MAX_EVENT_STREAMS)),
            shutdown: shutdown.clone(),
        })));
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&listener, &slots) => accepted,
            };
            let Some((stream, slot)) = accepted else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            let connection = builder.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(error, "connection to the admin port ended");
                }
                drop(slot);
            });
        }
        drop(listener);
        if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
            tracing::debug!("connections to the admin port were cut");
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Events are small and late ones are noticed; a failure only costs latency.
            drop(stream.set_nodelay(true));
            Some((stream, slot))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept on the admin port");
            None
        }
    }
}
