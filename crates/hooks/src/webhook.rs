//! An endpoint over HTTPS.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, SystemTime},
};

use forewarm_manifest::{SecretRef, WebhookTarget};
use reqwest::{
    Certificate, Client, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER},
    redirect::Policy,
};

use crate::{
    endpoint::{Attempt, MAX_ANSWER},
    secret, signature,
};

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Letters of an answer that an error shows.
const SHOWN: usize = 200;
/// Longest pause that an endpoint can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A webhook that cannot be called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// Not an address that may be called.
    #[error("`url` is `{0}`: wanted https://…, or http:// to this machine (or with `allowInsecure: true`)")]
    Url(String),
    /// The CA's certificates cannot be used.
    #[error("`caFile` {path}: {reason}")]
    CaFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The secret cannot be read.
    #[error("{0}")]
    Secret(String),
    /// TLS cannot be set up.
    #[error("cannot set up a client: {0}")]
    Client(String),
}

/// The endpoint and how it is called.
#[derive(Debug)]
pub(crate) struct Webhook {
    client: Client,
    url: Url,
    secret: SecretRef,
    timeout: Duration,
}

impl Webhook {
    pub(crate) fn new(target: &WebhookTarget) -> Result<Self, WebhookError> {
        let url = allowed(target)?;
        secret::read(&target.secret).map_err(WebhookError::Secret)?;
        let mut builder = Client::builder()
            // Where a request goes is for the manifest alone: not for a redirect, nor for the environment.
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("forewarm/", env!("CARGO_PKG_VERSION")));
        if url.host_str() == Some("localhost") {
            // Whatever a resolver says, that is this machine.
            builder = builder.resolve("localhost", (IpAddr::V4(Ipv4Addr::LOCALHOST), 0).into());
        }
        if let Some(path) = &target.ca_file {
            let wrong = |reason: String| WebhookError::CaFile { path: path.display().to_string(), reason };
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(cause(error)))?;
            if certificates.is_empty() {
                return Err(wrong("there is no certificate in it".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        } else if url.scheme() == "http" {
            builder = builder.tls_certs_only(std::iter::empty::<Certificate>());
        }
        let client = builder.build().map_err(|error| WebhookError::Client(cause(error)))?;
        Ok(Self { client, url, secret: target.secret.clone(), timeout: target.timeout })
    }

    /// Posts a body once.
    pub(crate) async fn post(&self, body: &[u8], key: Option<&str>) -> Attempt {
        match tokio::time::timeout(self.timeout, self.ask(body, key)).await {
            Ok(attempt) => attempt,
            Err(_) => silence(format!("no answer within {} s", self.timeout.as_secs_f64())),
        }
    }

    async fn ask(&self, body: &[u8], key: Option<&str>) -> Attempt {
        let secret = match secret::read(&self.secret) {
            Ok(secret) => secret,
            Err(why) => return silence(why),
        };
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(signature::HEADER, signature::header(&secret, since.as_secs(), body));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = match request.body(body.to_owned()).send().await {
            Ok(response) => response,
            Err(error) => return silence(cause(error)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        match read(response).await {
            Ok(answer) => judge(status, &headers, answer, now),
            Err(attempt) => attempt,
        }
    }
}

/// The address, if it may be called.
fn allowed(target: &WebhookTarget) -> Result<Url, WebhookError> {
    let wrong = || WebhookError::Url(target.url.clone());
    let url = Url::parse(&target.url).map_err(|_| wrong())?;
    let host = url.host_str().ok_or_else(wrong)?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_this_machine = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let plain_is_fine = is_this_machine || target.allow_insecure;
    let is_fine = url.scheme() == "https" || (url.scheme() == "http" && plain_is_fine);
    // Credentials in an address end up in logs.
    if !is_fine || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong());
    }
    Ok(url)
}

/// Reads an answer of bounded length.
async fn read(mut response: Response) -> Result<Vec<u8>, Attempt> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| silence(cause(error)))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            let why = format!("the answer is longer than {MAX_ANSWER} bytes");
            return Err(Attempt::Refused { why, body: Vec::new() });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What a status means.
fn judge(status: StatusCode, headers: &HeaderMap, body: Vec<u8>, now: SystemTime) -> Attempt {
    if status.is_success() {
        return Attempt::Answer(body);
    }
    let text = String::from_utf8_lossy(&body);
    let shown: String = text.trim().chars().take(SHOWN).collect();
    let mut why = format!("answered {status}");
    if !shown.is_empty() {
        why = format!("{why}: {shown}");
    }
    if status.is_redirection() {
        let place = headers.get(LOCATION).and_then(|place| place.to_str().ok()).unwrap_or("elsewhere");
        why =
            format!("answered {status} to {place}, and redirects are not followed: write the address itself");
    }
    let again = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if again {
        return Attempt::Silence { why, retry_after: retry_after(headers, now) };
    }
    Attempt::Refused { why, body }
}

/// `Retry-After`, in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?;
            SystemTime::from(date.timestamp()).duration_since(now).unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST_RETRY_AFTER))
}

fn silence(why: String) -> Attempt {
    Attempt::Silence { why, retry_after: None }
}

/// An error of the client on one line, without the URL.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    // Which library noticed is on the way; why is at its end.
    let mut root: &dyn Error = &error;
    while let Some(source) = root.source() {
        root = source;
    }
    if error.is_connect() {
        format!("no connection: {root}")
    } else if error.is_request() {
        format!("no answer: {root}")
    } else {
        root.to_string()
    }
}
