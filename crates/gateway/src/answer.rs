//! The gateway's own answers, in OpenAI's error shape.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::json;

use crate::{account::Cause, decimal::Decimal, message::ResponseHead};

/// What the gateway sends.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;
/// Why a body could not be sent to its end; breaks the connection, so that the client knows.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Tells a load tool that the request had been given a place before it failed.
pub(crate) const ACCEPTED: &str = "x-forewarm-accepted";

/// What a client is answered.
pub(crate) struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
}

impl Response {
    pub(crate) fn new(status: StatusCode, body: Body) -> Self {
        Self { head: ResponseHead::new(status), body }
    }

    /// A body of this type.
    pub(crate) fn of_kind(kind: &'static str, body: Body) -> Self {
        let mut response = Self::new(StatusCode::OK, body);
        response.head.headers.push("content-type", kind.as_bytes());
        response
    }
}

impl From<Response> for http::Response<Body> {
    fn from(response: Response) -> Self {
        let mut same = http::Response::new(response.body);
        *same.status_mut() = response.head.status;
        *same.headers_mut() = (&response.head.headers).into();
        same
    }
}

/// A body that is all there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    let mut response = Response::of_kind("application/json", full(value.to_string()));
    response.head.status = status;
    response
}

/// An error in OpenAI's shape.
pub(crate) fn error(status: StatusCode, kind: &str, code: &str, message: &str) -> Response {
    json(status, &json!({"error": {"message": message, "type": kind, "param": null, "code": code}}))
}

/// An honest refusal: the request was not given a place, and may come again after `retry_after`.
pub(crate) fn refusal(status: StatusCode, code: &str, message: &str, retry_after: Duration) -> Response {
    let kind =
        if status == StatusCode::TOO_MANY_REQUESTS { "rate_limit_error" } else { "service_unavailable" };
    let mut response = error(status, kind, code, message);
    set_retry_after(&mut response, retry_after);
    response
}

/// Whole seconds, rounded up: who comes earlier comes in vain.
pub(crate) fn set_retry_after(response: &mut Response, retry_after: Duration) {
    let seconds = retry_after.as_secs_f64().ceil().max(1.0) as u64;
    response.head.headers.push("retry-after", Decimal::whole(seconds).as_bytes());
}

/// An honest failure of a request that had been given a place.
pub(crate) fn failure(cause: Cause, message: &str) -> Response {
    let status = match cause {
        Cause::Deadline => StatusCode::GATEWAY_TIMEOUT,
        Cause::GatewayStopping | Cause::Shed => StatusCode::SERVICE_UNAVAILABLE,
        Cause::ReplicaDiedMidStream | Cause::UpstreamError | Cause::ClientLeft | Cause::ClientTooSlow => {
            StatusCode::BAD_GATEWAY
        }
    };
    let mut response = error(status, "upstream_error", cause.code(), message);
    response.head.headers.push(ACCEPTED, b"true");
    response
}

/// The event that ends a stream which could not be finished; `between_events` says that the one before was
/// complete, or else it is ended first.
pub(crate) fn error_event(cause: Cause, between_events: bool) -> Bytes {
    let message = match cause {
        Cause::GatewayStopping => "the gateway stops; what came before this event is incomplete",
        Cause::ReplicaDiedMidStream
        | Cause::Deadline
        | Cause::Shed
        | Cause::UpstreamError
        | Cause::ClientLeft
        | Cause::ClientTooSlow => {
            "the replica that worked on this request died; what came before this event is incomplete"
        }
    };
    let error = json!({"message": message, "type": "upstream_error", "param": null, "code": cause.code()});
    let end = if between_events { "" } else { "\n\n" };
    Bytes::from(format!("{end}data: {}\n\n", json!({"error": error})))
}
