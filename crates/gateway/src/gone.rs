//! A replica that the controller says is gone: what it still sends is passed on, and nothing else is waited for.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Longest silence on the wall, once the replica is gone, until its answer counts as cut: what it sent before it died
/// is at the gateway's socket already.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Waits for the end of what a gone replica has sent.
#[derive(Default)]
pub(crate) struct Gone {
    /// Waits for it, from the first time on that there is something to wait for.
    waiting: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Runs once it is gone; anew with each word.
    silence: Option<Pin<Box<Sleep>>>,
}

impl Gone {
    /// The replica said something.
    pub(crate) fn heard(&mut self) {
        if let Some(silence) = &mut self.silence {
            silence.as_mut().reset(tokio::time::Instant::now() + LAST_WORDS);
        }
    }

    /// Ready when nothing more is to be expected. `gone`, the same at each call, is cancelled with `stopping`, too; then
    /// nothing is waited for.
    pub(crate) fn poll(
        &mut self,
        gone: &CancellationToken,
        stopping: &CancellationToken,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if self.silence.is_none() {
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(gone.clone().cancelled_owned()));
            ready!(waiting.as_mut().poll(context));
            if stopping.is_cancelled() {
                return Poll::Ready(());
            }
        }
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_WORDS)));
        silence.as_mut().poll(context)
    }
}
