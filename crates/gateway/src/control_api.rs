//! The words of [`forewarm_core::pool`] over HTTP, for a controller in another process. Not for clients.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use forewarm_core::{
    ScalerId,
    pool::{PoolPlan, PoolReport},
};
use forewarm_tls::ServerTls;
use futures_util::{
    StreamExt as _,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{self, Body, Response, error},
    config::ControlToken,
    keys::Keys,
    metrics,
    registry::GatewayHandle,
    scaler::Scaler,
};

/// A plan is some hundred bytes a replica.
const MAX_PLAN_BYTES: usize = 4 << 20;
/// Connections at a time: a few controllers with a stream and some questions each, a scraper, a probe.
const MAX_CONNECTIONS: usize = 256;
/// Longest time for a controller to send its headers, and again for its plan.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest time between two reports of a scaler: a burst is told within it, and does not flood anybody.
const MIN_GAP: Duration = Duration::from_millis(5);
/// Longest silence of a stream: so that a controller sees that the gateway lives.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// The port for controllers, and what is told there.
pub(crate) struct ControlPort {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) token: Option<ControlToken>,
    pub(crate) handle: GatewayHandle,
    pub(crate) keys: Option<Arc<Keys>>,
}

/// What the stream of changes tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Event {
    /// First, which scalers have a plan here.
    Scalers(BTreeSet<ScalerId>),
    /// What is seen of one: at the beginning, and after each change.
    Report {
        /// Whose.
        scaler: ScalerId,
        /// Each later one has another, and a greater one.
        version: u64,
        /// What.
        report: Box<PoolReport>,
    },
}

/// The answer to a plan.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// What is reported of the scaler with this version or a later one is of this plan or a later one.
    pub(crate) version: u64,
}

/// What is needed to answer.
struct Api {
    handle: GatewayHandle,
    token: Option<ControlToken>,
    keys: Option<Arc<Keys>>,
    /// Cancelled when the gateway takes nothing new.
    closing: CancellationToken,
}

pub(crate) async fn serve(port: ControlPort, ended: CancellationToken, closing: CancellationToken) {
    let ControlPort { listener, tls, token, handle, keys } = port;
    let api = Arc::new(Api { handle, token, keys, closing });
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let permit = Arc::clone(&connections).acquire_owned().await.ok();
        let stream = tokio::select! {
            () = ended.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a controller's connection");
                    tokio::time::sleep(MIN_GAP).await;
                    continue;
                }
            },
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::trace!(%error, "a connection was gone before it was served");
            continue;
        }
        let (api, ended) = (Arc::clone(&api), ended.clone());
        let acceptor = tls.as_ref().map(|tls| tls.acceptor());
        tokio::spawn(async move {
            let _permit = permit;
            let served = async {
                match acceptor {
                    None => speak(stream, api).await,
                    Some(acceptor) => {
                        match tokio::time::timeout(READ_TIMEOUT, acceptor.accept(stream)).await {
                            Ok(Ok(stream)) => speak(stream, api).await,
                            Ok(Err(error)) => tracing::warn!(%error, "a controller's TLS handshake failed"),
                            Err(_) => tracing::warn!("a controller's TLS handshake took too long"),
                        }
                    }
                }
            };
            tokio::select! {
                () = ended.cancelled() => {}
                () = served => {}
            }
        });
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, api: Arc<Api>) {
    let service = service_fn(move |request| {
        let api = Arc::clone(&api);
        async move { Ok::<http::Response<Body>, Infallible>(api.answer(request).await.into()) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::trace!(%error, "a controller's connection ended");
    }
}

impl Api {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let (parts, body) = request.into_parts();
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        match (&parts.method, path.as_slice()) {
            (&Method::GET, ["healthz"]) => Response::new(StatusCode::OK, answer::full("ok\n")),
            (&Method::GET, ["readyz"]) => self.ready(),
            (&Method::GET, ["metrics"]) => self.metrics(),
            (_, ["forewarm", "v1", ..]) if !self.may(&parts.headers) => {
                let message = "this needs `Authorization: Bearer` with the gateway's control token";
                let mut response =
                    error(StatusCode::UNAUTHORIZED, "invalid_request_error", "unauthorized", message);
                response.head.headers.push("www-authenticate", b"Bearer");
                response
            }
            (&Method::PUT, ["forewarm", "v1", "pools", scaler]) => self.apply(scaler, body).await,
            (&Method::GET, ["forewarm", "v1", "pools", scaler]) => self.report(scaler),
            (&Method::GET, ["forewarm", "v1", "events"]) => self.events(),
            _ => error(StatusCode::NOT_FOUND, "invalid_request_error", "not_found", "there is nothing here"),
        }
    }

    fn may(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        shown.and_then(|shown| shown.strip_prefix(b"Bearer ")).is_some_and(|shown| token.matches(shown))
    }

    /// Ready for clients: it knows where to send them, and is not about to leave.
    fn ready(&self) -> Response {
        let why_not = if self.closing.is_cancelled() {
            "the gateway is stopping\n"
        } else if self.handle.is_empty() {
            "no plan yet\n"
        } else {
            return Response::new(StatusCode::OK, answer::full("ok\n"));
        };
        Response::new(StatusCode::SERVICE_UNAVAILABLE, answer::full(why_not))
    }

    async fn apply(&self, scaler: &str, body: Incoming) -> Response {
        let invalid =
            |message: &str| error(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_plan", message);
        let read = Limited::new(body, MAX_PLAN_BYTES).collect();
        let body = match tokio::time::timeout(READ_TIMEOUT, read).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(failed)) => return invalid(&failed.to_string()),
            Err(_) => return invalid(&format!("the plan did not arrive within {READ_TIMEOUT:?}")),
        };
        let plan: PoolPlan = match serde_json::from_slice(&body) {
            Ok(plan) => plan,
            Err(failed) => return invalid(&failed.to_string()),
        };
        if plan.scaler.as_str() != scaler {
            return invalid(&format!("`scaler` is `{}`, and the path says `{scaler}`", plan.scaler));
        }
        if !self.handle.apply(&plan) {
            return invalid("this gateway serves as many scalers as it can");
        }
        let version = self.handle.scaler(&plan.scaler).map_or(u64::MAX, |scaler| scaler.version());
        answer::json(StatusCode::OK, &json!(Applied { version }))
    }

    fn report(&self, scaler: &str) -> Response {
        let Some(found) = self.handle.scaler(&ScalerId::from(scaler)) else {
            return unknown_scaler(scaler);
        };
        match serde_json::to_string(&found.report().0) {
            Ok(report) => Response::of_kind("application/json", answer::full(report)),
            Err(failed) => {
                error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "report", &failed.to_string())
            }
        }
    }

    /// Changes of every scaler, as server-sent events; a comment each second when there is none.
    fn events(&self) -> Response {
        let events = stream::unfold(Changing::of(self.handle.clone()), |mut changing| async move {
            let event = changing.next().await?;
            let frame: Result<_, answer::BodyError> = Ok(Frame::data(event));
            Some((frame, changing))
        });
        Response::of_kind("text/event-stream", BodyExt::boxed_unsync(StreamBody::new(events)))
    }

    fn metrics(&self) -> Response {
        let page = metrics::page(&self.handle, self.keys.as_deref());
        Response::of_kind("text/plain; version=0.0.4; charset=utf-8", answer::full(page))
    }
}

fn unknown_scaler(scaler: &str) -> Response {
    let message = format!("the gateway has no plan for scaler `{scaler}`");
    error(StatusCode::NOT_FOUND, "invalid_request_error", "unknown_scaler", &message)
}

/// The scalers of the gateway as one observer follows them.
struct Changing {
    handle: GatewayHandle,
    /// How many there are.
    planned: watch::Receiver<usize>,
    /// Those that are waited for.
    known: BTreeSet<ScalerId>,
    waits: FuturesUnordered<BoxFuture<'static, (ScalerId, Arc<Scaler>)>>,
    has_begun: bool,
}

impl Changing {
    fn of(handle: GatewayHandle) -> Self {
        let planned = handle.planned_count();
        let waits = FuturesUnordered::new();
        Self { handle, planned, known: BTreeSet::new(), waits, has_begun: false }
    }

    /// The next event as it is sent; `None` when the gateway is gone.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.add_new();
            return line(&Event::Scalers(self.known.clone()));
        }
        let mut heartbeat = std::pin::pin!(tokio::time::sleep(HEARTBEAT));
        loop {
            tokio::select! {
                Some((id, scaler)) = self.waits.next(), if !self.waits.is_empty() => {
                    let (report, version) = scaler.report();
                    self.wait(id.clone(), scaler, Some(version));
                    return line(&Event::Report { scaler: id, version, report: Box::new(report) });
                }
                changed = self.planned.changed() => {
                    changed.ok()?;
                    self.add_new();
                }
                () = &mut heartbeat => return Some(Bytes::from_static(b": nothing changed\n\n")),
            }
        }
    }

    fn add_new(&mut self) {
        for id in self.handle.ids() {
            if !self.known.contains(&id)
                && let Some(scaler) = self.handle.scaler(&id)
            {
                self.known.insert(id.clone());
                self.wait(id, scaler, None);
            }
        }
    }

    /// Waits until a scaler is another than it was shown last.
    fn wait(&mut self, id: ScalerId, scaler: Arc<Scaler>, shown: Option<u64>) {
        self.waits.push(Box::pin(async move {
            if shown.is_some() {
                tokio::time::sleep(MIN_GAP).await;
                scaler.changed(shown).await;
            }
            (id, scaler)
        }));
    }
}

fn line(event: &Event) -> Option<Bytes> {
    Some(Bytes::from(format!("data: {}\n\n", serde_json::to_string(event).ok()?)))
}
