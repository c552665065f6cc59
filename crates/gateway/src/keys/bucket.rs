//! A quota a minute, as a bucket that refills steadily.
//!
//! Our own rather than `governor`: what a request costs is known only after it, so the bucket can be overdrawn, and
//! an estimate that was too high is given back.

use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// What is left of a quota.
#[derive(Debug)]
pub(super) struct Bucket {
    per_minute: f64,
    /// Below 0 when overdrawn.
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full one, of at least 1 a minute.
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        let per_minute = f64::from(per_minute.max(1));
        Self { per_minute, level: per_minute, at: now }
    }

    /// Another quota from now on; what was used stays used.
    pub(super) fn retune(&mut self, per_minute: u32, now: Instant) {
        self.refill(now);
        let used = self.per_minute - self.level;
        self.per_minute = f64::from(per_minute.max(1));
        self.level = self.per_minute - used;
    }

    /// Takes an amount, or says how long it is until that could be taken. More than a minute's worth needs a full
    /// bucket, and overdraws it: it is slow then, but not refused for ever.
    pub(super) fn take(&mut self, amount: f64, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        let needed = amount.min(self.per_minute);
        if self.level >= needed {
            self.level -= amount;
            return Ok(());
        }
        Err(self.span(needed - self.level))
    }

    /// Takes what was used already, or gives back what was not (`amount` below 0).
    pub(super) fn charge(&mut self, amount: f64, now: Instant) {
        self.refill(now);
        self.level = (self.level - amount).min(self.per_minute);
    }

    /// The quota, what is left of it in whole units, and the time until it is full again.
    pub(super) fn show(&mut self, now: Instant) -> (u64, u64, Duration) {
        self.refill(now);
        (self.per_minute as u64, self.level.max(0.0) as u64, self.span(self.per_minute - self.level))
    }

    fn refill(&mut self, now: Instant) {
        let flown = now.saturating_duration_since(self.at).as_secs_f64() / MINUTE.as_secs_f64();
        self.level = (self.level + flown * self.per_minute).min(self.per_minute);
        self.at = self.at.max(now);
    }

    /// How long it takes for an amount to flow in.
    fn span(&self, amount: f64) -> Duration {
        MINUTE.mul_f64((amount / self.per_minute).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_minutes_worth_at_once_and_then_as_it_flows_in() {
        let start = Instant::now();
        let mut bucket = Bucket::new(60, start);
        for _ in 0..60 {
            bucket.take(1.0, start).unwrap();
        }
        assert_eq!(bucket.take(1.0, start), Err(Duration::from_secs(1)));
        assert_eq!(bucket.show(start), (60, 0, MINUTE));
        bucket.take(1.0, start + Duration::from_secs(1)).unwrap();
        bucket.take(1.0, start + Duration::from_secs(1)).unwrap_err();
    }

    #[test]
    fn what_is_known_afterwards_overdraws_and_what_was_too_much_comes_back() {
        let start = Instant::now();
        let mut bucket = Bucket::new(600, start);
        bucket.take(100.0, start).unwrap();
        bucket.charge(700.0, start);
        assert_eq!(
            bucket.take(100.0, start),
            Err(Duration::from_secs(30)),
            "200 in debt, 100 wanted, 10 a second"
        );
        bucket.charge(-250.0, start);
        bucket.take(50.0, start).unwrap();
        bucket.charge(-1e9, start);
        assert_eq!(bucket.show(start), (600, 600, Duration::ZERO), "never more than it holds");
        bucket.take(6_000.0, start).unwrap();
        assert_eq!(
            bucket.take(1.0, start),
            Err(Duration::from_millis(540_100)),
            "what is more than it holds takes its time"
        );
    }

    #[test]
    fn another_quota_forgets_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, start);
        bucket.take(80.0, start).unwrap();
        bucket.retune(50, start);
        assert_eq!(bucket.show(start).1, 0);
        bucket.retune(200, start);
        assert_eq!(bucket.show(start).1, 120);
    }

    proptest! {
        #[test]
        fn who_waits_as_long_as_told_gets_in(
            per_minute in 1_u32..100_000,
            spent in prop::collection::vec(0.0_f64..10_000.0, 0..8),
            amount in 1.0_f64..10_000.0,
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(per_minute, start);
            for spent in spent {
                bucket.charge(spent, start);
            }
            if let Err(wait) = bucket.take(amount, start) {
                prop_assert!(bucket.take(amount, start + wait / 2).is_err(), "not half as long");
                // A client waits for whole seconds, rounded up.
                prop_assert!(bucket.take(amount, start + wait + Duration::from_micros(1)).is_ok());
            }
        }
    }
}
