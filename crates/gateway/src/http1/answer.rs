//! An answer as it is taken from the bytes of a connection, however they are cut. No sockets.

use std::{borrow::Cow, mem};

use bytes::Bytes;
use http::Method;

use super::{
    Http1Error, MAX_HEAD_BYTES,
    chunked::BadChunk,
    read::{self, Framing, Response},
};
use crate::message::ResponseHead;

/// An answer, and how much of it came.
pub(super) struct Answer {
    state: State,
    /// Whether what follows on its connection can only be another answer.
    keeps: bool,
}

enum State {
    /// Its head is awaited.
    Head {
        /// What is asked for.
        method: Method,
        /// What of it is there.
        read: Vec<u8>,
        /// Bytes of the heads that announced it.
        announced: usize,
    },
    Body {
        framing: Framing,
        /// What came with the head.
        first: Bytes,
    },
}

impl Answer {
    /// Nothing is asked, and so nothing comes.
    pub(super) fn none() -> Self {
        Self { state: State::ended(), keeps: true }
    }

    /// To a request with this method.
    pub(super) fn to(method: Method) -> Self {
        Self { state: State::Head { method, read: Vec::new(), announced: 0 }, keeps: false }
    }

    /// Looks for its head in what came, and passes over those that only announce it. To be called until it is there.
    pub(super) fn head(&mut self, came: &[u8]) -> Result<Option<ResponseHead>, Http1Error> {
        let State::Head { method, read, announced } = &mut self.state else { return Ok(None) };
        let before = mem::take(read);
        let all = if before.is_empty() { Cow::Borrowed(came) } else { Cow::Owned([&before, came].concat()) };
        let mut bytes = &*all;
        while let Some(Response { head, mut framing, keeps, length }) = read::response(bytes, method)? {
            bytes = &bytes[length..];
            *announced += length;
            if *announced > MAX_HEAD_BYTES {
                return Err(Http1Error::LongHead);
            }
            if head.status.is_informational() {
                continue;
            }
            let (first, beyond) = body(&mut framing, bytes)?;
            *self = Self { state: State::Body { framing, first }, keeps: keeps && beyond == 0 };
            return Ok(Some(head));
        }
        if *announced + bytes.len() > MAX_HEAD_BYTES {
            return Err(Http1Error::LongHead);
        }
        *read = bytes.to_vec();
        Ok(None)
    }

    /// The part of its body that came with its head; empty when there is none, or no more.
    pub(super) fn first(&mut self) -> Bytes {
        if let State::Body { first, .. } = &mut self.state { mem::take(first) } else { Bytes::new() }
    }

    /// What of its body came; it may be nothing.
    pub(super) fn data(&mut self, came: &[u8]) -> Result<Bytes, Http1Error> {
        let State::Body { framing, .. } = &mut self.state else { return Ok(Bytes::new()) };
        match body(framing, came) {
            Ok((data, beyond)) => {
                self.keeps &= beyond == 0;
                Ok(data)
            }
            Err(bad) => {
                *self = Self { keeps: false, ..Self::none() };
                Err(bad.into())
            }
        }
    }

    /// The connection ended.
    pub(super) fn end(&mut self) -> Result<(), Http1Error> {
        let ended = Self { keeps: false, ..Self::none() };
        match mem::replace(self, ended).state {
            State::Body { framing: Framing::Close, .. } => Ok(()),
            State::Body { .. } | State::Head { .. } => Err(Http1Error::Closed),
        }
    }

    /// Whether all of it came and was taken.
    pub(super) fn is_end(&self) -> bool {
        matches!(&self.state, State::Body { first, .. } if first.is_empty()) && self.is_read()
    }

    /// Whether all of its body came.
    pub(super) fn is_read(&self) -> bool {
        match &self.state {
            State::Head { .. } | State::Body { framing: Framing::Close, .. } => false,
            State::Body { framing: Framing::Length(left), .. } => *left == 0,
            State::Body { framing: Framing::Chunked(chunked), .. } => chunked.is_end(),
        }
    }

    /// Whether all of it was taken, and the connection can be used for another.
    pub(super) fn may_be_followed(&self) -> bool {
        self.keeps && self.is_end()
    }
}

impl State {
    fn ended() -> Self {
        State::Body { framing: Framing::Length(0), first: Bytes::new() }
    }
}

/// What of a body is in these bytes, and how many of them come after its end.
pub(super) fn body(framing: &mut Framing, mut bytes: &[u8]) -> Result<(Bytes, usize), BadChunk> {
    match framing {
        Framing::Length(left) => {
            let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
            *left -= here as u64;
            Ok((Bytes::copy_from_slice(&bytes[..here]), bytes.len() - here))
        }
        Framing::Chunked(chunked) => {
            let Some(first) = chunked.next(&mut bytes)? else { return Ok((Bytes::new(), bytes.len())) };
            let Some(second) = chunked.next(&mut bytes)? else {
                return Ok((Bytes::copy_from_slice(first), bytes.len()));
            };
            let mut all = Vec::with_capacity(first.len() + second.len() + bytes.len());
            all.extend_from_slice(first);
            all.extend_from_slice(second);
            while let Some(next) = chunked.next(&mut bytes)? {
                all.extend_from_slice(next);
            }
            Ok((all.into(), bytes.len()))
        }
        Framing::Close => Ok((Bytes::copy_from_slice(bytes), 0)),
    }
}

/// An answer that comes in these pieces, to its end: its status, its body, and whether it may be followed.
#[cfg(fuzzing)]
pub(super) fn whole<'a>(
    method: Method,
    mut pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<(u16, Vec<u8>, bool), String> {
    let mut answer = Answer::to(method);
    let head = loop {
        let Some(piece) = pieces.next() else { break answer.end().map(|()| None) };
        match answer.head(piece) {
            Ok(None) => {}
            found => break found,
        }
    };
    let Some(head) = head.map_err(|error| error.to_string())? else { return Err("no head".to_owned()) };
    let mut body = answer.first().to_vec();
    for piece in pieces {
        body.extend_from_slice(&answer.data(piece).map_err(|error| error.to_string())?);
    }
    let keeps = answer.may_be_followed();
    if !answer.is_read() {
        answer.end().map_err(|error| error.to_string())?;
    }
    Ok((head.status.as_u16(), body, keeps))
}
