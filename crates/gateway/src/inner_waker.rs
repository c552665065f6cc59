//! A waker for two ends of a channel that are polled together.
//!
//! A connection hands what it reads to whoever reads it through channels, which wake the other end. Where both ends
//! belong to one task, that would have the task polled once more for nothing, for each piece of a stream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Times that it is polled at most before others get their turn: enough for what one event sets off.
const MOST_POLLS: u32 = 8;

/// Wakes the task, except while it polls: then it polls once more at once.
#[derive(Debug)]
pub(crate) struct InnerWaker {
    shared: Arc<Shared>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Shared {
    task: AtomicWaker,
    polling: AtomicBool,
    woken: AtomicBool,
}

impl Default for InnerWaker {
    fn default() -> Self {
        let shared = Arc::<Shared>::default();
        Self { waker: Waker::from(Arc::clone(&shared)), shared }
    }
}

impl InnerWaker {
    /// Polls until it is ready, or nothing in it has woken it while it was polled.
    pub(crate) fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.shared.task.register(context.waker());
        let mut inner = Context::from_waker(&self.waker);
        for _ in 0..MOST_POLLS {
            self.shared.polling.store(true, SeqCst);
            self.shared.woken.store(false, SeqCst);
            let polled = poll(&mut inner);
            self.shared.polling.store(false, SeqCst);
            // Whoever gets something asks again, and is not to be woken for what it will see then.
            if polled.is_ready() || !self.shared.woken.load(SeqCst) {
                return polled;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Wakes nobody any more, until it is polled again.
    pub(crate) fn forget(&mut self) {
        drop(self.shared.task.take());
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if !self.polling.load(SeqCst) {
            self.task.wake();
        }
    }
}
