//! Sliding windows over one-second buckets: averages, and a maximum (`pkg/autoscaler/aggregation`).

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The weights of a weighted average add up to at least this.
const WEIGHT_PRECISION: f64 = 0.9999;
/// The slowest decay, so that very long windows still prefer the present.
const MIN_DECAY: f64 = 0.2;
/// Averages are rounded to this many digits.
const ROUNDING: f64 = 1e6;

/// How a window weighs its buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Aggregation {
    /// All alike.
    Linear,
    /// The recent ones more.
    WeightedExponential,
}

/// An average over the last `window`, in buckets of `granularity`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AverageWindow {
    aggregation: Aggregation,
    buckets: Vec<f64>,
    #[serde(rename = "windowSeconds", with = "crate::time::seconds")]
    window: Duration,
    #[serde(rename = "granularitySeconds", with = "crate::time::seconds")]
    granularity: Duration,
    /// The bucket of the first write since the window was last empty.
    first_write: Option<i64>,
    last_write: Option<i64>,
    /// The sum of all buckets, kept as writes come: its rounding is part of the semantics.
    total: f64,
}

impl AverageWindow {
    /// The size of Knative's buckets (`BucketSize`).
    pub const GRANULARITY: Duration = Duration::from_secs(1);
    /// More buckets than this are surely a mistake: Knative's own longest window is one hour of seconds.
    pub const MAX_BUCKETS: usize = 1 << 16;

    /// An empty window.
    pub fn new(aggregation: Aggregation, window: Duration, granularity: Duration) -> Self {
        let granularity = granularity.max(Duration::from_millis(1));
        let window = covered(window, granularity);
        Self {
            aggregation,
            buckets: vec![0.0; bucket_count(window, granularity)],
            window,
            granularity,
            first_write: None,
            last_write: None,
            total: 0.0,
        }
    }

    /// The window.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Whether nothing was recorded within the window.
    pub fn is_empty(&self, now: Timestamp) -> bool {
        let now = self.bucket(now);
        self.last_write.is_none_or(|last| self.span(now - last) > self.window_millis())
    }

    /// Adds `value` at `at`, which may be before earlier writes; older than the window it is dropped.
    pub fn record(&mut self, at: Timestamp, value: f64) {
        let bucket = self.bucket(at);
        if self.last_write != Some(bucket) {
            let since_last = self.last_write.map(|last| self.span(bucket - last));
            if since_last.is_some_and(|since| since + self.window_millis() <= 0) {
                return;
            }
            if self.first_write.is_none_or(|first| first > bucket) {
                self.first_write = Some(bucket);
            }
            match self.last_write {
                Some(last) if bucket <= last => {}
                Some(last) if self.span(bucket - last) < self.window_millis() => {
                    for gap in last + 1..=bucket {
                        let index = self.index(gap);
                        self.total -= self.buckets[index];
                        self.buckets[index] = 0.0;
                    }
                    self.last_write = Some(bucket);
                }
                Some(_) | None => {
                    self.first_write = Some(bucket);
                    self.buckets.fill(0.0);
                    self.total = 0.0;
                    self.last_write = Some(bucket);
                }
            }
        }
        let index = self.index(bucket);
        self.buckets[index] += value;
        self.total += value;
    }

    /// The average; 0 when nothing was recorded within the window.
    pub fn average(&self, now: Timestamp) -> f64 {
        let Some(last) = self.last_write else { return 0.0 };
        match self.aggregation {
            Aggregation::Linear => self.linear(self.bucket(now), last),
            Aggregation::WeightedExponential if self.is_empty(now) => 0.0,
            Aggregation::WeightedExponential => self.weighted(self.bucket(now), last),
        }
    }

    fn linear(&self, now: i64, last: i64) -> f64 {
        let written = (last - self.first_write.unwrap_or(last)) as f64 + 1.0;
        let len = self.buckets.len() as i64;
        if now <= last {
            return round(self.total / written.min(len as f64));
        }
        if self.span(now - last) >= self.window_millis() {
            return 0.0;
        }
        let expired = (last + 1..=now).fold(0.0, |sum, bucket| sum + self.buckets[self.index(bucket)]);
        // Subtracting the sum at once is as exact as the six digits that are kept.
        round((self.total - expired) / written.min((len - (now - last)) as f64))
    }

    fn weighted(&self, now: i64, last: i64) -> f64 {
        let decay = decay(bucket_count(self.window, self.granularity));
        let mut weight = decay;
        let mut count = self.buckets.len() as i64;
        if now > last {
            let silent = now - last;
            weight *= (1.0 - decay).powf(silent as f64);
            count -= silent;
        }
        let mut average = 0.0;
        for back in 0..count.max(0) {
            average += self.buckets[self.index(last - back)] * weight;
            weight *= 1.0 - decay;
        }
        average
    }

    /// Changes the window, keeping what still fits.
    pub fn resize(&mut self, now: Timestamp, window: Duration) {
        let window = covered(window, self.granularity);
        if window == self.window {
            return;
        }
        let mut resized = vec![0.0; bucket_count(window, self.granularity)];
        let mut total = 0.0;
        let (old_len, new_len) = (self.buckets.len(), resized.len());
        match self.last_write.filter(|last| self.span(self.bucket(now) - last) <= self.window_millis()) {
            Some(last) => {
                for back in 0..old_len.min(new_len) as i64 {
                    let value = self.buckets[self.index(last - back)];
                    resized[(last - back).rem_euclid(new_len as i64) as usize] = value;
                    total += value;
                }
                self.first_write = Some(last - (old_len as i64 - 1));
            }
            None => self.first_write = None,
        }
        self.window = window;
        self.buckets = resized;
        self.total = total;
    }

    fn bucket(&self, at: Timestamp) -> i64 {
        // Far beyond any clock, and near enough to zero that every difference is a number.
        const FAR: i64 = i64::MAX / 4;
        at.as_millis().clamp(-FAR, FAR).div_euclid(millis(self.granularity))
    }

    fn index(&self, bucket: i64) -> usize {
        bucket.rem_euclid(self.buckets.len() as i64) as usize
    }

    fn span(&self, buckets: i64) -> i64 {
        buckets.saturating_mul(millis(self.granularity))
    }

    fn window_millis(&self) -> i64 {
        millis(self.window)
    }
}

/// The part of a window that the most buckets cover.
fn covered(window: Duration, granularity: Duration) -> Duration {
    window.min(granularity.saturating_mul(AverageWindow::MAX_BUCKETS as u32))
}

fn bucket_count(window: Duration, granularity: Duration) -> usize {
    // At least one, so that an index always exists.
    ((window.as_secs_f64() / granularity.as_secs_f64()).ceil() as usize).clamp(1, AverageWindow::MAX_BUCKETS)
}

fn decay(buckets: usize) -> f64 {
    (1.0 - (1.0 - WEIGHT_PRECISION).powf(1.0 / buckets as f64)).max(MIN_DECAY)
}

fn round(value: f64) -> f64 {
    (value * ROUNDING).round() / ROUNDING
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// The maximum over the last buckets, by the descending-maxima algorithm
/// (`pkg/autoscaler/aggregation/max`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MaxWindow {
    /// Descending values with ascending buckets.
    maxima: VecDeque<(i64, i32)>,
    buckets: i64,
    granularity_seconds: i64,
}

impl MaxWindow {
    /// The decider's tick, which is the size of its buckets (`tickInterval`).
    pub const GRANULARITY_SECONDS: i64 = 2;

    /// An empty window of `span`, in clock-aligned buckets of two seconds.
    pub fn new(span: Duration) -> Self {
        let buckets = (span.as_secs_f64() / Self::GRANULARITY_SECONDS as f64).ceil() as i64;
        Self {
            maxima: VecDeque::new(),
            buckets: buckets.max(1),
            granularity_seconds: Self::GRANULARITY_SECONDS,
        }
    }

    /// Adds `value` at `at`.
    pub fn record(&mut self, at: Timestamp, mut value: i32) {
        let bucket = at.as_millis().div_euclid(1000).div_euclid(self.granularity_seconds);
        while self.maxima.back().is_some_and(|(_, last)| value >= *last) {
            self.maxima.pop_back();
        }
        while self.maxima.front().is_some_and(|(first, _)| bucket - first >= self.buckets) {
            self.maxima.pop_front();
        }
        if let Some((_, last)) = self.maxima.pop_back_if(|(last, _)| *last == bucket) {
            value = value.max(last);
        }
        self.maxima.push_back((bucket, value));
    }

    /// The maximum; 0 before the first value. Values leave when later ones are recorded.
    pub fn current(&self) -> i32 {
        self.maxima.front().map_or(0, |(_, value)| *value)
    }
}
