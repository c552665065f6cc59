//! Takes in request bodies, with a bound on each and on all of them together.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use crate::answer::BodyError;

/// What a body has to come with, on average, when it takes longer than a slow sender gets anyway: 30 MiB of pictures
/// over a slow line are fine.
pub(crate) const MIN_BYTES_PER_SECOND: u32 = 64 << 10;

/// What a body comes from.
pub(crate) trait Source {
    /// Bytes that it has at least, as far as it says.
    fn announced(&self) -> u64;

    /// Whether it is certain that nothing more comes.
    fn is_end(&self) -> bool;

    /// The next piece; `None` at its end.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;
}

impl Source for Incoming {
    fn announced(&self) -> u64 {
        self.size_hint().lower()
    }

    fn is_end(&self) -> bool {
        self.is_end_stream()
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match ready!(Pin::new(&mut *self).poll_frame(context)?) {
                None => return Poll::Ready(None),
                // Trailers are nobody's here.
                Some(frame) => match frame.into_data() {
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    Err(_) => continue,
                },
            }
        }
    }
}

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
    Broken(BodyError),
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
        body: &mut impl Source,
        most: usize,
        patience: Duration,
    ) -> Result<Bytes, Unread> {
        if body.announced() > most as u64 {
            return Err(Unread::TooLong);
        }
        let mut share = Share { of: self, bytes: 0 };
        let (mut first, mut more) = (Bytes::new(), BytesMut::new());
        let mut began = None;
        while !body.is_end() {
            // What is there already needs no clock, and no room for one.
            let mut piece = poll_fn(|context| body.poll_piece(context));
            let next = match (&mut piece).now_or_never() {
                Some(next) => next,
                None => {
                    let began = *began.get_or_insert_with(Instant::now);
                    let earned =
                        Duration::from_secs_f64(share.bytes as f64 / f64::from(MIN_BYTES_PER_SECOND));
                    let until = patience.saturating_add(earned).saturating_sub(began.elapsed());
                    Box::pin(tokio::time::timeout(until, piece)).await.map_err(|_| Unread::TooSlow)?
                }
            };
            let Some(data) = next.transpose().map_err(Unread::Broken)? else { break };
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
