//! Takes in request bodies, with a bound on each and on all of them together.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

/// What a body has to come with, on average, when it takes longer than a slow sender gets anyway: 30 MiB of pictures
/// over a slow line are fine.
pub(crate) const MIN_BYTES_PER_SECOND: u32 = 64 << 10;

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

    /// Reads a body of at most `most` bytes, which has `patience` to come, and a second more for each
    /// [`MIN_BYTES_PER_SECOND`] that have. What counts is what has come, not what was announced: who says
    /// much and sends nothing keeps nobody out.
    pub(crate) async fn read(
        &self,
        mut body: Incoming,
        most: usize,
        patience: Duration,
    ) -> Result<Bytes, Unread> {
        if body.size_hint().lower() > most as u64 {
            return Err(Unread::TooLong);
        }
        let mut share = Share { of: self, bytes: 0 };
        let (mut first, mut more) = (Bytes::new(), BytesMut::new());
        let mut began = None;
        while !body.is_end_stream() {
            // What is there already needs no clock, and no room for one.
            let next = match body.frame().now_or_never() {
                Some(next) => next,
                None => {
                    let began = *began.get_or_insert_with(Instant::now);
                    let earned =
                        Duration::from_secs_f64(share.bytes as f64 / f64::from(MIN_BYTES_PER_SECOND));
                    let until = patience.saturating_add(earned).saturating_sub(began.elapsed());
                    Box::pin(tokio::time::timeout(until, body.frame())).await.map_err(|_| Unread::TooSlow)?
                }
            };
            let Some(frame) = next else { break };
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
