//! The numbers of a run.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::account::Account;

/// What came of a run. Latencies are modelled seconds, and of requests that succeeded.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// The account of requests.
    pub requests: Account,
    /// Latencies.
    pub latency_seconds: Latencies,
    /// How late requests were sent, in seconds on the wall: above some milliseconds the load tool was the
    /// bottleneck, and the numbers are not the product's.
    pub send_lag_wall_seconds: Quantiles,
    /// Time on the wall from the first request to the last end.
    pub wall_seconds: f64,
}

/// Latencies of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Latencies {
    /// Time to first token.
    pub ttft: Quantiles,
    /// Mean time between two tokens of a request.
    pub itl: Quantiles,
    /// From the moment a request was due to its end.
    pub e2e: Quantiles,
    /// Wait at the gateway, as it says.
    pub queue_wait: Quantiles,
}

/// Quantiles of a distribution, in seconds; 0 when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// A histogram of seconds, at microsecond resolution and three significant digits.
#[derive(Clone, Debug)]
pub(crate) struct Seconds(Histogram<u64>);

impl Seconds {
    /// A day, in microseconds.
    const MAX: u64 = 86_400_000_000;

    pub(crate) fn new() -> Self {
        // Three digits up to a day are bounds that the crate documents as valid.
        Self(Histogram::new_with_bounds(1, Self::MAX, 3).expect("1 µs to a day at three digits is valid"))
    }

    pub(crate) fn record(&mut self, seconds: f64) {
        self.0.saturating_record((seconds * 1e6).max(0.0) as u64);
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        let at = |q| if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(q) as f64 / 1e6 };
        Quantiles { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}
