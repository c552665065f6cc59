//! What a run is judged by.

use std::time::Duration;

use serde::Serialize;

/// “99 % of requests see their first token within 5 s”.
///
/// A request attains it if its TTFT is at most the larger of `ttft` and twice its TTFT alone on an idle
/// replica: no autoscaler can help a prompt that takes longer by itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Objective {
    /// The bound.
    pub ttft: Duration,
}

/// What came of a run. Times are modelled.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Requests that arrived.
    pub sent: u64,
    /// Requests that attained the objective.
    pub attained: u64,
    /// Replica-hours from the request for a replica until it stopped.
    pub replica_hours: f64,
    /// Starts of replicas, those at the beginning apart.
    pub starts: u64,
    /// The most replicas that existed at once.
    pub max_replicas: u32,
    /// Median and 99th percentile of the TTFT, in seconds.
    pub ttft_seconds: [f64; 2],
    /// Decisions that changed the target.
    pub changes: u64,
}

impl Report {
    /// Share of requests that attained the objective; 1 when there were none.
    pub fn attainment(&self) -> f64 {
        if self.sent == 0 { 1.0 } else { self.attained as f64 / self.sent as f64 }
    }
}
