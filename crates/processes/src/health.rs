//! Asks one replica once whether it is ready.

use reqwest::{Client, StatusCode, redirect};

use crate::ProcessFleetConfig;

/// A replica's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing listens. vLLM refuses connections until it is ready.
    Refused,
    /// It listens, but does not answer `200`. llama.cpp answers `503` while it loads.
    NotYet,
    /// It serves.
    Ready,
}

/// A client that sees each time whether the port is open: it keeps no connection, and knows no proxy.
pub(crate) fn client(config: &ProcessFleetConfig) -> reqwest::Result<Client> {
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(config.health.timeout)
        .build()
}

/// Asks the replica on this port.
pub(crate) async fn ask(client: &Client, config: &ProcessFleetConfig, port: u16) -> Answer {
    let url = format!("http://127.0.0.1:{port}{}", config.health.path);
    match client.get(url).send().await {
        Ok(response) if response.status() == StatusCode::OK => Answer::Ready,
        Ok(_) => Answer::NotYet,
        // A connection that is not accepted in time is a full backlog: somebody listens.
        Err(error) if error.is_connect() && !error.is_timeout() => Answer::Refused,
        Err(_) => Answer::NotYet,
    }
}
