//! Fetches one engine's page, within limits of time and size.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url, header};

use super::{EngineKind, EngineReading, ReadingError};
use crate::{
    http::{self, BodyError},
    text::Format,
};

/// Largest page that is read: a vLLM's with one model is 50 KB.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

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

/// Asks engines for their metrics over connections that stay open.
#[derive(Clone, Debug)]
pub struct EngineClient {
    client: Client,
    kind: EngineKind,
    timeout: Duration,
}

impl EngineClient {
    /// A client for engines of one kind, each answer taking at most `timeout`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(kind: EngineKind, timeout: Duration) -> Result<Self, ScrapeError> {
        let client = http::client().map_err(|error| ScrapeError::Unreachable(http::cause(error)))?;
        Ok(Self { client, kind, timeout })
    }

    /// Reads the page at `url`, `http://10.0.0.7:8000/metrics`, once.
    ///
    /// # Errors
    /// [`ScrapeError`], which says why there is no reading.
    pub async fn read(&self, url: &str) -> Result<EngineReading, ScrapeError> {
        let (page, format) = page(&self.client, url, self.timeout).await?;
        EngineReading::parse(self.kind, &page, format).map_err(ScrapeError::Page)
    }
}

/// Fetches a page of metrics within `timeout`.
pub(crate) async fn page(
    client: &Client,
    url: &str,
    timeout: Duration,
) -> Result<(Vec<u8>, Format), ScrapeError> {
    let url = Url::parse(url).map_err(|_| ScrapeError::Address { address: url.to_owned() })?;
    match tokio::time::timeout(timeout, fetch(client, url)).await {
        Ok(result) => result,
        Err(_) => Err(ScrapeError::Timeout(timeout)),
    }
}

async fn fetch(client: &Client, url: Url) -> Result<(Vec<u8>, Format), ScrapeError> {
    let unreachable = |error| ScrapeError::Unreachable(http::cause(error));
    let response = client.get(url).header(header::ACCEPT, ACCEPT).send().await.map_err(unreachable)?;
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
