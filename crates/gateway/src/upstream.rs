//! Connections to one replica.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpStream;

pub(crate) use crate::dial::Sender;
use crate::{
    dial::{Dialer, Multiplexed, Target},
    driven::Driven,
    worker,
};

/// Longest time on the wall to connect: a replica on this network answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Lists of idle connections: one for each thread that serves, because a connection belongs to the runtime that
/// opened it. With more threads than that some share a list, and wake each other.
const IDLE_LISTS: usize = 64;
/// Idle connections kept in a list; a replica never has more requests than its concurrency.
const MAX_IDLE: usize = 256;

/// Idle connections to one replica, and the one that requests share where it speaks HTTP/2.
#[derive(Debug)]
pub(crate) struct Connections {
    address: String,
    target: Target,
    dialer: Arc<Dialer>,
    idle: [Mutex<Vec<Driven>>; IDLE_LISTS],
    shared: Mutex<Option<Multiplexed>>,
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
    pub(crate) fn new(address: String, dialer: Arc<Dialer>) -> Self {
        let target = Target::parse(&address);
        Self {
            address,
            target,
            dialer,
            idle: std::array::from_fn(|_| Mutex::default()),
            shared: Mutex::default(),
        }
    }

    /// The address as the plan has it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What stands in a request's `Host`.
    pub(crate) fn host(&self) -> Option<&HeaderValue> {
        self.target.host_header()
    }

    /// Sends a request and waits for the head of the answer. An idle connection that turns out to be
    /// closed is replaced by a new one without further ado.
    pub(crate) async fn send(
        &self,
        request: &Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Sender), SendError> {
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                self.forget(&sender);
                continue;
            }
            match sender.send_request(request.clone()).await {
                Ok(response) => return Ok((response, sender)),
                // The replica closed it while it was idle, or died: a new connection tells.
                Err(error) => {
                    tracing::trace!(%error, "an idle connection was closed");
                    self.forget(&sender);
                }
            }
        }
        // It is large, seldom needed, and would be a part of every request's future.
        let mut sender = Box::pin(self.connect()).await.map_err(SendError::Connect)?;
        let response = sender.send_request(request.clone()).await.map_err(SendError::Closed)?;
        Ok((response, sender))
    }

    /// Whether somebody listens.
    pub(crate) async fn probe(&self) -> bool {
        matches!(
            tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(self.target.authority())).await,
            Ok(Ok(_))
        )
    }

    /// Whether somebody answers, whatever it is.
    pub(crate) async fn answers(&self) -> bool {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = http::Uri::from_static("/health");
        if let Some(host) = self.host() {
            request.headers_mut().insert(http::header::HOST, host.clone());
        }
        let answer = async { self.connect().await.ok()?.send_request(request).await.ok() };
        matches!(tokio::time::timeout(CONNECT_TIMEOUT, answer).await, Ok(Some(_)))
    }

    /// Keeps a connection whose answer was read to the end.
    pub(crate) fn put_back(&self, sender: Sender) {
        let Sender::Http1(mut sender) = sender else { return };
        sender.rest();
        let mut idle = self.idle();
        // The one that rests for longest, in its turn: nobody else notices that the replica closed it.
        if idle.first_mut().is_some_and(Driven::is_closed) {
            idle.remove(0);
        }
        if idle.len() < MAX_IDLE {
            idle.push(sender);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Driven>> {
        self.idle[worker::number() % IDLE_LISTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self) -> Option<Sender> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        shared.map(Sender::Http2).or_else(|| self.idle().pop().map(Sender::Http1))
    }

    /// Shares a connection no longer on which a request failed.
    fn forget(&self, sender: &Sender) {
        if matches!(sender, Sender::Http2(_)) {
            *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    async fn connect(&self) -> std::io::Result<Sender> {
        let sender = tokio::time::timeout(CONNECT_TIMEOUT, self.dialer.dial(&self.target))
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        if let Sender::Http2(shared) = &sender {
            *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(shared.clone());
        }
        Ok(sender)
    }
}
