//! The client that every source asks through: one way to limit time and size, and to report an error.

use std::{error::Error, time::Duration};

use reqwest::{Certificate, Client, Response, redirect::Policy};

/// How long a connection may take to open: a neighbour on the network answers in milliseconds, a lost
/// first packet is sent again after one second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Idle connections kept to one server; a poller asks one question at a time.
const IDLE_CONNECTIONS: usize = 2;

/// A client for this process's own network: no proxy from the environment, no redirects.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    let builder = || {
        Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .user_agent(concat!("forewarm/", env!("CARGO_PKG_VERSION")))
    };
    // An image without root certificates can still ask over plain HTTP; HTTPS then fails by its own error.
    builder().build().or_else(|_| builder().tls_certs_only(std::iter::empty::<Certificate>()).build())
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the answer is longer than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("{0}")]
    Broken(String),
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| BodyError::Broken(cause(error)))? {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error of the client on one line, without the URL: it may carry a secret.
pub(crate) fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
