//! How late the engine's loop runs behind its model, so that a demo can say when the machine can't keep up.

use std::time::Duration;

use tokio::time::Instant;

/// "Recent" is this long, give or take half.
const WINDOW: Duration = Duration::from_secs(10);

/// Buckets of the lag histogram: powers of two of 0.1 ms, up to about 54 minutes.
const BUCKETS: usize = 25;

/// Lag of the recent past, in wall seconds.
#[derive(Clone, Debug)]
pub(crate) struct LagMeter {
    rotated: Instant,
    current: Window,
    previous: Window,
}

#[derive(Clone, Debug, Default)]
struct Window {
    worst: Duration,
    counts: [u64; BUCKETS],
}

impl LagMeter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { rotated: now, current: Window::default(), previous: Window::default() }
    }

    /// Notes a wake-up that was `lag` late.
    pub(crate) fn record(&mut self, now: Instant, lag: Duration) {
        self.rotate(now);
        self.current.worst = self.current.worst.max(lag);
        self.current.counts[bucket(lag)] += 1;
    }

    /// The worst lag of the recent past.
    pub(crate) fn worst(&mut self, now: Instant) -> Duration {
        self.rotate(now);
        self.current.worst.max(self.previous.worst)
    }

    /// The recent past's 99th percentile, rounded up to a bucket's edge (at most a factor of two) and capped at the
    /// worst.
    pub(crate) fn p99(&mut self, now: Instant) -> Duration {
        let worst = self.worst(now);
        let counts: Vec<u64> =
            self.current.counts.iter().zip(&self.previous.counts).map(|(a, b)| a + b).collect();
        let total: u64 = counts.iter().sum();
        let mut seen = 0;
        for (index, count) in counts.iter().enumerate() {
            seen += count;
            if total > 0 && seen * 100 >= total * 99 {
                return Duration::from_micros(100 << index).min(worst);
            }
        }
        worst
    }

    fn rotate(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.rotated);
        if age < WINDOW / 2 {
            return;
        }
        self.previous = if age < WINDOW { std::mem::take(&mut self.current) } else { Window::default() };
        self.current = Window::default();
        self.rotated = now;
    }
}

fn bucket(lag: Duration) -> usize {
    let tenths = lag.as_micros().div_ceil(100).max(1);
    (tenths.next_power_of_two().trailing_zeros() as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_lag_is_remembered_for_a_while_and_then_forgotten() {
        let start = Instant::now();
        let mut meter = LagMeter::new(start);
        for _ in 0..990 {
            meter.record(start, Duration::from_millis(1));
        }
        for _ in 0..10 {
            meter.record(start, Duration::from_millis(500));
        }
        assert_eq!(meter.worst(start), Duration::from_millis(500));
        assert_eq!(meter.p99(start), Duration::from_micros(1600), "1 ms, rounded up to a bucket");
        let later = start + Duration::from_secs(6);
        assert_eq!(meter.worst(later), Duration::from_millis(500));
        let much_later = start + Duration::from_secs(60);
        assert_eq!(meter.worst(much_later), Duration::ZERO);
        assert_eq!(meter.p99(much_later), Duration::ZERO);
    }
}
