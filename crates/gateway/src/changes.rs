//! Counts changes, and wakes whoever waits for the next one. Each request makes some, and nearly all of them find
//! nobody that waits: then it is an addition and a look, where a `watch` channel takes locks.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::sync::Notify;

/// How many changes there were.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: AtomicU64,
    changed: Notify,
}

impl Changes {
    /// So many, one of which may be under way.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(SeqCst)
    }

    /// One more.
    pub(crate) fn add(&self) {
        self.count.fetch_add(1, SeqCst);
        self.changed.notify_waiters();
    }

    /// Returns when there are others than `seen`; at once where nothing was seen yet.
    pub(crate) async fn since(&self, seen: Option<u64>) {
        loop {
            // Takes note of every change from here on, though it is awaited only below.
            let changed = self.changed.notified();
            if Some(self.count()) != seen {
                return;
            }
            changed.await;
        }
    }
}
