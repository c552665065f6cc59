//! Asks one instance once whether its engine serves.

use std::{error::Error, io, time::Duration};

use reqwest::{Client, StatusCode, redirect};
use rustls::ClientConfig;

use crate::account::AccountError;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Answers that fail in a row before a ready instance counts as loading again: health may be slow under load.
const MAX_FAILED: u32 = 5;

/// What the answers so far say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) ready: bool,
    pub(crate) was_ready: bool,
    failed: u32,
}

impl Health {
    /// Takes in an answer; whether readiness changed.
    pub(crate) fn take(&mut self, serves: bool) -> bool {
        let before = self.ready;
        self.failed = if serves { 0 } else { self.failed + 1 };
        self.ready = serves || (before && self.failed < MAX_FAILED);
        self.was_ready |= self.ready;
        self.ready != before
    }
}

/// A client that sees each time whether the port is open.
pub(crate) fn client(tls: Option<&ClientConfig>) -> Result<Client, AccountError> {
    let builder = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(TIMEOUT);
    let builder = match tls {
        Some(tls) => builder.tls_backend_preconfigured(tls.clone()),
        None => builder,
    };
    builder.build().map_err(|error| AccountError::Client(error.to_string()))
}

/// Whether the engine answers `200 OK` at `url`.
///
/// # Errors
/// Why TLS with it comes to nothing.
pub(crate) async fn serves(client: &Client, url: String) -> Result<bool, String> {
    match client.get(url).send().await {
        Ok(answer) => Ok(answer.status() == StatusCode::OK),
        Err(error) => tls_error(&error).map_or(Ok(false), Err),
    }
}

/// Why there is no TLS, if that is it.
fn tls_error(error: &reqwest::Error) -> Option<String> {
    let mut root: &dyn Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    let mut broken = root.downcast_ref::<io::Error>()?;
    // The client wraps it in another.
    while let Some(inner) = broken.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>()) {
        broken = inner;
    }
    // So rustls marks what is wrong with what it got, apart from a connection that broke.
    (broken.kind() == io::ErrorKind::InvalidData).then(|| broken.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_engine_may_miss_some_answers_in_a_row() {
        let mut health = Health::default();
        assert!(!health.take(false));
        assert!(health.take(true) && health.ready);
        for _ in 0..4 {
            assert!(!health.take(false) && health.ready);
        }
        assert!(health.take(false) && !health.ready && health.was_ready);
        assert!(health.take(true));
    }
}
