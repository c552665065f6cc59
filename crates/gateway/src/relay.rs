//! Passes a replica's answer on, byte for byte, and knows whether it came to an honest end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};

use crate::{
    account::Cause,
    answer::{BodyError, error_event},
    clock,
    gone::Gone,
    pace::Pace,
    reply::Reply,
    scaler::{Scaler, Slot},
    sse::Watch,
};

/// What counts as the end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The end of its bytes, as HTTP frames them.
    Http,
    /// The same; it is an event stream, so that an error can be said in it.
    Events,
    /// An event stream that says `[DONE]` before it ends: an end without it is a death.
    EventsUntilDone,
}

/// The body of an answer on its way from a replica to a client. Holds the slot until it ends.
pub(crate) struct Relay {
    first: Option<Bytes>,
    ending: Ending,
    watch: Watch,
    scaler: Arc<Scaler>,
    pace: Pace,
    /// Given up when the answer has ended, with whatever end.
    held: Option<(Box<Slot>, Reply)>,
    gone: Gone,
    is_server_error: bool,
    /// Why the connection is to be broken off, once what was passed on before is on its way.
    breaks: Option<BodyError>,
}

impl Relay {
    /// `first` is what was read already to make sure that the replica answers at all.
    pub(crate) fn new(
        first: Option<Bytes>,
        ending: Ending,
        is_server_error: bool,
        (pace, scaler): (Pace, Arc<Scaler>),
        (slot, reply): (Box<Slot>, Reply),
    ) -> Self {
        let held = Some((slot, reply));
        let watch = Watch::default();
        let gone = Gone::default();
        let mut relay =
            Self { first, ending, watch, scaler, pace, held, gone, is_server_error, breaks: None };
        if relay.first.is_none() {
            // Nothing more will be asked for: an empty answer is whole.
            relay.finished();
        }
        relay
    }

    /// The replica said something. Of the first that it said, note was taken before.
    fn heard(&mut self) {
        self.gone.heard();
        if let Some((slot, _)) = &self.held {
            slot.heard(clock::now());
        }
    }

    /// Takes note of what passes, and of the end as soon as it is certain: nobody asks for more after the
    /// last byte of a known length.
    fn see(&mut self, data: &[u8]) {
        if self.ending != Ending::Http {
            let events = self.watch.see(data);
            self.scaler.account.events(events);
            if let Some((slot, _)) = &mut self.held {
                slot.passed_on(events);
            }
        }
        if self.held.as_ref().is_some_and(|(_, reply)| reply.is_end()) && self.is_whole() {
            self.finished();
        }
    }

    fn is_whole(&self) -> bool {
        self.ending != Ending::EventsUntilDone || self.watch.is_done()
    }

    fn has_said_done(&self) -> bool {
        self.ending == Ending::EventsUntilDone && self.watch.is_done()
    }

    /// The replica is gone, or stopped in the middle; or the gateway has to.
    fn broken(&mut self, why: &str, context: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let stopping = self.scaler.stopping.is_cancelled();
        let cause = if stopping { Cause::GatewayStopping } else { Cause::ReplicaDiedMidStream };
        self.scaler.fail(cause);
        if let Some((slot, _)) = self.held.take() {
            let (scaler, replica) = (self.scaler.id.as_str(), slot.link.replica.as_str());
            tracing::warn!(scaler, replica, why, "an answer was cut in the middle");
        }
        if self.ending == Ending::Http {
            // Only a broken connection tells the client that the answer is not whole. What it has of the answer may not
            // have been sent yet, and a client that is hung up on without a word knows less.
            self.breaks = Some(why.into());
            context.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(Some(Ok(Frame::data(error_event(cause, self.watch.is_between_events())))))
        }
    }

    fn finished(&mut self) {
        let Some((slot, reply)) = self.held.take() else { return };
        if self.is_server_error {
            self.scaler.fail(Cause::UpstreamError);
        } else {
            self.scaler.account.succeed();
        }
        slot.link.connections.put_back(reply);
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
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(why) = self.breaks.take() {
            return Poll::Ready(Some(Err(why)));
        }
        let Self { held, gone, scaler, .. } = &mut *self;
        let Some((slot, reply)) = held else {
            return Poll::Ready(None);
        };
        let polled = reply.poll_data(context);
        if polled.is_pending() {
            // A replica that hangs is given up when the controller says that it is gone.
            ready!(gone.poll(&slot.link.gone, &scaler.stopping, context));
        }
        let why = match polled {
            Poll::Ready(Some(Ok(data))) => {
                self.heard();
                self.see(&data);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            Poll::Ready(None) if self.is_whole() => {
                self.finished();
                return Poll::Ready(None);
            }
            Poll::Ready(None) => "the stream ended without [DONE]".to_owned(),
            Poll::Ready(Some(Err(error))) => error.to_string(),
            Poll::Pending => "the replica is gone, or the gateway stops".to_owned(),
        };
        if self.has_said_done() {
            // Whatever goes wrong after the last event is no harm to anybody.
            self.finished();
            return Poll::Ready(None);
        }
        self.broken(&why, context)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.first.is_none() && self.breaks.is_none()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.held.is_none() {
            return;
        }
        // Many clients hang up right after `[DONE]`, before the end of the body.
        if self.has_said_done() {
            self.scaler.account.succeed();
        } else if self.pace.is_too_slow() {
            self.scaler.fail(Cause::ClientTooSlow);
        } else {
            self.scaler.fail(Cause::ClientLeft);
        }
        // Dropping the reply closes its connection, or resets its stream, which stops the generation.
    }
}
