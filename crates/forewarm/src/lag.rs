//! How late this process's timers run: whether the machine keeps up.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

/// Time on the wall between two looks.
const INTERVAL: Duration = Duration::from_millis(10);
/// Buckets of a millisecond; the last one is for everything above.
const BUCKETS: usize = 1_000;

/// Measures in a task of its own until it is stopped.
pub(crate) struct LagMeter {
    stop: CancellationToken,
    task: JoinHandle<Vec<u64>>,
}

impl LagMeter {
    /// Starts to measure.
    pub(crate) fn start() -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(measure(stop.clone())), stop }
    }

    /// The 99th percentile of the lag, to the millisecond.
    pub(crate) async fn stop(self) -> Duration {
        self.stop.cancel();
        let buckets = self.task.await.unwrap_or_default();
        let total: u64 = buckets.iter().sum();
        let mut seen = 0;
        let p99 = buckets.iter().position(|count| {
            seen += count;
            seen as f64 >= 0.99 * total as f64
        });
        Duration::from_millis(p99.unwrap_or(0) as u64)
    }
}

async fn measure(stop: CancellationToken) -> Vec<u64> {
    let mut buckets = vec![0; BUCKETS];
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let due: Instant = tokio::select! {
            () = stop.cancelled() => return buckets,
            due = ticks.tick() => due,
        };
        let late = usize::try_from(due.elapsed().as_millis()).unwrap_or(BUCKETS);
        buckets[late.min(BUCKETS - 1)] += 1;
    }
}
