//! What is done with a request: who asks, for which model, and in which words it goes on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use forewarm_core::pool::Affinity;
use http::{Method, StatusCode};
use serde_json::json;

use crate::{
    alias,
    answer::{self, Response, error, refusal},
    ask::Ask,
    asked::Asked,
    connection::Client,
    demand::Demand,
    forward::Forward,
    forwarded,
    keys::Pass,
    message::RequestHead,
    outgoing::{Outgoing, Provenance, Withheld},
    pool::Prefers,
    receive::{self, Source, Unread},
    registry::GatewayHandle,
    scaler::Scaler,
    server::Front,
};

impl Front {
    /// Answers a request whose future is dropped when its client leaves. Whoever has to watch the client, which the body comes from as
    /// well, takes the three steps itself.
    pub(crate) async fn answer(&self, head: RequestHead, mut body: impl Source, client: Client) -> Response {
        let pass = match self.greet(&head) {
            Ok(pass) => pass,
            Err(response) => return *response,
        };
        let body = self.receive(&mut body).await;
        match self.forward(head, body, client, pass) {
            Ok(under_way) => under_way.answer().await,
            Err(response) => *response,
        }
    }

    /// Lets a request in by its head, or answers it.
    pub(crate) fn greet(&self, head: &RequestHead) -> Result<Option<Pass>, Box<Response>> {
        match (&head.method, head.target.route()) {
            (&Method::GET, "/health" | "/healthz" | "/ping") => {
                return Err(Box::new(Response::new(StatusCode::OK, answer::full(Bytes::new()))));
            }
            (_, path) if !path.starts_with("/v1/") => {
                let message = format!("there is no {path} here; the OpenAI API is under /v1/");
                let (status, kind) = (StatusCode::NOT_FOUND, "invalid_request_error");
                return Err(Box::new(error(status, kind, "not_found", &message)));
            }
            _ => {}
        }
        let member = self.keys.as_ref().map(|keys| keys.authenticate(&head.headers)).transpose()?;
        match (&head.method, head.target.route()) {
            (&Method::GET, "/v1/models") => return Err(Box::new(models(&self.handle))),
            (&Method::GET, path) if let Some(model) = path.strip_prefix("/v1/models/") => {
                return Err(Box::new(one_model(&self.handle, model)));
            }
            _ => {}
        }
        member.map(|member| member.begin()).transpose()
    }

    /// Takes the body of a request in, or says why not.
    pub(crate) async fn receive(&self, body: &mut impl Source) -> Result<Bytes, Box<Response>> {
        let Front { config, receiving, .. } = self;
        let invalid = |status, code, message: String| error(status, "invalid_request_error", code, &message);
        let unread = receiving.read(body, config.max_body_bytes, config.read_timeout).await;
        unread.map_err(|unread| {
            Box::new(match unread {
                Unread::TooLong => {
                    let message =
                        format!("the body is longer than the {} bytes allowed", config.max_body_bytes);
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
                Unread::Broken(failed) => {
                    invalid(StatusCode::BAD_REQUEST, "body_unreadable", failed.to_string())
                }
                Unread::NoRoom => {
                    let message = "too many request bodies are on their way to the gateway";
                    let retry_after = Duration::from_secs(1);
                    refusal(StatusCode::SERVICE_UNAVAILABLE, "gateway_busy", message, retry_after)
                }
            })
        })
    }

    /// Sends a request on its way that was let in, if its body could be taken in, or answers it.
    pub(crate) fn forward(
        &self,
        head: RequestHead,
        body: Result<Bytes, Box<Response>>,
        client: Client,
        mut pass: Option<Pass>,
    ) -> Result<UnderWay, Box<Response>> {
        match body.and_then(|body| self.prepare(head, body, client, pass.as_mut())) {
            Ok((scaler, forward)) => Ok(UnderWay { scaler, forward, pass }),
            Err(response) => Err(Box::new(followed(pass, *response))),
        }
    }

    fn prepare(
        &self,
        head: RequestHead,
        body: Bytes,
        client: Client,
        mut pass: Option<&mut Pass>,
    ) -> Result<(Arc<Scaler>, Box<Forward>), Box<Response>> {
        if let Some(pass) = &mut pass {
            pass.take_prompt(body.len())?;
        }
        let ask = Ask::of(&body);
        let Some(scaler) = self.handle.by_model(ask.model.as_deref()) else {
            return Err(Box::new(unknown_model(&self.handle, ask.model.as_deref())));
        };
        let wants_stream = ask.stream;
        let terms = scaler.terms(ask.model.as_deref());
        let asked = Asked::of(&head.headers).map_err(|bad| {
            error(StatusCode::BAD_REQUEST, "invalid_request_error", bad.code(), &bad.to_string())
        })?;
        let tenant = pass.as_ref().map(|pass| pass.tenant());
        let mut demand = Demand::of(&ask, asked.priority, &head, body.len(), tenant, &terms.tenants);
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
        let request = Outgoing::new(head, body, withheld, Some(from), key);
        let forward = Forward::new(&scaler, terms, request, demand, asked, wants_stream, client.pace);
        Ok((scaler, forward))
    }
}

/// A request that is to be answered by a replica.
pub(crate) struct UnderWay {
    scaler: Arc<Scaler>,
    forward: Box<Forward>,
    pass: Option<Pass>,
}

impl UnderWay {
    /// Waits for its answer.
    pub(crate) async fn answer(self) -> Response {
        let Self { scaler, forward, pass } = self;
        followed(pass, forward.run(&scaler).await)
    }
}

/// Charges an answer to whoever had the request let in.
fn followed(pass: Option<Pass>, response: Response) -> Response {
    match pass {
        Some(pass) => pass.follow(response),
        None => response,
    }
}

fn model_object(model: &str) -> serde_json::Value {
    json!({"id": model, "object": "model", "created": 0, "owned_by": "forewarm"})
}

/// From the plans: a model is there to be asked for even while no replica is.
fn models(handle: &GatewayHandle) -> Response {
    let data: Vec<_> = handle.models().iter().map(|model| model_object(model)).collect();
    answer::json(StatusCode::OK, &json!({"object": "list", "data": data}))
}

fn one_model(handle: &GatewayHandle, model: &str) -> Response {
    match handle.models().iter().any(|known| known == model) {
        true => answer::json(StatusCode::OK, &model_object(model)),
        false => unknown_model(handle, Some(model)),
    }
}

fn unknown_model(handle: &GatewayHandle, model: Option<&str>) -> Response {
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
