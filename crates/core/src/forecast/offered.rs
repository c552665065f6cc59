//! Offered load: how many requests would be worked on at a time if none had to wait.
//!
//! Work is conserved: what arrived in a step is what was served plus what the queue grew by, so
//! `offered = mean(in flight) + Δqueue × service time / Δt`. Unlike the number of requests in the system it does
//! not confuse a backlog with demand.

use serde::{Deserialize, Serialize};

use super::STEP;
use crate::Timestamp;

/// Averages the offered load over steps of [`STEP`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfferedLoad {
    /// Where the open step began.
    open: Option<Look>,
    /// Request-seconds served and requests completed, with the weight of an hour's memory.
    served_seconds: f64,
    completed: f64,
}

/// What was counted at one moment: finite, and not negative. Totals only grow, but for a restart of who counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Look {
    /// When.
    pub at: Timestamp,
    /// Requests that wait.
    pub queued: f64,
    /// Requests being worked on.
    pub in_flight: f64,
    /// Request-seconds worked so far; `None` where nobody counts them.
    pub busy_seconds_total: Option<f64>,
    /// Requests completed so far; `None` where nobody counts them.
    pub completed_total: Option<f64>,
}

impl OfferedLoad {
    /// The memory of the mean service time, in seconds.
    const SERVICE_MEMORY_SECONDS: f64 = 3_600.0;
    /// More requests at a time than any service has. What is learned from a number must stay a number.
    const MOST: f64 = 1e9;

    /// Takes in a look. Returns the offered load, in requests at a time, and the number of steps it stands for,
    /// when at least one step has passed since the last one that was returned. A clock that stepped back begins a
    /// step anew: else nothing would be seen until it has caught up.
    pub fn observe(&mut self, look: Look) -> Option<(f64, u32)> {
        let Some(open) = self.open.filter(|open| open.at <= look.at) else {
            self.open = Some(look);
            return None;
        };
        let span = look.at.since(open.at);
        if span < STEP {
            return None;
        }
        let seconds = span.as_secs_f64();
        self.open = Some(look);
        let grown = |now: Option<f64>, before: Option<f64>| now.zip(before).map(|(now, before)| now - before);
        let busy = grown(look.busy_seconds_total, open.busy_seconds_total).filter(|busy| *busy >= 0.0);
        let completed = grown(look.completed_total, open.completed_total).filter(|count| *count >= 0.0);
        if let (Some(busy), Some(completed)) = (busy, completed) {
            let kept = (-seconds / Self::SERVICE_MEMORY_SECONDS).exp();
            self.served_seconds = self.served_seconds * kept + busy;
            self.completed = self.completed * kept + completed;
        }
        let steps = u32::try_from(span.as_millis() / STEP.as_millis()).unwrap_or(u32::MAX);
        let offered = match (busy, self.service_seconds()) {
            (Some(busy), Some(service)) => (busy + (look.queued - open.queued) * service) / seconds,
            // Without counters the requests in the system stand for the demand, a backlog included.
            _ => (look.in_flight + look.queued + open.in_flight + open.queued) / 2.0,
        };
        Some((offered.clamp(0.0, Self::MOST), steps))
    }

    /// When the open step ends; `None` before the first look.
    pub fn step_ends(&self) -> Option<Timestamp> {
        self.open.map(|open| open.at + STEP)
    }

    /// The mean time that a request is worked on; `None` before any was completed.
    pub fn service_seconds(&self) -> Option<f64> {
        (self.completed > 0.0)
            .then(|| self.served_seconds / self.completed)
            .filter(|seconds| seconds.is_finite())
    }
}
