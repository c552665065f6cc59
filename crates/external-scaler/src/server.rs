//! The port that KEDA connects to.

use std::{io, net::SocketAddr, time::Duration};

use forewarm_tls::{ServerTls, TlsError, TlsFiles};
use tokio::{net::TcpListener, sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{
    connection::{ListenError, accept, listen},
    externalscaler::external_scaler_server::ExternalScalerServer,
    readings::Readings,
    service::Service,
};

/// Longest message; that of a ScaledObject with a page of metadata has a few KiB.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Longest headers.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Calls of one connection at a time. KEDA has one connection, and on it a stream for each `external-push` trigger; when
/// all are taken, nothing is asked any more. So it is more than any cluster has, and less than what would hurt.
const MAX_STREAMS: u32 = 32_768;
/// Longest time for an answer, or for the beginning of a stream.
const ANSWER: Duration = Duration::from_secs(5);
/// Time between two signs of life of a connection, and for the answer to one.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
/// Time that calls in flight get at the end.
const GRACE: Duration = Duration::from_secs(5);
/// Connections that are open and not yet served.
const OPEN: usize = 16;

/// How KEDA is answered.
#[derive(Clone, Debug)]
pub struct ScalerConfig {
    /// Where KEDA connects (`scalerAddress`).
    pub listen: SocketAddr,
    /// With TLS (`enableTLS`), and with certificates of clients if there is a CA for them.
    pub tls: Option<TlsFiles>,
    /// Scalers are called `NAMESPACE/NAME`, and a ScaledObject sees those of its own namespace.
    pub namespaced: bool,
    /// A reading that is older counts as missing.
    pub max_age: Duration,
}

/// A server that has its port.
pub struct ScalerServer {
    listener: TcpListener,
    tls: Option<ServerTls>,
    config: ScalerConfig,
    readings: Readings,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificate cannot be used.
    #[error("cannot serve TLS")]
    Tls(#[from] TlsError),
    /// The server broke.
    #[error("the external scaler ended")]
    Serve(#[from] tonic::transport::Error),
}

impl ScalerServer {
    /// Takes the port and reads the certificate.
    ///
    /// # Errors
    /// When the port cannot be had, or the certificate cannot be used.
    pub async fn bind(config: ScalerConfig, readings: Readings) -> Result<Self, ServeError> {
        let tls = config.tls.clone().map(|files| ServerTls::open(files, &["h2"])).transpose()?;
        Ok(Self { listener: listen(config.listen).await?, tls, config, readings })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the token is cancelled; then ends the streams, finishes what is in flight, and returns.
    ///
    /// # Errors
    /// When the server breaks.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self { listener, tls, config: ScalerConfig { namespaced, max_age, .. }, readings } = self;
        let (health, health_service) = tonic_health::server::health_reporter();
        let service = Service { readings, namespaced, max_age, shutdown: shutdown.clone() };
        health.set_serving::<ExternalScalerServer<Service>>().await;
        let (open, connections) = mpsc::channel(OPEN);
        tokio::spawn(accept(listener, tls, open, shutdown.clone()));
        let told = shutdown.clone();
        let server = Server::builder()
            .timeout(ANSWER)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .http2_keepalive_interval(Some(SIGN_OF_LIFE))
            .http2_keepalive_timeout(Some(SIGN_OF_LIFE))
            .add_service(health_service.max_decoding_message_size(MAX_MESSAGE_BYTES))
            .add_service(ExternalScalerServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES))
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move {
                told.cancelled().await;
                health.set_not_serving::<ExternalScalerServer<Service>>().await;
            });
        tokio::select! {
            served = server => Ok(served?),
            () = async { shutdown.cancelled().await; sleep(GRACE).await } => Ok(()),
        }
    }
}
