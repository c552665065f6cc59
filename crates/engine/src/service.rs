//! Routes and answers one HTTP request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::api::{Answer, ApiError, CompletionRequest, Kind, model_list};
use crate::body::{EngineBody, TokenStream};
use crate::config::EngineConfig;
use crate::core::{EngineCore, Refusal};
use crate::metrics;
use crate::scheduler::NewRequest;

/// Largest request body in bytes: a prompt of a million tokens at 4 bytes each, escaped at the worst twofold.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Header that gives a prompt's exact length in tokens, so that traces need not carry text.
const INPUT_TOKENS_HEADER: &str = "x-forewarm-input-tokens";

/// The version that `/version` claims: that of the vLLM whose behaviour is imitated.
const IMITATED_VERSION: &str = r#"{"version":"0.32.0"}"#;

const LOADING: &str = r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;

/// What is needed to answer requests.
pub(crate) struct Service {
    core: Arc<EngineCore>,
    model: String,
    max_model_len: u32,
    max_request_tokens: u32,
    created: u64,
    /// Upper half of answer ids: differs between engines.
    id_space: u64,
    answers: AtomicU64,
}

impl Service {
    pub(crate) fn new(core: Arc<EngineCore>, config: &EngineConfig) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Truncated on purpose: only the fast-changing bits tell engines apart.
        let id_space = since_epoch.as_nanos() as u64 ^ (u64::from(std::process::id()) << 40);
        Self {
            core,
            model: config.model.clone(),
            max_model_len: config.profile.max_model_len,
            max_request_tokens: config.profile.max_request_tokens(),
            created: since_epoch.as_secs(),
            id_space,
            answers: AtomicU64::new(0),
        }
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<EngineBody> {
        let get = request.method() == Method::GET || request.method() == Method::HEAD;
        let post = request.method() == Method::POST;
        match request.uri().path() {
            "/v1/chat/completions" if post => {
                self.complete(Kind::Chat, "/v1/chat/completions", request).await
            }
            "/v1/completions" if post => self.complete(Kind::Text, "/v1/completions", request).await,
            "/v1/models" if get => {
                let list = model_list(&self.model, self.max_model_len, self.created);
                self.core.record_http("/v1/models", "GET", 200, 0.0);
                respond(StatusCode::OK, "application/json", list)
            }
            "/health" if get => empty(StatusCode::OK),
            "/ping" if get || post => empty(StatusCode::OK),
            "/version" if get => respond(StatusCode::OK, "application/json", IMITATED_VERSION),
            "/metrics" if get => respond(StatusCode::OK, metrics::CONTENT_TYPE, self.core.metrics_page()),
            "/v1/chat/completions" | "/v1/completions" => not_allowed("POST"),
            "/v1/models" | "/health" | "/ping" | "/version" | "/metrics" => not_allowed("GET"),
            _ => respond(StatusCode::NOT_FOUND, "application/json", r#"{"detail":"Not Found"}"#),
        }
    }

    async fn complete(
        &self,
        kind: Kind,
        handler: &'static str,
        request: Request<Incoming>,
    ) -> Response<EngineBody> {
        let since = Instant::now();
        match self.try_complete(kind, handler, since, request).await {
            Ok(response) => response,
            Err(error) => {
                self.core.record_http(handler, "POST", error.status.as_u16(), since.elapsed().as_secs_f64());
                respond(error.status, "application/json", error.body())
            }
        }
    }

    async fn try_complete(
        &self,
        kind: Kind,
        handler: &'static str,
        since: Instant,
        request: Request<Incoming>,
    ) -> Result<Response<EngineBody>, ApiError> {
        let input_tokens = input_tokens(request.headers())?;
        let body = read_body(request.into_body()).await?;
        let request =
            CompletionRequest::parse(kind, &body, input_tokens, &self.model, self.max_request_tokens)?;
        drop(body);
        let count = self.answers.fetch_add(1, Ordering::Relaxed);
        let number = u128::from(self.id_space) << 64 | u128::from(count);
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let answer = Answer::new(request, &self.model, number, created);
        let size = NewRequest { prompt_tokens: request.prompt_tokens, output_tokens: request.output_tokens };
        let ticket =
            self.core.submit(size, answer.finish_reason(), request.stream).map_err(
                |refusal| match refusal {
                    Refusal::Busy => ApiError::busy(),
                    Refusal::Draining => ApiError::draining(),
                    Refusal::Dead => ApiError::dead(),
                },
            )?;
        if request.stream {
            let stream = TokenStream::new(ticket, answer.stream_pieces(), handler, since);
            return Ok(with_type("text/event-stream; charset=utf-8", EngineBody::Stream(Box::new(stream))));
        }
        ticket.finished().await;
        self.core.record_http(handler, "POST", 200, since.elapsed().as_secs_f64());
        Ok(respond(StatusCode::OK, "application/json", answer.document()))
    }
}

/// Answers any request while the model is loading, as llama.cpp's server does.
pub(crate) fn answer_loading() -> Response<EngineBody> {
    respond(StatusCode::SERVICE_UNAVAILABLE, "application/json; charset=utf-8", LOADING)
}

fn input_tokens(headers: &HeaderMap) -> Result<Option<u32>, ApiError> {
    let Some(value) = headers.get(INPUT_TOKENS_HEADER) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.parse::<u32>().ok()).filter(|tokens| *tokens > 0);
    parsed.map(Some).ok_or_else(|| {
        let message = format!("{INPUT_TOKENS_HEADER}: must be an integer of at least 1, got {value:?}.");
        ApiError::bad_request(Some(INPUT_TOKENS_HEADER), message)
    })
}

async fn read_body(body: Incoming) -> Result<Bytes, ApiError> {
    // An announced length is refused before the client has sent it all.
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(ApiError::body_too_large(MAX_BODY_BYTES));
    }
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::body_too_large(MAX_BODY_BYTES)),
        Err(error) => Err(ApiError::bad_request(None, format!("The body could not be read: {error}."))),
    }
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    content: impl Into<Bytes>,
) -> Response<EngineBody> {
    let mut response = with_type(content_type, EngineBody::full(content));
    *response.status_mut() = status;
    response
}

fn with_type(content_type: &'static str, body: EngineBody) -> Response<EngineBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn empty(status: StatusCode) -> Response<EngineBody> {
    let mut response = Response::new(EngineBody::full(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn not_allowed(allow: &'static str) -> Response<EngineBody> {
    let detail = r#"{"detail":"Method Not Allowed"}"#;
    let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, "application/json", detail);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}
