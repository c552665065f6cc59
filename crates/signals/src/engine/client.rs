//! Fetches one engine's page, within limits of time and size.

use std::time::Duration;

use forewarm_manifest::signal::{Credential, Tls};
use reqwest::{Client, RequestBuilder, StatusCode, Url, header};

use super::{EngineKind, EngineReading, ReadingError};
use crate::{
    http::{self, BodyError},
    secret::reveal,
    text::Format,
    tls::explained,
};

/// Largest page that is read: a vLLM's with one model is 50 KB.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// What is said of an answer that begins with something else than HTTP: an alert of TLS does.
const NO_HTTP: &str = "invalid HTTP version parsed";

/// Engines answer in Prometheus text, some also in OpenMetrics; both are read.
const ACCEPT: &str =
    "text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.9,*/*;q=0.1";

/// Why an engine's page could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// The replica has no address yet.
    #[error("its address is not known")]
    NoAddress,
    /// The address is no URL.
    #[error("`{address}` is no URL; one looks like `http://10.0.0.7:8000/metrics`")]
    Address {
        /// The address.
        address: String,
    },
    /// No answer in time. It may be busy: llama.cpp takes seconds under load.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// No connection, or one that broke.
    #[error("{0}")]
    Unreachable(String),
    /// It does not let us ask.
    #[error("HTTP {status}: the engine refuses {who}")]
    Refused {
        /// 401 or 403.
        status: StatusCode,
        /// Who asks, without any secret.
        who: &'static str,
    },
    /// An answer, but no page: 503 while a model loads, 404 at a wrong path, 501 without `--metrics`.
    #[error("HTTP {0}")]
    Status(StatusCode),
    /// Longer than [`MAX_BODY_BYTES`].
    #[error("the page is longer than {MAX_BODY_BYTES} bytes")]
    TooLarge,
    /// The page is not one of metrics.
    #[error(transparent)]
    Page(ReadingError),
}

/// How engines are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineAccess {
    /// How TLS is spoken with them; `None`: they speak plain HTTP, unless an address says otherwise.
    pub tls: Option<Tls>,
    /// What is shown to them.
    pub bearer_token: Option<Credential>,
}

/// Asks engines for their metrics over connections that stay open.
#[derive(Clone, Debug)]
pub struct EngineClient {
    client: Client,
    kind: EngineKind,
    timeout: Duration,
    tls: Tls,
    bearer_token: Option<Credential>,
}

impl EngineClient {
    /// A client for engines of one kind, each answer taking at most `timeout`. TLS is spoken at addresses that begin with
    /// `https://`.
    ///
    /// # Errors
    /// When TLS cannot be set up: what is wrong with which file.
    pub fn new(kind: EngineKind, timeout: Duration, access: EngineAccess) -> Result<Self, ScrapeError> {
        let EngineAccess { tls, bearer_token } = access;
        let tls = tls.unwrap_or_default();
        let client = http::client_with(&tls).map_err(ScrapeError::Unreachable)?;
        Ok(Self { client, kind, timeout, tls, bearer_token })
    }

    /// Reads the page at `url`, `http://10.0.0.7:8000/metrics`, once.
    ///
    /// # Errors
    /// [`ScrapeError`], which says why there is no reading.
    pub async fn read(&self, url: &str) -> Result<EngineReading, ScrapeError> {
        let url = address(url)?;
        let in_the_clear = url.scheme() == "http";
        let mut request = self.client.get(url);
        if let Some(token) = &self.bearer_token {
            request = request.bearer_auth(reveal(token).map_err(ScrapeError::Unreachable)?);
        }
        let asked = page(request, self.timeout).await;
        let (page, format) = asked.map_err(|error| self.in_our_words(error, in_the_clear))?;
        EngineReading::parse(self.kind, &page, format).map_err(ScrapeError::Page)
    }

    /// Which setting would be another, where that is known.
    fn in_our_words(&self, error: ScrapeError, in_the_clear: bool) -> ScrapeError {
        match error {
            ScrapeError::Unreachable(why) if in_the_clear && why.ends_with(NO_HTTP) => {
                ScrapeError::Unreachable(format!(
                    "an engine that speaks TLS needs `scheme: HTTPS` (or `https://`): {why}"
                ))
            }
            ScrapeError::Unreachable(why) => ScrapeError::Unreachable(explained(why, &self.tls)),
            ScrapeError::Status(status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => {
                let who = match self.bearer_token {
                    Some(_) => "this `bearerToken`",
                    None => "whoever says nothing of who it is; `bearerToken` would",
                };
                ScrapeError::Refused { status, who }
            }
            ScrapeError::NoAddress
            | ScrapeError::Address { .. }
            | ScrapeError::Timeout(_)
            | ScrapeError::Refused { .. }
            | ScrapeError::Status(_)
            | ScrapeError::TooLarge
            | ScrapeError::Page(_) => error,
        }
    }
}

pub(crate) fn address(url: &str) -> Result<Url, ScrapeError> {
    Url::parse(url).map_err(|_| ScrapeError::Address { address: url.to_owned() })
}

/// Fetches a page of metrics within `timeout`.
pub(crate) async fn page(
    request: RequestBuilder,
    timeout: Duration,
) -> Result<(Vec<u8>, Format), ScrapeError> {
    match tokio::time::timeout(timeout, fetch(request)).await {
        Ok(result) => result,
        Err(_) => Err(ScrapeError::Timeout(timeout)),
    }
}

async fn fetch(request: RequestBuilder) -> Result<(Vec<u8>, Format), ScrapeError> {
    let unreachable = |error| ScrapeError::Unreachable(http::cause(error));
    let response = request.header(header::ACCEPT, ACCEPT).send().await.map_err(unreachable)?;
    if response.status() != StatusCode::OK {
        return Err(ScrapeError::Status(response.status()));
    }
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let format =
        Format::of_content_type(content_type.and_then(|value| value.to_str().ok()).unwrap_or_default());
    let page = http::body(response, MAX_BODY_BYTES).await.map_err(|error| match error {
        BodyError::TooLarge { .. } => ScrapeError::TooLarge,
        BodyError::Broken(cause) => ScrapeError::Unreachable(cause),
    })?;
    Ok((page, format))
}
