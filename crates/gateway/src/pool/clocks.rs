//! What a pool counts of time.

use std::time::Duration;

/// How long a pool has had a serving replica, and how long it had none, since it began.
///
/// A request is charged by the difference of two of these, so that its cold start and its wait for a slot
/// are two clocks, and nobody needs to be woken when one stops and the other runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    warm: bool,
    since: Duration,
    warm_total: Duration,
    cold_total: Duration,
}

impl Clocks {
    pub(super) fn advance(&mut self, now: Duration, warm: bool) {
        *self = Self { warm, ..self.at(now) };
    }

    /// The same clocks at `now`; time does not run backwards.
    pub fn at(mut self, now: Duration) -> Self {
        let passed = now.saturating_sub(self.since);
        if self.warm {
            self.warm_total += passed;
        } else {
            self.cold_total += passed;
        }
        self.since = self.since.max(now);
        self
    }

    /// Time with a serving replica so far.
    pub(super) fn warm_total(&self) -> Duration {
        self.warm_total
    }

    /// Whether a replica serves.
    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// Time with, and time without a serving replica since `earlier`.
    pub fn since(&self, earlier: &Self) -> (Duration, Duration) {
        (
            self.warm_total.saturating_sub(earlier.warm_total),
            self.cold_total.saturating_sub(earlier.cold_total),
        )
    }
}

/// The integral over time of the slots that are taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    pub(super) taken: u32,
    since: Duration,
    total: Duration,
}

impl Work {
    pub(super) fn at(&self, now: Duration) -> Duration {
        self.total.saturating_add(now.saturating_sub(self.since).saturating_mul(self.taken))
    }

    pub(super) fn set(&mut self, taken: u32, now: Duration) {
        *self = Self { taken, since: self.since.max(now), total: self.at(now) };
    }
}
