//! Listens, reads requests, and hands them on.

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use forewarm_core::pool::Affinity;
use forewarm_tls::{ServerTls, TlsFiles};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    alias,
    answer::{self, Body, error, refusal},
    ask::Ask,
    asked::Asked,
    config::{GatewayConfig, GatewayError},
    connection::{self, Client},
    control_api::{self, ControlPort},
    demand::Demand,
    dial::Dialer,
    forward::Forward,
    forwarded,
    handover::{Handover, Predecessor},
    keys::{Keys, Pass},
    metrics::GatewayMetrics,
    outgoing::{Outgoing, Provenance, Withheld},
    pool::Prefers,
    receive::{self, Receiving, Unread},
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
    keys: Option<Arc<Keys>>,
    receiving: Receiving,
    handle: GatewayHandle,
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
            connections.spawn(async move {
                let _permit = permit;
                served.await;
            });
        }
        // What the system has accepted already would be reset.
        for (stream, peer) in waiting(listener) {
            connections.spawn(connection::serve(Arc::clone(&self), stream, peer, shutdown.clone()));
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

    /// Answers a request.
    pub(crate) async fn answer(&self, request: Request<Incoming>, client: Client) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/health" | "/healthz" | "/ping") => {
                return Response::new(answer::full(Bytes::new()));
            }
            (_, path) if !path.starts_with("/v1/") => {
                let message = format!("there is no {path} here; the OpenAI API is under /v1/");
                return error(StatusCode::NOT_FOUND, "invalid_request_error", "not_found", &message);
            }
            _ => {}
        }
        let member = match self.keys.as_ref().map(|keys| keys.authenticate(request.headers())).transpose() {
            Ok(member) => member,
            Err(response) => return *response,
        };
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/v1/models") => return models(&self.handle),
            (&Method::GET, path) if let Some(model) = path.strip_prefix("/v1/models/") => {
                return one_model(&self.handle, model);
            }
            _ => {}
        }
        let Some(member) = member else { return self.forward(request, client, None).await };
        let mut pass = match member.begin() {
            Ok(pass) => pass,
            Err(response) => return *response,
        };
        let response = self.forward(request, client, Some(&mut pass)).await;
        pass.follow(response)
    }

    /// Reads a request and passes it on.
    async fn forward(
        &self,
        request: Request<Incoming>,
        client: Client,
        mut pass: Option<&mut Pass>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = match read(&self.config, &self.receiving, body).await {
            Ok(body) => body,
            Err(response) => return *response,
        };
        if let Some(Err(response)) = pass.as_mut().map(|pass| pass.take_prompt(body.len())) {
            return *response;
        }
        let ask = Ask::of(&body);
        let Some(scaler) = self.handle.by_model(ask.model.as_deref()) else {
            return unknown_model(&self.handle, ask.model.as_deref());
        };
        let wants_stream = ask.stream;
        let terms = scaler.terms(ask.model.as_deref());
        let asked = match Asked::of(&parts.headers) {
            Ok(asked) => asked,
            Err(bad) => {
                let (status, message) = (StatusCode::BAD_REQUEST, bad.to_string());
                return error(status, "invalid_request_error", bad.code(), &message);
            }
        };
        let tenant = pass.as_ref().map(|pass| pass.tenant());
        let mut demand = Demand::of(&ask, asked.priority, &parts, body.len(), tenant, &terms.tenants);
        demand.prefers = terms.affinity.and_then(|Affinity { prefix_bytes, load_factor }| {
            let model = terms.model.as_deref().or(ask.model.as_deref());
            Some(Prefers { prefix: ask.beginning.number(model, prefix_bytes)?, load_factor })
        });
        let body = match &terms.model {
            Some(model) => alias::renamed(body, model),
            None => body,
        };
        let is_trusted = forwarded::is_trusted(&client.origin, &self.config.trusted_proxies);
        let from = Provenance { origin: client.origin, is_trusted };
        let codings = pass.is_some_and(|pass| pass.counts_tokens());
        let withheld = Withheld { keys: self.keys.is_some(), codings };
        let key = self.keys.as_ref().and_then(|keys| keys.for_replicas(&scaler.id));
        let request = Outgoing::new(parts, body, withheld, Some(from), key);
        Forward::new(&scaler, terms, request, demand, asked, wants_stream, client.pace).run(&scaler).await
    }
}

async fn read(
    config: &GatewayConfig,
    receiving: &Receiving,
    body: Incoming,
) -> Result<Bytes, Box<Response<Body>>> {
    let invalid = |status, code, message: String| error(status, "invalid_request_error", code, &message);
    let unread = receiving.read(body, config.max_body_bytes, config.read_timeout).await;
    unread.map_err(|unread| {
        Box::new(match unread {
            Unread::TooLong => {
                let message = format!("the body is longer than the {} bytes allowed", config.max_body_bytes);
                invalid(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
            }
            Unread::TooSlow => {
                let message = format!(
                    "the body comes too slowly; it has {:.0?}, and longer at {} bytes a second or more",
                    config.read_timeout,
                    receive::MIN_BYTES_PER_SECOND
                );
                invalid(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
            }
            Unread::Broken(failed) => invalid(StatusCode::BAD_REQUEST, "body_unreadable", failed.to_string()),
            Unread::NoRoom => {
                let message = "too many request bodies are on their way to the gateway";
                refusal(StatusCode::SERVICE_UNAVAILABLE, "gateway_busy", message, Duration::from_secs(1))
            }
        })
    })
}

fn model_object(model: &str) -> serde_json::Value {
    json!({"id": model, "object": "model", "created": 0, "owned_by": "forewarm"})
}

/// From the plans: a model is there to be asked for even while no replica is.
fn models(handle: &GatewayHandle) -> Response<Body> {
    let data: Vec<_> = handle.models().iter().map(|model| model_object(model)).collect();
    answer::json(StatusCode::OK, &json!({"object": "list", "data": data}))
}

fn one_model(handle: &GatewayHandle, model: &str) -> Response<Body> {
    match handle.models().iter().any(|known| known == model) {
        true => answer::json(StatusCode::OK, &model_object(model)),
        false => unknown_model(handle, Some(model)),
    }
}

fn unknown_model(handle: &GatewayHandle, model: Option<&str>) -> Response<Body> {
    if handle.is_empty() {
        let message = "the gateway has no plan yet: its controller is starting";
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "starting", message, Duration::from_secs(1));
    }
    let known = handle.models().join(", ");
    let message = match model {
        Some(model) => format!("the model `{model}` does not exist; there are: {known}"),
        None => format!("`model` is missing; there are: {known}"),
    };
    error(StatusCode::NOT_FOUND, "invalid_request_error", "model_not_found", &message)
}
