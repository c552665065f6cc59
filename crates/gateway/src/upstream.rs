//! Connections to one replica.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use tokio::net::TcpStream;

use crate::{
    dial::{Dialer, Link, Multiplexed, Target},
    http1::ToReplica,
    message::ResponseHead,
    outgoing::Outgoing,
    reply::{Reply, ReplyError},
    worker,
};

/// Longest time on the wall to connect: a replica on this network answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Lists of idle connections: one for each thread that serves, because a connection belongs to the runtime that
/// opened it. With more threads than that some share a list, and wake each other.
const IDLE_LISTS: usize = 64;
/// Idle connections kept in a list, which is what large engines take at a time. With fewer, who falls behind for a moment, and
/// so has more requests under way, would open a connection for each of the rest, and fall behind further.
const MAX_IDLE: usize = 1_024;

/// Connections that are put back between two looks at the one that rests for longest.
const LOOK_EVERY: u32 = 16;

/// Connections that wait for a request.
#[derive(Debug, Default)]
struct Idle {
    /// The last one is used first.
    #[expect(clippy::vec_box, reason = "a connection goes from hand to hand with each request")]
    connections: Vec<Box<ToReplica>>,
    /// How many were put back since the first one was looked at.
    unseen: u32,
}

/// Idle connections to one replica, and the one that requests share where it speaks HTTP/2.
#[derive(Debug)]
pub(crate) struct Connections {
    address: String,
    target: Target,
    dialer: Arc<Dialer>,
    idle: [Mutex<Idle>; IDLE_LISTS],
    shared: Mutex<Option<Box<Multiplexed>>>,
}

/// Why no answer began.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Nobody listens.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// The connection ended before the answer.
    #[error("the connection ended before an answer: {0}")]
    Closed(ReplyError),
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

    /// Sends a request and waits for the head of the answer. An idle connection that turns out to be
    /// closed is replaced by a new one without further ado.
    pub(crate) async fn send(&self, request: &Outgoing) -> Result<(ResponseHead, Reply), SendError> {
        while let Some(link) = self.take_idle() {
            let is_shared = matches!(link, Link::Http2(_));
            match link.send(request, &self.target).await {
                Ok(answer) => return Ok(answer),
                // The replica closed it while it was idle, or died: a new connection tells.
                Err(error) => {
                    tracing::trace!(%error, "an idle connection was closed");
                    if is_shared {
                        *self.shared() = None;
                    }
                }
            }
        }
        // It is large, seldom needed, and would be a part of every request's future.
        let link = Box::pin(self.connect()).await.map_err(SendError::Connect)?;
        link.send(request, &self.target).await.map_err(SendError::Closed)
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
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = http::Uri::from_static("/health");
        let request = request.into();
        let answer = async { self.connect().await.ok()?.send(&request, &self.target).await.ok() };
        matches!(tokio::time::timeout(CONNECT_TIMEOUT, answer).await, Ok(Some(_)))
    }

    /// Keeps the connection of an answer that was read to its end.
    pub(crate) fn put_back(&self, reply: Reply) {
        let Reply::Http1(connection) = reply else { return };
        if !connection.may_be_followed() {
            return;
        }
        let mut idle = self.idle();
        let Idle { connections, unseen } = &mut *idle;
        *unseen += 1;
        if *unseen >= LOOK_EVERY {
            *unseen = 0;
            // Nobody else notices that the replica closed it.
            if connections.first_mut().is_some_and(|first| !first.is_free()) {
                connections.remove(0);
            }
        }
        if connections.len() < MAX_IDLE {
            connections.push(connection);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle[worker::number() % IDLE_LISTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Option<Box<Multiplexed>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self) -> Option<Link> {
        if self.target.may_be_shared()
            && let Some(shared) = &*self.shared()
        {
            return Some(Link::Http2(shared.clone()));
        }
        let mut idle = self.idle();
        while let Some(mut connection) = idle.connections.pop() {
            if connection.is_free() {
                return Some(Link::Http1(connection));
            }
        }
        None
    }

    async fn connect(&self) -> std::io::Result<Link> {
        let link = tokio::time::timeout(CONNECT_TIMEOUT, self.dialer.dial(&self.target))
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        if let Link::Http2(shared) = &link {
            *self.shared() = Some(shared.clone());
        }
        Ok(link)
    }
}
