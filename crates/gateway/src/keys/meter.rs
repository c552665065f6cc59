//! Follows an answer to its end, and counts what it cost its tenant.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::{Pass, usage::Usage};
use crate::{
    answer::{Body, BodyError},
    message::ResponseHead,
    sse::{Watch, is_event_stream},
};

/// The body of an answer, with the tenant's pass.
pub(crate) struct Metered {
    inner: Body,
    pass: Pass,
    /// Nothing is looked at where no tokens are counted.
    meter: Option<Meter>,
}

struct Meter {
    is_success: bool,
    /// Of an event stream, whose events are its tokens until it says a number.
    watch: Option<Watch>,
    events: u64,
    usage: Usage,
}

impl Metered {
    pub(super) fn new(pass: Pass, head: &ResponseHead, inner: Body) -> Self {
        let meter = pass.counts_tokens().then(|| Meter {
            is_success: head.status.is_success(),
            watch: is_event_stream(&head.headers).then(Watch::default),
            events: 0,
            usage: Usage::default(),
        });
        Self { inner, pass, meter }
    }

    pub(super) fn boxed(self) -> Body {
        self.boxed_unsync()
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        let this = &mut *self;
        if let (Poll::Ready(Some(Ok(frame))), Some(meter)) = (&polled, &mut this.meter)
            && let Some(data) = frame.data_ref()
        {
            meter.usage.see(data);
            let events = meter.watch.as_mut().map_or(0, |watch| watch.see(data));
            if events > 0 {
                meter.events += events;
                this.pass.charge(events as f64);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Metered {
    /// However it ended: what was generated was generated.
    fn drop(&mut self) {
        let Some(meter) = self.meter.as_ref().filter(|meter| meter.is_success) else { return };
        let estimated = std::mem::take(&mut self.pass.estimated);
        let completed = meter.usage.number("completion_tokens").unwrap_or(meter.events);
        let prompt = meter.usage.number("prompt_tokens").map_or(estimated, |tokens| tokens as f64);
        self.pass.charge(completed as f64 - meter.events as f64 + prompt - estimated);
        self.pass.count(completed + prompt as u64);
    }
}
