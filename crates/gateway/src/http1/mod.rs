//! HTTP/1.1 on both sides: a connection to a replica, and one of a client.
//!
//! Both move only while somebody who uses them polls them, and have no task, no channel and no buffer of their own between two
//! messages: what comes from a replica wakes the task that passes it on, and ten thousand streams that wait for their
//! next token cost nothing but their sockets here. hyper, which has all three (`docs/research/gateway.md`), speaks HTTP/2.
//!
//! What is read is read from bytes, without sockets ([`answer`], [`request`]), and what is made of them is compared with what
//! hyper makes of the same.

mod answer;
mod chunked;
mod client;
mod read;
mod replica;
mod request;
#[cfg(test)]
mod tests;
mod write;

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

pub(crate) use self::{chunked::BadChunk, client::FromClient, read::BadHead, replica::ToReplica};

/// Bytes that are read at a time.
const READ: usize = 16 << 10;
/// Bytes that a head may have; those of an answer with the heads that only announce it.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Why there is no message, or no more of one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Http1Error {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It ended too early.
    #[error("the connection was closed before the end of the message")]
    Closed,
    /// What was read is no head.
    #[error(transparent)]
    Head(#[from] BadHead),
    /// A head without end.
    #[error("the head has more than {MAX_HEAD_BYTES} bytes")]
    LongHead,
    /// What was read is no body.
    #[error(transparent)]
    Chunk(#[from] BadChunk),
}

/// Reads once. At the end there are no bytes.
fn poll_read<T>(
    stream: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    let mut space = [MaybeUninit::uninit(); READ];
    let mut bytes = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(context, &mut bytes))?;
    Poll::Ready(Ok(take(bytes.filled())))
}

/// An answer that comes in these pieces, to its end: its status, its body, and whether its connection may go on.
#[cfg(fuzzing)]
pub(crate) fn whole_answer<'a>(
    method: http::Method,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<(u16, Vec<u8>, bool), String> {
    answer::whole(method, pieces)
}

/// Requests that come in these pieces on one connection.
#[cfg(fuzzing)]
pub(crate) fn whole_requests<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> request::Ended {
    request::whole(pieces)
}
