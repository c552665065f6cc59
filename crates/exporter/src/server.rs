//! Serves the last round, and starts the next one in time.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use forewarm_signals::engine::{EngineClient, ScrapeError};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ExporterConfig,
    exposition::CONTENT_TYPE,
    gpu::{GpuSource, NvidiaSmi},
    page::page,
    round::round,
};

/// Why the exporter does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExporterError {
    /// Somebody else has the port.
    #[error("port {} is in use at {}: choose another by `--listen`", .0.port(), .0.ip())]
    PortInUse(SocketAddr),
    /// The address cannot be served at.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The client cannot be set up.
    #[error("cannot set up a client")]
    Client(#[source] ScrapeError),
    /// The server stopped by itself.
    #[error("the server stopped")]
    Serve(#[source] io::Error),
}

/// An exporter that has its port.
#[derive(Debug)]
pub struct Exporter {
    config: ExporterConfig,
    client: EngineClient,
    listener: TcpListener,
    address: SocketAddr,
}

/// The page of the last round, `None` before the first.
type Page = Option<Arc<str>>;

/// Exports until `shutdown`.
///
/// # Errors
/// [`ExporterError`] when it cannot start; no engine and no GPU that fails is one.
pub async fn run(config: ExporterConfig, shutdown: CancellationToken) -> Result<(), ExporterError> {
    Exporter::bind(config).await?.run(shutdown).await
}

impl Exporter {
    /// Takes the port, without a round yet.
    ///
    /// # Errors
    /// [`ExporterError`] when the port cannot be had or the client cannot be set up.
    pub async fn bind(config: ExporterConfig) -> Result<Self, ExporterError> {
        let wanted = config.listen;
        let refused = |source: io::Error| {
            if source.kind() == io::ErrorKind::AddrInUse {
                ExporterError::PortInUse(wanted)
            } else {
                ExporterError::Listen { address: wanted, source }
            }
        };
        let listener = TcpListener::bind(wanted).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let client = EngineClient::new(config.engine, config.interval, config.access.clone());
        let client = client.map_err(ExporterError::Client)?;
        Ok(Self { config, client, listener, address })
    }

    /// Where it serves; the port is chosen where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Exports until `shutdown`.
    ///
    /// # Errors
    /// When the server stops by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ExporterError> {
        let pages = watch::Sender::new(None);
        let app = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(pages.subscribe());
        tracing::info!(address = %self.address, engines = self.config.engines.len(), "exporting");
        let stop = CancellationToken::new();
        let server = axum::serve(self.listener, app).with_graceful_shutdown(shutdown.cancelled_owned());
        let rounds = stop.run_until_cancelled(rounds(&self.config, &self.client, &pages));
        let served = async {
            let served = server.await;
            stop.cancel();
            served
        };
        let (served, _) = tokio::join!(served, rounds);
        served.map_err(ExporterError::Serve)
    }
}

async fn rounds(config: &ExporterConfig, client: &EngineClient, pages: &watch::Sender<Page>) {
    let gpus = GpuSource::NvidiaSmi(NvidiaSmi::new(config.nvidia_smi.clone(), config.interval));
    let mut ticks = interval(config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        ticks.tick().await;
        let started = Instant::now();
        let found = round(client, &config.engines, &gpus).await;
        found.log_changes(before.as_ref());
        pages.send_replace(Some(Arc::from(page(&found, config.engine))));
        tracing::debug!(took_seconds = started.elapsed().as_secs_f64(), "round");
        before = Some(found);
    }
}

async fn metrics(State(pages): State<watch::Receiver<Page>>) -> Response {
    let page = pages.borrow().clone();
    match page {
        Some(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.to_string()).into_response(),
        None => not_ready(),
    }
}

async fn ready(State(pages): State<watch::Receiver<Page>>) -> Response {
    let is_ready = pages.borrow().is_some();
    if is_ready { "ready\n".into_response() } else { not_ready() }
}

fn not_ready() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the first round is not over\n").into_response()
}
