//! The words of [`forewarm_core::pool`] over HTTP, for a controller in another process. Not for clients.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use forewarm_core::{ScalerId, pool::PoolPlan};
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{self, Body, error},
    registry::GatewayHandle,
};

/// A plan is some hundred bytes a replica.
const MAX_PLAN_BYTES: usize = 4 << 20;
/// Longest time for a controller to send its headers.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest time between two reports of a stream.
const MIN_GAP: Duration = Duration::from_millis(5);
/// Longest time between two reports: so that a controller sees that the gateway lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

pub(crate) async fn serve(listener: TcpListener, handle: GatewayHandle, shutdown: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a controller's connection");
                    tokio::time::sleep(MIN_GAP).await;
                    continue;
                }
            },
        };
        let handle = handle.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let handle = handle.clone();
                async move { Ok::<_, Infallible>(answer_to(&handle, request).await) }
            });
            let mut builder = http1::Builder::new();
            let connection = builder
                .timer(TokioTimer::new())
                .header_read_timeout(READ_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a controller's connection ended");
            }
        });
    }
}

async fn answer_to(handle: &GatewayHandle, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    match (&parts.method, path.as_slice()) {
        (&Method::GET, ["healthz" | "readyz"]) => Response::new(answer::full("ok\n")),
        (&Method::GET, ["metrics"]) => metrics(handle),
        (&Method::PUT, ["forewarm", "v1", "pools", scaler]) => apply(handle, scaler, body).await,
        (&Method::GET, ["forewarm", "v1", "pools", scaler]) => report(handle, scaler),
        (&Method::GET, ["forewarm", "v1", "pools", scaler, "events"]) => events(handle, scaler),
        _ => error(StatusCode::NOT_FOUND, "invalid_request_error", "not_found", "there is nothing here"),
    }
}

async fn apply(handle: &GatewayHandle, scaler: &str, body: Incoming) -> Response<Body> {
    let invalid =
        |message: &str| error(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_plan", message);
    let body = match Limited::new(body, MAX_PLAN_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(failed) => return invalid(&failed.to_string()),
    };
    let plan: PoolPlan = match serde_json::from_slice(&body) {
        Ok(plan) => plan,
        Err(failed) => return invalid(&failed.to_string()),
    };
    if plan.scaler.as_str() != scaler {
        return invalid(&format!("`scaler` is `{}`, and the path says `{scaler}`", plan.scaler));
    }
    if !handle.apply(&plan) {
        return invalid("this gateway serves as many scalers as it can");
    }
    answer::json(StatusCode::OK, &json!({"applied": true}))
}

fn report(handle: &GatewayHandle, scaler: &str) -> Response<Body> {
    match handle.report(&ScalerId::from(scaler)) {
        Ok(report) => match serde_json::to_value(&report) {
            Ok(value) => answer::json(StatusCode::OK, &value),
            Err(failed) => {
                error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "report", &failed.to_string())
            }
        },
        Err(unknown) => {
            error(StatusCode::NOT_FOUND, "invalid_request_error", "unknown_scaler", &unknown.to_string())
        }
    }
}

/// Reports as they change, as server-sent events; one a second when nothing does.
fn events(handle: &GatewayHandle, scaler: &str) -> Response<Body> {
    let id = ScalerId::from(scaler);
    if handle.scaler(&id).is_none() {
        let message = format!("the gateway has no plan for scaler `{scaler}`");
        return error(StatusCode::NOT_FOUND, "invalid_request_error", "unknown_scaler", &message);
    }
    let reports = stream::unfold((handle.clone(), id, true), |(handle, id, first)| async move {
        if !first {
            tokio::time::sleep(MIN_GAP).await;
            // A change or the heartbeat, whichever comes first.
            drop(tokio::time::timeout(HEARTBEAT, handle.changed(&id)).await);
        }
        let report = serde_json::to_string(&handle.report(&id).ok()?).ok()?;
        let frame: Result<_, answer::BodyError> = Ok(Frame::data(Bytes::from(format!("data: {report}\n\n"))));
        Some((frame, (handle, id, false)))
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(reports)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn metrics(handle: &GatewayHandle) -> Response<Body> {
    let mut text = String::new();
    let reports: Vec<_> =
        handle.all().into_iter().map(|scaler| (scaler.id.clone(), scaler.report())).collect();
    let gauge = |text: &mut String, name: &str, help: &str, kind: &str| {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    };
    gauge(&mut text, "forewarm_gateway_queue_depth", "Requests that wait for a slot.", "gauge");
    for (id, report) in &reports {
        text.push_str(&format!("forewarm_gateway_queue_depth{{scaler=\"{id}\"}} {}\n", report.queued));
    }
    gauge(&mut text, "forewarm_gateway_in_flight_requests", "Requests at replicas.", "gauge");
    for (id, report) in &reports {
        for (replica, count) in &report.in_flight {
            text.push_str(&format!(
                "forewarm_gateway_in_flight_requests{{scaler=\"{id}\",replica=\"{replica}\"}} {count}\n"
            ));
        }
    }
    gauge(&mut text, "forewarm_gateway_requests_total", "Requests by what became of them.", "counter");
    for (id, report) in &reports {
        let failed = report.failed_total.iter().map(|(cause, count)| (cause.as_str(), *count));
        let outcomes = [("succeeded", report.succeeded_total), ("refused", report.refused_total)];
        for (outcome, count) in outcomes.into_iter().chain(failed) {
            text.push_str(&format!(
                "forewarm_gateway_requests_total{{scaler=\"{id}\",outcome=\"{outcome}\"}} {count}\n"
            ));
        }
    }
    let mut response = Response::new(answer::full(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
