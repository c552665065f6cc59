//! The routes and what they answer.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response, Sse},
    routing::{get, put},
};
use forewarm_core::ScalerId;
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    Action, Command, CommandError, Dashboard, Metrics, Readiness, assets, command, events, guard::Guard,
};

/// Live streams at a time: many open tabs; each costs a connection and a copy of the views now and then.
pub(crate) const MAX_EVENT_STREAMS: usize = 64;
/// Bytes of a body: a pause has fewer than a hundred.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// Longest time a call may take until its answer begins, its body included.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time the controller may take to obey; shorter than the call's, so that the answer says why.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// Scripts and styles are files of this page; nothing else is loaded, embedded or sent anywhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const OPEN_METRICS: &str = "application/openmetrics-text";

/// What the handlers share.
pub(crate) struct Shared {
    pub(crate) dashboard: Dashboard,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) commands: Option<mpsc::Sender<Command>>,
    pub(crate) guard: Guard,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/events", get(live))
        .route("/api/v1/scalers", get(scalers))
        .route("/api/v1/scalers/{name}", get(scaler))
        .route("/api/v1/scalers/{name}/decisions", get(decisions))
        .route("/api/v1/scalers/{name}/pause", put(pause).delete(resume))
        .fallback(assets::asset)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), protect))
        .with_state(shared)
}

/// Around every call: who may change something, how long it may take, and the page's security headers.
async fn protect(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let allowed = if changes { shared.guard.check(request.headers()) } else { Ok(()) };
    let mut response = match allowed {
        Err((status, why)) => refusal(status, why),
        Ok(()) => match tokio::time::timeout(CALL_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => refusal(StatusCode::REQUEST_TIMEOUT, "the request was not complete in time"),
        },
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(json!({ "error": { "message": why.into() } }))).into_response()
}

fn unknown_scaler(dashboard: &Dashboard, name: &str) -> Response {
    let known: Vec<String> = dashboard.views().iter().map(|view| format!("`{}`", view.scaler)).collect();
    let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
    refusal(StatusCode::NOT_FOUND, format!("no scaler is called `{name}`; there are: {known}"))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let view = shared.readiness.view();
    let status = if view.status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(view)).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let open = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(wants_open_metrics);
    let (page, content_type) = if open {
        (shared.metrics.open_metrics(), "application/openmetrics-text; version=1.0.0; charset=utf-8")
    } else {
        (shared.metrics.prometheus_text(), "text/plain; version=0.0.4; charset=utf-8")
    };
    match page {
        Ok(page) => ([(header::CONTENT_TYPE, content_type)], page).into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Whether one item of an `Accept` header names OpenMetrics, and not with `q=0`.
fn wants_open_metrics(item: &str) -> bool {
    let mut parts = item.split(';').map(str::trim);
    let named = parts.next().is_some_and(|media| media.eq_ignore_ascii_case(OPEN_METRICS));
    named && parts.filter_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok()).all(|weight| weight > 0.0)
}

async fn live(State(shared): State<Arc<Shared>>) -> Response {
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        let why = format!("{MAX_EVENT_STREAMS} live streams are open: close one");
        return refusal(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let events = events::events(shared.dashboard.clone(), permit);
    Sse::new(events.take_until(shared.shutdown.clone().cancelled_owned())).into_response()
}

async fn scalers(State(shared): State<Arc<Shared>>) -> Response {
    Json(json!({ "scalers": shared.dashboard.views() })).into_response()
}

async fn scaler(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    match shared.dashboard.view(&name) {
        Some(view) => Json(view).into_response(),
        None => unknown_scaler(&shared.dashboard, &name),
    }
}

async fn decisions(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    match shared.dashboard.view(&name) {
        Some(view) => Json(json!({ "decisions": view.last_decisions })).into_response(),
        None => unknown_scaler(&shared.dashboard, &name),
    }
}

async fn pause(State(shared): State<Arc<Shared>>, Path(name): Path<String>, body: Bytes) -> Response {
    match command::pause(&body) {
        Ok(action) => obey(&shared, &name, action).await,
        Err(error) => {
            let body = json!({ "error": {
                "field": error.field, "value": error.value, "message": error.to_string(),
            } });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
    }
}

async fn resume(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    obey(&shared, &name, Action::Resume).await
}

async fn obey(shared: &Shared, name: &str, action: Action) -> Response {
    if shared.dashboard.view(name).is_none() {
        return unknown_scaler(&shared.dashboard, name);
    }
    let Some(commands) = &shared.commands else {
        return refusal(StatusCode::NOT_IMPLEMENTED, "nothing here takes commands");
    };
    let (reply, answer) = oneshot::channel();
    if commands.try_send(Command { scaler: ScalerId::from(name), action, reply }).is_err() {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "the controller takes no commands now: try again");
    }
    match tokio::time::timeout(COMMAND_TIMEOUT, answer).await {
        Ok(Ok(Ok(()))) => StatusCode::NO_CONTENT.into_response(),
        Ok(Ok(Err(CommandError::Refused(why)))) => refusal(StatusCode::UNPROCESSABLE_ENTITY, why),
        Ok(Ok(Err(CommandError::Failed(why)))) => refusal(StatusCode::INTERNAL_SERVER_ERROR, why),
        Ok(Err(_)) => refusal(StatusCode::SERVICE_UNAVAILABLE, "the controller has stopped"),
        Err(_) => refusal(
            StatusCode::GATEWAY_TIMEOUT,
            "the controller has not answered in time: look whether it was done before trying again",
        ),
    }
}
