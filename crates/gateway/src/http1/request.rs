//! Requests as they are taken from the bytes of a connection, however they are cut. No sockets.

use std::mem;

use bytes::Bytes;
use http::Method;
use memchr::memchr;

use super::{
    Http1Error, MAX_HEAD_BYTES, answer,
    chunked::BadChunk,
    read::{self, Framing},
};
use crate::message::RequestHead;

/// The request that is read, or was read last.
pub(super) struct Request {
    /// What came and was not taken: the beginning of a head, or of what comes after this request.
    unread: Vec<u8>,
    /// Whether that is known to be less than a head.
    is_begun: bool,
    /// What of the body came with the head.
    first: Bytes,
    framing: Framing,
    pub(super) method: Method,
    /// Whether the client speaks HTTP/1.1, and not 1.0.
    pub(super) is_http_11: bool,
    /// Whether it may send another.
    pub(super) keeps: bool,
    /// Whether it waits for a word before it sends the body.
    pub(super) expects: bool,
}

impl Request {
    /// None came.
    pub(super) fn none() -> Self {
        Self {
            unread: Vec::new(),
            is_begun: false,
            first: Bytes::new(),
            framing: Framing::Length(0),
            method: Method::GET,
            is_http_11: true,
            keeps: true,
            expects: false,
        }
    }

    /// Whether all that came was taken.
    pub(super) fn is_all_seen(&self) -> bool {
        self.unread.is_empty()
    }

    /// Looks for the next head in what came, which may be nothing where more came before than was looked at.
    pub(super) fn head(&mut self, came: &[u8]) -> Result<Option<RequestHead>, Http1Error> {
        if self.unread.is_empty() {
            return self.head_of(came);
        }
        self.unread.extend_from_slice(came);
        // A head that comes byte by byte is not read from its beginning at each of them.
        if self.is_begun && memchr(b'\n', came).is_none() && self.unread.len() <= MAX_HEAD_BYTES {
            return Ok(None);
        }
        let all = mem::take(&mut self.unread);
        self.head_of(&all)
    }

    fn head_of(&mut self, bytes: &[u8]) -> Result<Option<RequestHead>, Http1Error> {
        let read = read::request(bytes).map_err(Http1Error::from).and_then(|read| {
            let length = read.as_ref().map_or(bytes.len(), |read| read.length);
            if length > MAX_HEAD_BYTES { Err(Http1Error::LongHead) } else { Ok(read) }
        });
        // Where a request ends that cannot be read, nobody knows.
        let read = read.inspect_err(|_| *self = Self { framing: Framing::Close, ..Self::none() })?;
        let Some(read::Request { head, framing, is_http_11, keeps, expects, length }) = read else {
            (self.unread, self.is_begun) = (bytes.to_vec(), true);
            return Ok(None);
        };
        (self.framing, self.method) = (framing, head.method.clone());
        (self.is_http_11, self.keeps, self.expects, self.is_begun) = (is_http_11, keeps, expects, false);
        self.first = self.data(&bytes[length..])?;
        Ok(Some(head))
    }

    /// The part of its body that came with its head; empty when there is none, or no more.
    pub(super) fn first(&mut self) -> Bytes {
        mem::take(&mut self.first)
    }

    /// What of its body came; it may be nothing.
    pub(super) fn data(&mut self, came: &[u8]) -> Result<Bytes, BadChunk> {
        let (data, beyond) = answer::body(&mut self.framing, came)?;
        self.unread(&came[came.len() - beyond..]);
        Ok(data)
    }

    /// Whether so much came beyond it that no more is taken before its turn.
    pub(super) fn is_full(&self) -> bool {
        self.unread.len() >= MAX_HEAD_BYTES
    }

    /// These came, and belong to the request after this one.
    pub(super) fn unread(&mut self, came: &[u8]) {
        self.unread.extend_from_slice(came);
    }

    /// Bytes that its body has at least.
    pub(super) fn announced(&self) -> u64 {
        let left = if let Framing::Length(left) = self.framing { left } else { 0 };
        self.first.len() as u64 + left
    }

    /// Whether all of its body came.
    pub(super) fn is_read(&self) -> bool {
        match &self.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunked) => chunked.is_end(),
            Framing::Close => false,
        }
    }

    /// Whether all of its body came and was taken.
    pub(super) fn is_end(&self) -> bool {
        self.first.is_empty() && self.is_read()
    }
}

/// The target and the body of each request on a connection, and whether that is how it ended.
#[cfg(fuzzing)]
pub(crate) type Ended = (Vec<(String, Vec<u8>)>, Result<(), String>);

/// What comes on one connection, in these pieces.
#[cfg(fuzzing)]
pub(super) fn whole<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Ended {
    let (mut request, mut seen) = (Request::none(), Vec::new());
    let mut under_way: Option<(String, Vec<u8>)> = None;
    for piece in pieces {
        let mut came = piece;
        loop {
            let read = match &mut under_way {
                None => request.head(came).map(|head| {
                    let path = head.map(|head| head.target.path().to_owned());
                    under_way = path.map(|path| (path, request.first().to_vec()));
                }),
                Some((_, body)) => {
                    request.data(came).map(|data| body.extend_from_slice(&data)).map_err(Http1Error::from)
                }
            };
            if let Err(error) = read {
                return (seen, Err(error.to_string()));
            }
            came = &[];
            if under_way.is_none() || !request.is_read() {
                break;
            }
            seen.extend(under_way.take());
            if !request.keeps {
                return (seen, Ok(()));
            }
            if request.is_all_seen() {
                break;
            }
        }
    }
    let is_whole = under_way.is_none() && request.is_all_seen();
    (seen, if is_whole { Ok(()) } else { Err(Http1Error::Closed.to_string()) })
}
