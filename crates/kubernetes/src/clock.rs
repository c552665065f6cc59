//! The API server's time.
//!
//! Ages of pods and moments of decisions are by the clock that wrote them, so a controller whose own clock is wrong
//! gives up no start and shortens no window, and two controllers that take turns agree.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use forewarm_control::Clock;
use forewarm_core::Timestamp;

/// A difference that counts: the API server tells its time in whole seconds, and an answer takes a while.
const TOLERATED_MILLIS: i64 = 2_000;

/// This process's clock, set by the API server's. Clones are one.
#[derive(Clone, Debug)]
pub struct ServerClock {
    own: Clock,
    ahead_millis: Arc<AtomicI64>,
}

impl ServerClock {
    /// A clock that nobody has set yet.
    pub fn new(own: Clock) -> Self {
        Self { own, ahead_millis: Arc::default() }
    }

    /// Now, by the API server's clock.
    pub fn now(&self) -> Timestamp {
        let now = self.own.now().as_millis().saturating_add(self.ahead_millis.load(Relaxed));
        Timestamp::from_millis(now)
    }

    /// The API server has just written this whole second down. Whether the clock was wrong.
    pub fn set(&self, second: Timestamp) -> bool {
        let middle = second.as_millis().saturating_add(500);
        let off = middle.saturating_sub(self.now().as_millis());
        let is_wrong = off.abs() > TOLERATED_MILLIS;
        if is_wrong {
            let before = self.ahead_millis.fetch_add(off, Relaxed);
            tracing::warn!(
                seconds = (before + off) / 1000,
                "the API server's clock is ahead by this; its time counts"
            );
        }
        is_wrong
    }
}
