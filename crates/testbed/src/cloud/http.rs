//! Requests in, requests to moto, answers back.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
};
use reqwest::Url;

use super::{
    CloudError, Shared,
    cbor::{self, CBOR},
};

/// What is refused above this: no call of a test has so much.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// An answer, or an error that is one.
pub(super) type Answer = Response<Body>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(serve).with_state(shared)
}

/// A call of the API.
pub(super) struct Call {
    /// By which IAM names the action: `autoscaling`, `ec2`, `sqs`…
    pub(super) service: String,
    /// Such as `SetDesiredCapacity`.
    pub(super) action: String,
    /// Parameters of the query protocol.
    pub(super) parameters: Vec<(String, String)>,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    async fn read(request: Request) -> Option<Self> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, MAX_BODY_BYTES).await.ok()?;
        let parameters = pairs(&body);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let text = |name: &str| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
        let named = parameters.iter().find(|(name, _)| name == "Action").map(|(_, value)| value.clone());
        let by_target = || Some(text("x-amz-target")?.rsplit_once('.')?.1.to_owned());
        let by_path = || Some(path.rsplit_once("/operation/")?.1.to_owned());
        let action = named.or_else(by_target).or_else(by_path)?;
        // `Credential=KEY/DATE/REGION/SERVICE/aws4_request`
        let service = text("authorization")
            .and_then(|authorization| Some(authorization.split('/').nth(3)?.to_owned()))
            .unwrap_or_default();
        let service = match service.as_str() {
            "monitoring" => "cloudwatch".to_owned(),
            _ => service,
        };
        let (method, headers) = (parts.method, parts.headers);
        Some(Self { service, action, parameters, method, path, headers, body })
    }

    /// A parameter of the query protocol.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

fn pairs(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let url = Url::parse("http://query/").map(|mut url| {
        url.set_query(Some(&text));
        url
    });
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Answer {
    let Some(call) = Call::read(request).await else {
        return refused("InvalidAction", "no action of the API that is known here");
    };
    let (faults, throttled) = {
        let mut book = shared.book();
        *book.calls.entry(format!("{}:{}", call.service, call.action)).or_default() += 1;
        let left = book.throttled.get_mut(&call.action).filter(|left| **left > 0);
        let throttled = left.map(|left| *left -= 1).is_some();
        (book.faults.clone(), throttled)
    };
    tokio::time::sleep(faults.delay).await;
    if faults.down {
        return answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "down");
    }
    if faults.denied {
        return denied(&call);
    }
    if throttled {
        return match call.service.as_str() {
            "ec2" => ec2_error("RequestLimitExceeded", "Request limit exceeded."),
            _ => refused("Throttling", "Rate exceeded"),
        };
    }
    shared.serve(call).await
}

impl Shared {
    /// Passes a call on, and the answer back.
    pub(super) async fn pass(&self, call: Call) -> Answer {
        match self.forward(call).await {
            Ok(answer) => answer,
            Err(error) => answer(StatusCode::BAD_GATEWAY, "text/plain", error.0),
        }
    }

    async fn forward(&self, call: Call) -> Result<Answer, CloudError> {
        let Some(in_json) = call.as_json() else {
            let (status, kind, text) = self.send(call).await?;
            return Ok(answer(status, &kind, text));
        };
        let (status, _, text) = self.send(in_json).await?;
        let mut answer = answer(status, CBOR, cbor::from_json(&text));
        answer.headers_mut().insert("smithy-protocol", HeaderValue::from_static("rpc-v2-cbor"));
        Ok(answer)
    }

    /// The status, the type and the text of moto's answer.
    pub(super) async fn send(&self, call: Call) -> Result<(StatusCode, String, Bytes), CloudError> {
        let mut request = self.client.request(call.method, format!("{}{}", self.moto, call.path));
        for (name, value) in &call.headers {
            if name != header::HOST && name != header::CONTENT_LENGTH {
                request = request.header(name, value);
            }
        }
        let failed = |error: reqwest::Error| CloudError(format!("moto does not answer: {error}"));
        let answer = request.body(call.body).send().await.map_err(failed)?;
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or("text/xml").to_owned();
        Ok((answer.status(), kind, answer.bytes().await.map_err(failed)?))
    }

    /// Calls moto with the query protocol.
    pub(super) async fn ask(
        &self,
        service: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<String, CloudError> {
        let version = if service == "ec2" { "2016-11-15" } else { "2011-01-01" };
        let mut url = Url::parse("http://query/").map_err(|error| CloudError(error.to_string()))?;
        url.query_pairs_mut()
            .append_pair("Action", action)
            .append_pair("Version", version)
            .extend_pairs(parameters);
        // moto does not check signatures; it reads service and region from them.
        let signature = format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let request = self.client.post(&self.moto).header(header::AUTHORIZATION, signature);
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let failed = |error: reqwest::Error| CloudError(format!("moto does not answer: {error}"));
        let answer = request.body(url.query().unwrap_or_default().to_owned()).send().await.map_err(failed)?;
        let (status, text) = (answer.status(), answer.text().await.map_err(failed)?);
        if status.is_success() { Ok(text) } else { Err(CloudError(format!("{action}: {status}: {text}"))) }
    }
}

pub(super) fn answer(status: StatusCode, kind: &str, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    if let Ok(kind) = kind.parse() {
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    answer
}

/// A successful answer of the query protocol.
pub(super) fn done(action: &str, result: &str) -> Answer {
    let text = format!(
        "<{action}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><{action}Result>{result}\
         </{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    );
    answer(StatusCode::OK, "text/xml", text)
}

/// An error of the query protocol; what JSON protocols read has the same code in it.
pub(super) fn refused(code: &str, message: &str) -> Answer {
    let text = format!(
        "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    );
    answer(StatusCode::BAD_REQUEST, "text/xml", text)
}

/// What a caller without the permission is told, in the protocol that it speaks.
fn denied(call: &Call) -> Answer {
    let code = "AccessDenied";
    let message = format!("User: nobody is not authorized to perform: {}:{}", call.service, call.action);
    let body = serde_json::json!({"__type": code, "message": message}).to_string();
    let kind = call.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind {
        CBOR => {
            let mut answer = answer(StatusCode::FORBIDDEN, CBOR, cbor::from_json(body.as_bytes()));
            answer.headers_mut().insert("smithy-protocol", HeaderValue::from_static("rpc-v2-cbor"));
            answer
        }
        json if json.contains("json") => answer(StatusCode::FORBIDDEN, json, body),
        _ => refused(code, &message),
    }
}

fn ec2_error(code: &str, message: &str) -> Answer {
    let text = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>r</RequestID></Response>"
    );
    answer(StatusCode::SERVICE_UNAVAILABLE, "text/xml", text)
}
