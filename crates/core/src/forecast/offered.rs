//! Offered load: how many requests would be worked on at a time if none had to wait.
//!
//! Work is conserved: what arrived in a step is what was served plus what the queue grew by, so
//! `offered = mean(in flight) + Δqueue × service time / Δt`. Unlike the number of requests in the system it does
//! not confuse a backlog with demand.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    STEP,
    burst::{PATIENCE, Part, StepLoad},
};
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
    /// Where its open part began, and the parts before it.
    #[serde(default)]
    part: Option<Look>,
    #[serde(default)]
    parts: Vec<Part>,
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

    /// Takes in a look. Returns the offered load and the number of steps it stands for, when at least one step has passed since
    /// the last one that was returned. A clock that stepped back begins a step anew: else nothing would be seen until it has
    /// caught up.
    pub fn observe(&mut self, look: Look) -> Option<(StepLoad, u32)> {
        let Some(open) = self.open.filter(|open| open.at <= look.at) else {
            self.begin(look);
            return None;
        };
        let part = self.part.filter(|part| open.at <= part.at && part.at <= look.at).unwrap_or(open);
        let span = look.at.since(open.at);
        if span < STEP && look.at.since(part.at) < self.part_length() {
            return None;
        }
        if let Some((busy, service)) = look.busy_since(&part).zip(self.service_seconds()) {
            let seconds = look.at.since(part.at).as_secs_f64();
            let work = (busy + (look.queued - part.queued) * service).clamp(0.0, Self::MOST * seconds);
            self.parts.push(Part { seconds, work });
        }
        self.part = Some(look);
        if span < STEP {
            return None;
        }
        let seconds = span.as_secs_f64();
        let parts = self.begin(look);
        let busy = look.busy_since(&open);
        let completed = grown(look.completed_total, open.completed_total);
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
        let offered = offered.clamp(0.0, Self::MOST);
        // Of a gap only its mean is known.
        let load =
            if steps == 1 { StepLoad::of_parts(offered, seconds, parts) } else { StepLoad::even(offered) };
        Some((load, steps))
    }

    /// Begins a step, and its first part; returns the parts of the one before.
    fn begin(&mut self, look: Look) -> Vec<Part> {
        (self.open, self.part) = (Some(look), Some(look));
        std::mem::take(&mut self.parts)
    }

    /// How long a part of a step is: a burst of requests that take longer is no burst by the time that they are worked on.
    fn part_length(&self) -> Duration {
        let service = self.service_seconds().unwrap_or(f64::INFINITY).max(PATIENCE.as_secs_f64());
        // `as` saturates, and there is a part at least.
        STEP / ((STEP.as_secs_f64() / service) as u32).max(1)
    }

    /// When to look next, at the latest; `None` before the first look. The step is looked at in parts while there is work.
    pub fn look_next_at(&self) -> Option<Timestamp> {
        let open = self.open?.at + STEP;
        let part = self.part.filter(|part| part.queued + part.in_flight > 0.0);
        Some(part.map_or(open, |part| open.min(part.at + self.part_length())))
    }

    /// The mean time that a request is worked on; `None` before any was completed.
    pub fn service_seconds(&self) -> Option<f64> {
        (self.completed > 0.0)
            .then(|| self.served_seconds / self.completed)
            .filter(|seconds| seconds.is_finite())
    }
}

impl Look {
    /// Request-seconds worked since; `None` where nobody counts them, or they were counted anew.
    fn busy_since(&self, before: &Look) -> Option<f64> {
        grown(self.busy_seconds_total, before.busy_seconds_total)
    }
}

/// What a total grew by; `None` where nobody counts, or whoever does began anew.
fn grown(now: Option<f64>, before: Option<f64>) -> Option<f64> {
    now.zip(before).map(|(now, before)| now - before).filter(|grown| *grown >= 0.0)
}
