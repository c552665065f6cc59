//! The server: TLS, who asks, whether they may, and what they get.

use std::{
    collections::BTreeMap, convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration,
};

use forewarm_tls::{ServerTls, TlsError, TlsFiles};
use futures_util::{StreamExt, TryStreamExt};
use http::{Method, Request, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, runtime::watcher::watch_object};
use rustls::pki_types::CertificateDer;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    EngineOptions, Metric, Queues, SCALER_LABEL,
    answer::{self, Answer, Described},
    attributes::Attributes,
    authenticate::Authenticator,
    authorise::Authoriser,
    engines::{Engines, PodValues},
    gpu::Gpus,
    pods::{self, Behind, By, Choice},
    requests::{Ask, CustomAsk, ExternalAsk},
    selector,
    trust::{self, Trust, TrustError},
    values::{NoValue, Values},
};

/// Connections at a time: some API servers with some each, and probes.
const MAX_CONNECTIONS: usize = 1024;
/// Longest time for a handshake, and for a request's headers.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks at the certificate's files.
const LOOK_AT_FILES: Duration = Duration::from_secs(10);
/// Wait before the API server is watched again after an error.
const WATCH_AGAIN: Duration = Duration::from_secs(5);

/// Where the server's certificate is; both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What the server needs to know.
pub struct MetricsApiConfig {
    /// Where it serves.
    pub listen: SocketAddr,
    /// Its certificate.
    pub certificate: CertificateFiles,
    /// How engines are asked.
    pub engines: EngineOptions,
    /// The label selector of the cluster's dcgm-exporters, in whichever namespace.
    pub gpu_exporters: String,
    /// Who knows the queues at gateways, where there are any.
    pub queues: Option<Arc<dyn Queues>>,
}

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MetricsApiError {
    /// The API server does not say whom it trusts.
    #[error(
        "cannot read the ConfigMap {}/{}; the role `extension-apiserver-authentication-reader` in that namespace allows it",
        trust::NAMESPACE,
        trust::CONFIG_MAP
    )]
    Trust(#[source] Box<kube::Error>),
    /// What it says cannot be used.
    #[error(transparent)]
    BadTrust(#[from] TrustError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] TlsError),
    /// The address cannot be listened at.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Exporters of GPU metrics cannot be asked.
    #[error(transparent)]
    Client(#[from] forewarm_signals::engine::ScrapeError),
}

/// A server that listens, and does not answer yet.
pub struct MetricsApi {
    listener: TcpListener,
    address: SocketAddr,
    client: Client,
    tls: ServerTls,
    trust: watch::Sender<Arc<Trust>>,
    service: Arc<Service>,
}

struct Service {
    trust: watch::Receiver<Arc<Trust>>,
    authenticator: Authenticator,
    authoriser: Authoriser,
    values: Values,
}

impl MetricsApi {
    /// Asks the API server whom it trusts, and listens.
    ///
    /// # Errors
    /// [`MetricsApiError`].
    pub async fn bind(config: MetricsApiConfig, client: Client) -> Result<Self, MetricsApiError> {
        let published = Api::<ConfigMap>::namespaced(client.clone(), trust::NAMESPACE);
        let published = published.get(trust::CONFIG_MAP).await;
        let published = published.map_err(|error| MetricsApiError::Trust(Box::new(error)))?;
        let trust = Trust::read(&published)?;
        let CertificateFiles { certificate: cert, key } = config.certificate;
        let tls = ServerTls::open(TlsFiles { cert, key, client_ca: None }, &["h2", "http/1.1"])?;
        // Who shows no certificate may have a token.
        tls.admit(trust.roots().clone())?;
        let failed = |source| MetricsApiError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let values = Values {
            client: client.clone(),
            engines: Engines::new(config.engines),
            gpus: Gpus::new(client.clone(), config.gpu_exporters)?,
            queues: config.queues,
        };
        let (sender, trust) = watch::channel(Arc::new(trust));
        let service = Arc::new(Service {
            trust,
            authenticator: Authenticator::new(client.clone()),
            authoriser: Authoriser::new(client.clone()),
            values,
        });
        Ok(Self { listener, address, client, tls, trust: sender, service })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, client, tls, trust, service, .. } = self;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accept(&listener, &tls, &service) => {}
            () = follow_files(&tls) => {}
            () = follow_trust(client, &tls, &trust) => {}
        }
    }
}

/// Reads the certificate again when it was renewed.
async fn follow_files(tls: &ServerTls) {
    loop {
        tokio::time::sleep(LOOK_AT_FILES).await;
        match tls.refresh() {
            Ok(false) => {}
            Ok(true) => tracing::info!("the certificate was renewed"),
            Err(error) => tracing::error!(%error, "the certificate that was renewed cannot be used"),
        }
    }
}

/// Reads the authorities again when the API server publishes others.
async fn follow_trust(client: Client, tls: &ServerTls, known: &watch::Sender<Arc<Trust>>) {
    let published = Api::<ConfigMap>::namespaced(client, trust::NAMESPACE);
    loop {
        let mut seen = watch_object(published.clone(), trust::CONFIG_MAP).boxed();
        loop {
            let published = match seen.try_next().await {
                Ok(Some(Some(published))) => published,
                // Whom it trusted counts until it says something else.
                Ok(Some(None)) => continue,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot watch whom the API server trusts");
                    break;
                }
            };
            let renewed = Trust::read(&published).map_err(|error| error.to_string());
            let renewed = renewed.and_then(|trust| {
                tls.admit(trust.roots().clone()).map(|()| trust).map_err(|error| error.to_string())
            });
            match renewed {
                Ok(trust) => drop(known.send_replace(Arc::new(trust))),
                Err(error) => tracing::error!(error, "whom the API server trusts cannot be used"),
            }
        }
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}

async fn accept(listener: &TcpListener, tls: &ServerTls, service: &Arc<Service>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let permit = Arc::clone(&connections).acquire_owned().await.ok();
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let (acceptor, service) = (tls.acceptor(), Arc::clone(service));
        tokio::spawn(async move {
            let _permit = permit;
            let stream = match tokio::time::timeout(READ_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "a handshake failed"),
                Err(_) => return tracing::debug!("a handshake took too long"),
            };
            let shown = stream.get_ref().1.peer_certificates();
            let chain: Vec<CertificateDer<'static>> = shown
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect();
            let chain = Arc::new(chain);
            let answer = service_fn(move |request| {
                let (service, chain) = (Arc::clone(&service), Arc::clone(&chain));
                async move { Ok::<_, Infallible>(service.answer(&request, &chain).await) }
            });
            let mut server = Builder::new(TokioExecutor::new());
            server.http1().timer(TokioTimer::new()).header_read_timeout(READ_TIMEOUT);
            server.http2().timer(TokioTimer::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), answer).await {
                tracing::debug!(error, "a connection ended");
            }
        });
    }
}

impl Service {
    async fn answer(&self, request: &Request<Incoming>, chain: &[CertificateDer<'_>]) -> Answer {
        let path = request.uri().path();
        let ask = Ask::read(path, request.uri().query());
        if ask == Ask::Health {
            return answer::ok();
        }
        let trust = Arc::clone(&self.trust.borrow());
        let user = match self.authenticator.who(&trust, chain, request.headers()).await {
            Ok(Some(user)) => user,
            Ok(None) => return answer::status(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"),
            Err(error) => {
                return unavailable(&format!("the API server cannot be asked who this is: {error}"));
            }
        };
        match self.authoriser.may(&user, Attributes::of(&ask, path)).await {
            Ok(true) => {}
            Ok(false) => {
                let message = format!("`{}` may not ask for {path}: no role allows it", user.name);
                return answer::status(StatusCode::FORBIDDEN, "Forbidden", &message);
            }
            Err(error) => {
                return unavailable(&format!("the API server cannot be asked who may do this: {error}"));
            }
        }
        if request.method() != Method::GET {
            let message = "metrics are only read";
            return answer::status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
        }
        let document = match ask {
            Ask::Groups => answer::groups(),
            Ask::Group(group) => answer::group(group),
            Ask::CustomResources(version) => answer::custom_resources(version),
            Ask::ExternalResources => answer::external_resources(),
            Ask::OpenApi(version) => answer::open_api(version),
            Ask::Custom(ask) => return self.custom(&ask).await.unwrap_or_else(Refusal::answer),
            Ask::External(ask) => return self.external(&ask).await.unwrap_or_else(Refusal::answer),
            Ask::Health | Ask::Unknown => return not_found(&format!("there is nothing at {path}")),
        };
        answer::json(StatusCode::OK, &document)
    }

    async fn custom(&self, ask: &CustomAsk) -> Result<Answer, Refusal> {
        let metric: Metric = ask.metric.parse().map_err(|_| Refusal::unknown_metric(&ask.metric))?;
        let labels = selector::parse(&ask.metric_labels).map_err(Refusal::bad_selector)?;
        let namespace = &ask.namespace;
        let described = |name| Described { namespace, resource: &ask.resource, name };
        let list = |values: &[_]| {
            let document = answer::custom_values(ask.version, &ask.metric, values, Timestamp::now());
            Ok(answer::json(StatusCode::OK, &document))
        };
        // The series of a metric carry what they describe, as they would in Prometheus.
        let series = |pod: &str| {
            BTreeMap::from([("namespace".to_owned(), namespace.clone()), ("pod".to_owned(), pod.to_owned())])
        };
        if ask.resource == "pods" {
            let by = match ask.name.as_str() {
                "*" => By::Labels(ask.labels.clone()),
                name => By::Name(name.to_owned()),
            };
            let choice = Choice { namespace: namespace.clone(), by };
            let mut values: PodValues = self.values.by_pod(&choice, metric).await?;
            values.retain(|pod, _| selector::matches(&labels, &series(pod)));
            if values.is_empty() && ask.name != "*" {
                return Err(Refusal::NoValue(format!("no `{}` of {choice}", ask.metric)));
            }
            let values: Vec<_> = values.iter().map(|(pod, value)| (described(pod), *value)).collect();
            return list(&values);
        }
        if ask.name == "*" {
            let message = format!("metrics of {} are asked for by name", ask.resource);
            return Err(Refusal::NoValue(message));
        }
        let behind = pods::behind(&self.values.client, namespace, &ask.resource, &ask.name).await;
        let Some(behind) = behind.map_err(NoValue::from)? else {
            let message = format!(
                "there are no metrics of {}; there are some of pods, services, deployments.apps and statefulsets.apps",
                ask.resource
            );
            return Err(Refusal::NoValue(message));
        };
        let total = self.values.total(&behind, metric).await?;
        list(&[(described(&ask.name), total)])
    }

    async fn external(&self, ask: &ExternalAsk) -> Result<Answer, Refusal> {
        let metric: Metric = ask.metric.parse().map_err(|_| Refusal::unknown_metric(&ask.metric))?;
        let selected = selector::parse(&ask.labels).map_err(Refusal::bad_selector)?;
        let scaler = selector::wanted(&selected, SCALER_LABEL).map(|name| name.as_str().into());
        let choice = Choice { namespace: ask.namespace.clone(), by: By::Labels(ask.labels.clone()) };
        let total = self.values.total(&Behind { choice, scaler }, metric).await?;
        let labels = BTreeMap::from([("namespace".to_owned(), ask.namespace.clone())]);
        let document = answer::external_value(&ask.metric, &labels, total, Timestamp::now());
        Ok(answer::json(StatusCode::OK, &document))
    }
}

/// Why a metric is not given.
enum Refusal {
    /// There is no value, or no such metric or object.
    NoValue(String),
    /// The question cannot be read.
    Bad(String),
    /// The API server does not answer.
    Unavailable(String),
}

impl Refusal {
    fn unknown_metric(name: &str) -> Self {
        Self::NoValue(format!("there is no metric `{name}`"))
    }

    fn bad_selector(error: selector::BadSelector) -> Self {
        Self::Bad(error.to_string())
    }

    fn answer(self) -> Answer {
        match self {
            Self::NoValue(message) => not_found(&message),
            Self::Bad(message) => answer::status(StatusCode::BAD_REQUEST, "BadRequest", &message),
            Self::Unavailable(message) => unavailable(&message),
        }
    }
}

impl From<NoValue> for Refusal {
    fn from(why: NoValue) -> Self {
        match why {
            NoValue::Kube(kube::Error::Api(status)) if status.code == 404 => {
                Self::NoValue(status.message.clone())
            }
            NoValue::Kube(kube::Error::Api(status)) if status.code == 400 => {
                Self::Bad(status.message.clone())
            }
            NoValue::Kube(error) => {
                Self::Unavailable(format!("the API server does not say which pods there are: {error}"))
            }
            NoValue::Client(error) => Self::Unavailable(error.to_string()),
            NoValue::Unknown(why) => Self::NoValue(why),
        }
    }
}

fn not_found(message: &str) -> Answer {
    answer::status(StatusCode::NOT_FOUND, "NotFound", message)
}

fn unavailable(message: &str) -> Answer {
    answer::status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
}
