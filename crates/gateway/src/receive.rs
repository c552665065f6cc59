//! Takes in request bodies, with a bound on each and on all of them together.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Counts the bytes that are on their way in.
#[derive(Debug)]
pub(crate) struct Receiving {
    bytes: AtomicUsize,
    max_bytes: usize,
}

/// Why a body could not be taken in.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It is longer than one may be.
    TooLong,
    /// It did not arrive in time.
    TooSlow,
    /// Its connection broke, or what came is no HTTP.
    Broken(hyper::Error),
    /// Too much is on its way in already.
    NoRoom,
}

impl Receiving {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), max_bytes }
    }

    /// Reads a body of at most `most` bytes. What counts is what has come, not what was announced: who says
    /// much and sends nothing keeps nobody out.
    pub(crate) async fn read(&self, mut body: Incoming, most: usize) -> Result<Bytes, Unread> {
        if body.size_hint().lower() > most as u64 {
            return Err(Unread::TooLong);
        }
        let mut share = Share { of: self, bytes: 0 };
        let (mut first, mut more) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(Unread::Broken)?.into_data() else { continue };
            share.grow(data.len(), most)?;
            // Most bodies are one piece, and are not copied.
            if first.is_empty() {
                first = data;
                continue;
            }
            if more.is_empty() {
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&data);
        }
        Ok(if more.is_empty() { first } else { more.freeze() })
    }
}

/// The bytes of one body; given back when it has come, or will not.
struct Share<'a> {
    of: &'a Receiving,
    bytes: usize,
}

impl Share<'_> {
    fn grow(&mut self, bytes: usize, most: usize) -> Result<(), Unread> {
        self.bytes += bytes;
        let all = self.of.bytes.fetch_add(bytes, Relaxed) + bytes;
        if self.bytes > most {
            Err(Unread::TooLong)
        } else if all > self.of.max_bytes {
            Err(Unread::NoRoom)
        } else {
            Ok(())
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.of.bytes.fetch_sub(self.bytes, Relaxed);
    }
}
