//! Passes a replica's answer on, byte for byte, and knows whether it came to an honest end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use hyper::body::Incoming;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    account::Cause,
    answer::{BodyError, error_event},
    scaler::{Scaler, Slot},
    upstream::Sender,
};

/// The line that ends an OpenAI stream.
const DONE: &[u8] = b"data: [DONE]";
/// Bytes at the end of a stream in which [`DONE`] must be: the line, and line ends or a comment after it.
const TAIL: usize = 64;

/// The body of an answer on its way from a replica to a client. Holds the slot until it ends.
pub(crate) struct Relay {
    upstream: Incoming,
    first: Option<Frame<Bytes>>,
    stream: Option<Tail>,
    scaler: Arc<Scaler>,
    slot: Option<Slot>,
    sender: Option<Sender>,
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, data: &[u8]) {
        if data.len() >= TAIL {
            self.0.clear();
            self.0.extend_from_slice(&data[data.len() - TAIL..]);
        } else {
            let excess = (self.0.len() + data.len()).saturating_sub(TAIL);
            self.0.drain(..excess);
            self.0.extend_from_slice(data);
        }
    }

    fn is_done(&self) -> bool {
        self.0.windows(DONE.len()).any(|window| window == DONE)
    }
}

impl Relay {
    /// `first` is the frame that was read to make sure that the replica answers at all; `is_stream` says
    /// that the answer is an event stream, which must end with `[DONE]`.
    pub(crate) fn new(
        upstream: Incoming,
        first: Option<Frame<Bytes>>,
        is_stream: bool,
        scaler: Arc<Scaler>,
        slot: Slot,
        sender: Sender,
    ) -> Self {
        let gone = Box::pin(slot.gone.clone().cancelled_owned());
        let stream = is_stream.then(Tail::default);
        Self { upstream, first, stream, scaler, slot: Some(slot), sender: Some(sender), gone, ended: false }
    }

    fn see(&mut self, frame: &Frame<Bytes>) {
        self.scaler.account.frame();
        if let (Some(tail), Some(data)) = (&mut self.stream, frame.data_ref()) {
            tail.push(data);
        }
    }

    /// The replica is gone, or stopped in the middle.
    fn broken(&mut self, why: &str) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        self.scaler.account.fail(Cause::ReplicaDiedMidStream);
        let replica = self.slot.take().map(|slot| slot.replica.clone());
        tracing::warn!(
            replica = replica.as_ref().map(|id| id.as_str()),
            why,
            "a replica died in the middle of an answer"
        );
        if self.stream.is_some() {
            Poll::Ready(Some(Ok(Frame::data(error_event()))))
        } else {
            // Only a broken connection tells the client that the answer is not whole.
            Poll::Ready(Some(Err(why.into())))
        }
    }

    fn finished(&mut self) {
        self.ended = true;
        self.scaler.account.succeed();
        if let (Some(slot), Some(sender)) = (self.slot.take(), self.sender.take()) {
            slot.connections.put_back(sender);
        }
    }
}

impl HttpBody for Relay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(first) = self.first.take() {
            self.see(&first);
            return Poll::Ready(Some(Ok(first)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.upstream).poll_frame(context) else {
            // A replica that hangs is given up when the controller says that it is gone.
            ready!(self.gone.as_mut().poll(context));
            return self.broken("it is gone");
        };
        match frame {
            Some(Ok(frame)) => {
                self.see(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => self.broken(&error.to_string()),
            None if self.stream.as_ref().is_some_and(|tail| !tail.is_done()) => {
                self.broken("the stream ended without [DONE]")
            }
            None => {
                self.finished();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Asked before the first poll too: the end must be seen by `poll_frame`, which counts it.
        self.ended && self.first.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::default()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if !self.ended {
            // Dropping the upstream's body closes its connection, which stops the generation.
            self.scaler.account.fail(Cause::ClientLeft);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_end_of_a_stream_is_found_however_it_is_cut(cuts in prop::collection::vec(1_usize..40, 0..30), done in any::<bool>()) {
            let mut text = b"data: {\"x\":1}\n\n".repeat(20);
            if done {
                text.extend_from_slice(b"data: [DONE]\n\n");
            }
            let mut tail = Tail::default();
            let mut rest = text.as_slice();
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                tail.push(now);
                rest = later;
            }
            tail.push(rest);
            prop_assert_eq!(tail.is_done(), done);
        }
    }
}
