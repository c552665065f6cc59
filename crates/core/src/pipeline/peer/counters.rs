//! How counters grew: the memory behind `rate(…[2m])` and “requests of the last minute”.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{SignalName, Timestamp};

/// Every counter that a policy asked for, by signal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Counters(BTreeMap<SignalName, Counter>);

/// One counter as it was read, resets taken out. Bounded by the longest window asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Counter {
    /// The last reading as it was.
    last: f64,
    #[serde(rename = "keepSeconds", with = "crate::time::seconds")]
    keep: Duration,
    /// Readings without the resets, oldest first.
    readings: VecDeque<(Timestamp, f64)>,
}

impl Counters {
    /// Takes note of a reading and gives the counter, with a memory of `window` at least.
    pub(super) fn read(&mut self, name: &str, now: Timestamp, value: f64, window: Duration) -> &Counter {
        let counter = self.0.entry(SignalName::from(name)).or_default();
        counter.take(now, value, window);
        counter
    }
}

impl Counter {
    fn take(&mut self, now: Timestamp, value: f64, window: Duration) {
        self.keep = self.keep.max(window);
        let grown = match self.readings.back() {
            // The first reading says nothing about what came before it.
            None => 0.0,
            // A counter that went backwards restarted with its process: all it shows is new.
            Some((_, total)) => total + if value < self.last { value } else { value - self.last },
        };
        self.last = value;
        match self.readings.back_mut() {
            Some((at, total)) if *at == now => *total = grown,
            _ => self.readings.push_back((now, grown)),
        }
        // One reading from before the window stays: what grew since it is what grew within.
        while self.readings.get(1).is_some_and(|(at, _)| *at <= now - self.keep) {
            self.readings.pop_front();
        }
    }

    /// The slope over the readings within `window`, as Prometheus' `rate` has it where they fill the
    /// window; `None` before there are two.
    pub(super) fn per_second(&self, window: Duration) -> Option<f64> {
        let (now, total) = self.readings.back()?;
        let (then, before) = self.readings.iter().find(|(at, _)| *at > *now - window)?;
        let span = now.since(*then).as_secs_f64();
        (span > 0.0).then(|| (total - before) / span)
    }

    /// How much it grew within `window`.
    pub(super) fn growth(&self, window: Duration) -> f64 {
        let Some((now, total)) = self.readings.back() else { return 0.0 };
        let base = self.readings.iter().take_while(|(at, _)| *at <= *now - window).last();
        total - base.or(self.readings.front()).map_or(0.0, |(_, before)| *before)
    }

    /// The growth since the reading before the last, per second; `None` before there are two.
    pub(super) fn last_rate(&self) -> Option<f64> {
        let (now, total) = self.readings.back()?;
        let (then, before) = self.readings.iter().rev().nth(1)?;
        let span = now.since(*then).as_secs_f64();
        (span > 0.0).then(|| (total - before) / span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn growth_is_counted_within_the_window_and_across_resets() {
        let mut counters = Counters::default();
        let mut read = |t: u64, value: f64| {
            let now = Timestamp::from_millis(t as i64 * 1000);
            let counter = counters.read("arrivals_total", now, value, seconds(60));
            (counter.growth(seconds(60)), counter.per_second(seconds(60)), counter.readings.len())
        };
        assert_eq!(read(0, 100.0), (0.0, None, 1));
        assert_eq!(read(20, 140.0), (40.0, Some(2.0), 2));
        assert_eq!(read(40, 10.0), (50.0, Some(1.25), 3));
        assert_eq!(read(60, 10.0), (50.0, Some(0.25), 4), "rate leaves out the edge of the window");
        assert_eq!(read(80, 10.0), (10.0, Some(0.0), 4));
        assert_eq!(read(400, 11.0).2, 2);
    }
}
