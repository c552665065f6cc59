//! Clients that stop taking their answer: what they keep from others is given back after a while.
//!
//! Over HTTP/1.1 a connection is one answer, and [`Paced`] watches its socket. Over HTTP/2 a client may stop taking
//! one stream while it takes the others; [`pumped`] watches each stream.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::{Instant, Sleep},
};

use crate::answer::{Body, BodyError};

/// Bytes that a client has to take within the time that it has, if so many wait for it. Less is as good as nothing.
const MIN_PROGRESS: usize = 4 << 10;
/// Frames of one answer that wait for an HTTP/2 client.
const MAX_WAITING: usize = 16;

/// Whether a client was let go because it did not take its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace(Arc<AtomicBool>);

impl Pace {
    /// It did not take its answer in time.
    pub(crate) fn is_too_slow(&self) -> bool {
        self.0.load(Relaxed)
    }

    fn too_slow(&self) {
        self.0.store(true, Relaxed);
    }
}

/// A connection that fails when its peer takes no bytes for too long while some wait for it.
#[derive(Debug)]
pub(crate) struct Paced<S> {
    stream: S,
    pace: Pace,
    longest: Duration,
    /// Runs while bytes wait that the peer does not take.
    stuck: Option<Pin<Box<Sleep>>>,
    /// Bytes taken since it runs.
    taken: usize,
}

impl<S> Paced<S> {
    pub(crate) fn new(stream: S, longest: Duration, pace: Pace) -> Self {
        Self { stream, pace, longest, stuck: None, taken: 0 }
    }

    fn wrote(
        &mut self,
        wrote: Poll<io::Result<usize>>,
        offered: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(count)) => {
                self.taken = self.taken.saturating_add(count);
                if count >= offered || self.taken >= MIN_PROGRESS {
                    (self.stuck, self.taken) = (None, 0);
                }
                wrote
            }
            Poll::Ready(Err(_)) => wrote,
            Poll::Pending => {
                let longest = self.longest;
                let stuck = self.stuck.get_or_insert_with(|| {
                    // A span that is too long for the clock is as good as for ever.
                    let until = Instant::now().checked_add(longest);
                    Box::pin(until.map_or_else(|| tokio::time::sleep(longest), tokio::time::sleep_until))
                });
                match stuck.as_mut().poll(context) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        self.pace.too_slow();
                        let why = "the client does not take its answer";
                        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
                    }
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(wrote, bytes.len(), context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = pieces.iter().map(|piece| piece.len()).sum();
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.wrote(wrote, offered, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// An answer to an HTTP/2 client, read ahead a little; given up when the client takes nothing of it for too long.
pub(crate) fn pumped(mut body: Body, longest: Duration, pace: Pace) -> Body {
    // The gateway's own answers hold nothing up.
    if body.is_end_stream() || body.size_hint().exact().is_some() {
        return body;
    }
    let (sender, frames) = mpsc::channel(MAX_WAITING);
    tokio::spawn(async move {
        loop {
            let frame = tokio::select! {
                biased;
                () = sender.closed() => return,
                frame = body.frame() => frame,
            };
            let Some(frame) = frame else { return };
            match tokio::time::timeout(longest, sender.reserve()).await {
                Ok(Ok(place)) => place.send(frame),
                Ok(Err(_)) => return,
                Err(_) => {
                    pace.too_slow();
                    // Frees its slot now; the client learns of it when it takes up the stream again.
                    drop(body);
                    let why: BodyError = "the client does not take its answer".into();
                    drop(sender.send(Err(why)).await);
                    return;
                }
            }
        }
    });
    Pumped(frames).boxed_unsync()
}

struct Pumped(mpsc::Receiver<Result<Frame<Bytes>, BodyError>>);

impl HttpBody for Pumped {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(context)
    }
}
