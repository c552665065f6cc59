//! Errors in OpenAI's form, with vLLM's words where those were observed.

use http::StatusCode;
use serde_json::json;

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<&'static str>,
}

impl ApiError {
    /// The request makes no sense; `param` is the field to blame.
    pub(crate) fn bad_request(param: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "BadRequestError", message: message.into(), param }
    }

    pub(crate) fn unknown_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist.");
        Self { status: StatusCode::NOT_FOUND, kind: "NotFoundError", message, param: Some("model") }
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        let message = format!("The request body is larger than {limit} bytes.");
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, kind: "BadRequestError", message, param: None }
    }

    pub(crate) fn busy() -> Self {
        let message = "The engine is currently busy and cannot accept new requests. Please try again later or on a \
                       different instance.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { status, kind: "ServiceUnavailableError", message: message.into(), param: None }
    }

    pub(crate) fn draining() -> Self {
        Self::internal("cannot schedule new futures after shutdown")
    }

    pub(crate) fn dead() -> Self {
        Self::internal("EngineCore encountered an issue. See stack trace (above) for the root cause.")
    }

    fn internal(message: &str) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self { status, kind: "InternalServerError", message: message.into(), param: None }
    }

    /// Returns the JSON body.
    pub(crate) fn body(&self) -> String {
        let code = self.status.as_u16();
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": code}})
            .to_string()
    }
}
