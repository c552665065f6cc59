//! Asks one replica once whether it is ready.

use std::{error::Error, io};

use reqwest::{Client, StatusCode, redirect};

use crate::ProcessFleetConfig;

/// A replica's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing listens. vLLM refuses connections until it is ready.
    Refused,
    /// It listens, but does not answer `200`. llama.cpp answers `503` while it loads.
    NotYet,
    /// It listens, but TLS with it comes to nothing, for this reason.
    NoTls(String),
    /// It serves.
    Ready,
}

/// A client that sees each time whether the port is open: it keeps no connection, and knows no proxy.
pub(crate) fn client(config: &ProcessFleetConfig) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(config.health.timeout);
    match &config.health.tls {
        Some(tls) => builder.tls_backend_preconfigured(tls.clone()).build(),
        None => builder.build(),
    }
}

/// Asks the replica on this port.
pub(crate) async fn ask(client: &Client, config: &ProcessFleetConfig, port: u16) -> Answer {
    let scheme = if config.health.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://127.0.0.1:{port}{}", config.health.path);
    match client.get(url).send().await {
        Ok(response) if response.status() == StatusCode::OK => Answer::Ready,
        Ok(_) => Answer::NotYet,
        Err(error)
            if config.health.tls.is_some()
                && let Some(why) = tls_error(&error) =>
        {
            Answer::NoTls(why)
        }
        // A connection that is not accepted in time is a full backlog: somebody listens.
        Err(error) if error.is_connect() && !error.is_timeout() => Answer::Refused,
        Err(_) => Answer::NotYet,
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
