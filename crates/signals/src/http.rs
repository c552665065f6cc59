//! The client that every source asks through: one way to limit time and size, and to report an error.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forewarm_manifest::signal::{HttpAccess, Tls};
use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode, Url, redirect::Policy};
use tokio::sync::Semaphore;

use crate::{
    secret::reveal,
    tls::{CONNECT_TIMEOUT, client_config, explained},
};

/// The longest refusal whose reasons are read.
const REFUSAL_BYTES: usize = 4096;

/// HTTP over TLS by its name.
const TLS_NAME: &[u8] = b"HTTPS";

/// Connections to one server. A thousand questions a second, answered in a millisecond each, fill one.
const CONNECTIONS: usize = 2;

/// A client for this process's own network: no proxy from the environment, no redirects.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    // An image without root certificates can still ask over plain HTTP; HTTPS then fails by its own error.
    builder().build().or_else(|_| builder().tls_certs_only(std::iter::empty::<Certificate>()).build())
}

/// The same, with what TLS takes.
///
/// # Errors
/// When TLS cannot be set up: what is wrong with which file.
pub(crate) fn client_with(tls: &Tls) -> Result<Client, String> {
    if *tls == Tls::default() {
        return client().map_err(cause);
    }
    builder().tls_backend_preconfigured(client_config(tls)?).build().map_err(cause)
}

fn builder() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(CONNECTIONS)
        .user_agent(concat!("forewarm/", env!("CARGO_PKG_VERSION")))
}

/// The clients of all sources: those that ask the same server in the same way share its connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    clients: Mutex<BTreeMap<Tls, Client>>,
    servers: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl Clients {
    /// Who asks the server of `url` as `access` says, within `timeout`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn asker(&self, url: &Url, access: &HttpAccess, timeout: Duration) -> Result<Asker, String> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match clients.get(&access.tls) {
            Some(client) => client.clone(),
            None => {
                let made = client_with(&access.tls)?;
                clients.insert(access.tls.clone(), made.clone());
                made
            }
        };
        let origin = url.origin().ascii_serialization();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = servers.entry(origin).or_insert_with(|| Arc::new(Semaphore::new(CONNECTIONS)));
        let timeout = access.timeout.unwrap_or(timeout);
        Ok(Asker { client, turns: Arc::clone(turns), access: access.clone(), timeout })
    }
}

/// Asks one server.
#[derive(Debug)]
pub(crate) struct Asker {
    client: Client,
    turns: Arc<Semaphore>,
    access: HttpAccess,
    pub(crate) timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("{0}")]
    Failed(String),
    #[error("HTTP {status}: the server refuses {who}")]
    Refused {
        status: StatusCode,
        who: &'static str,
        /// What the server says of it, unless that is long.
        body: Vec<u8>,
    },
    #[error("the answer is longer than {limit} bytes")]
    TooLarge { limit: usize },
}

impl Asker {
    /// The answer to a GET, of at most `limit` bytes, whatever its status but 401 and 403.
    pub(crate) async fn get(
        &self,
        url: Url,
        header: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<(StatusCode, Vec<u8>), AskError> {
        let asked = async {
            // The semaphore is never closed.
            let _turn = self.turns.acquire().await.map_err(|error| AskError::Failed(error.to_string()))?;
            self.ask(url, header, limit).await
        };
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(AskError::Failed(format!("no answer within {} s", self.timeout.as_secs_f64()))),
        }
    }

    async fn ask(
        &self,
        url: Url,
        header: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<(StatusCode, Vec<u8>), AskError> {
        let access = &self.access;
        let in_the_clear = url.scheme() == "http";
        let mut request = self.client.get(url);
        for (name, value) in &access.custom_headers {
            request = request.header(name, value);
        }
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        if let Some((name, value)) = access.custom_auth_header.as_ref().zip(access.custom_auth_value.as_ref())
        {
            request = request.header(name, reveal(value).map_err(AskError::Failed)?);
        }
        if let Some(token) = &access.bearer_token {
            request = request.bearer_auth(reveal(token).map_err(AskError::Failed)?);
        }
        if let Some(basic) = &access.basic {
            let username = reveal(&basic.username).map_err(AskError::Failed)?;
            request = request.basic_auth(username, Some(reveal(&basic.password).map_err(AskError::Failed)?));
        }
        let failed = |error| AskError::Failed(explained(cause(error), &access.tls));
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            // That it refuses is known, whatever becomes of the rest.
            let body = body(response, REFUSAL_BYTES).await.unwrap_or_default();
            return Err(AskError::Refused { status, who: self.who(), body });
        }
        let body = body(response, limit).await.map_err(|error| match error {
            BodyError::TooLarge { limit } => AskError::TooLarge { limit },
            BodyError::Broken(cause) => AskError::Failed(cause),
        })?;
        // What servers that wait for TLS have in common in their answers to HTTP. An API's JSON may quote what was asked.
        let wants_tls =
            || !body.starts_with(b"{") && body.windows(TLS_NAME.len()).any(|word| word == TLS_NAME);
        if status == StatusCode::BAD_REQUEST && in_the_clear && wants_tls() {
            let why = "the server speaks TLS at this address: `https://` instead of `http://`";
            return Err(AskError::Failed(why.to_owned()));
        }
        Ok((status, body))
    }

    /// Who asks, without any secret.
    fn who(&self) -> &'static str {
        let access = &self.access;
        if access.bearer_token.is_some() {
            "this `bearerToken`"
        } else if access.basic.is_some() {
            "this `username` and `password`"
        } else if access.custom_auth_header.is_some() {
            "this `customAuthValue`"
        } else {
            "whoever says nothing of who it is; `username` and `password`, or `bearerToken`, would"
        }
    }
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
