//! Connections to one replica.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest time on the wall to connect: a replica on this network answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle connections kept for a replica; it never has more requests than its concurrency.
const MAX_IDLE: usize = 256;
/// Headers an answer may have.
const MAX_HEADERS: usize = 100;

/// What a request's sender looks like.
pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// Idle connections to one replica.
#[derive(Debug)]
pub(crate) struct Connections {
    address: String,
    idle: Mutex<Vec<Sender>>,
}

/// Why no answer began.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Nobody listens.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// The connection ended before the answer.
    #[error("the connection ended before an answer: {0}")]
    Closed(hyper::Error),
}

impl Connections {
    pub(crate) fn new(address: String) -> Self {
        Self { address, idle: Mutex::new(Vec::new()) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request and waits for the head of the answer. An idle connection that turns out to be
    /// closed is replaced by a new one without further ado.
    pub(crate) async fn send(
        &self,
        request: &Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Sender), SendError> {
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.send_request(request.clone()).await {
                Ok(response) => return Ok((response, sender)),
                // The replica closed it while it was idle, or died: a new connection tells.
                Err(error) => tracing::trace!(%error, "an idle connection was closed"),
            }
        }
        let mut sender = self.connect().await.map_err(SendError::Connect)?;
        let response = sender.send_request(request.clone()).await.map_err(SendError::Closed)?;
        Ok((response, sender))
    }

    /// Whether somebody listens.
    pub(crate) async fn probe(&self) -> bool {
        matches!(tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await, Ok(Ok(_)))
    }

    /// Whether somebody answers, whatever it is.
    pub(crate) async fn answers(&self) -> bool {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = http::Uri::from_static("/health");
        if let Ok(host) = http::HeaderValue::try_from(&self.address) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let answer = async { self.connect().await.ok()?.send_request(request).await.ok() };
        matches!(tokio::time::timeout(CONNECT_TIMEOUT, answer).await, Ok(Some(_)))
    }

    /// Keeps a connection whose answer was read to the end.
    pub(crate) fn put_back(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push(sender);
        }
    }

    fn take_idle(&self) -> Option<Sender> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn connect(&self) -> std::io::Result<Sender> {
        let connecting = TcpStream::connect(&self.address);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection to a replica ended");
            }
        });
        Ok(sender)
    }
}
