//! Offered load: how many requests would be worked on at a time if none had to wait.
//!
//! Work is conserved: what arrived in a step is what was served plus what the queue grew by, so
//! `offered = mean(in flight) + Δqueue × service time / Δt`. Unlike the number of requests in the system it does
//! not confuse a backlog with demand.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    STEP,
    burst::{MOST_LOAD, Part, StepLoad},
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
    /// The shortest part of a step.
    const SHORTEST_PART_SECONDS: f64 = 5.0;

    /// Takes in a look at requests that may wait for `patience`. Returns the offered load and the number of steps it stands for,
    /// when at least one step has passed since the last one that was returned. A clock that stepped back begins a step anew: else
    /// nothing would be seen until it has caught up.
    pub fn observe(&mut self, look: Look, patience: Duration) -> Option<(StepLoad, u32)> {
        let began = self.part.or(self.open).filter(|part| part.at <= look.at);
        let Some((open, part)) = self.open.zip(began) else {
            self.begin(look);
            return None;
        };
        let span = look.at.since(open.at);
        self.observe_part(part, look, span >= STEP);
        if span < STEP {
            return None;
        }
        let seconds = span.as_secs_f64();
        let parts = self.begin(look);
        let busy = grown(look.busy_seconds_total, open.busy_seconds_total);
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
        let offered = offered.clamp(0.0, MOST_LOAD);
        // Of a gap only its mean is known, and so it is where nobody counts.
        let load = self
            .service_seconds()
            .filter(|_| steps == 1)
            .and_then(|service| StepLoad::of_parts(offered, &parts, service, patience))
            .unwrap_or(StepLoad::even(offered));
        Some((load, steps))
    }

    /// Ends a part that is long enough, or whose step ends. Where nothing was to be done until now, the part begins with what came.
    fn observe_part(&mut self, part: Look, look: Look, step_ends: bool) {
        let (length, passed) = (self.part_length(), look.at.since(part.at));
        let busy_seconds = grown(look.busy_seconds_total, part.busy_seconds_total);
        if part.is_idle() && !look.is_idle() && length < STEP && !step_ends {
            // As long ago as what is worked on now has been.
            let worked =
                busy_seconds.filter(|_| look.in_flight > 0.0).unwrap_or_default() / look.in_flight.max(1.0);
            let idle = passed.saturating_sub(Duration::from_secs_f64(worked.min(passed.as_secs_f64())));
            self.parts.push(Part { seconds: idle.as_secs_f64(), busy_seconds: Some(0.0), queue_grew: 0.0 });
            self.part = Some(Look { at: part.at + idle, in_flight: look.in_flight + look.queued, ..part });
        } else if step_ends || passed >= length {
            let queue_grew = look.queued - part.queued;
            self.parts.push(Part { seconds: passed.as_secs_f64(), busy_seconds, queue_grew });
            self.part = Some(look);
        }
    }

    /// Begins a step, and its first part; returns the parts of the one before.
    fn begin(&mut self, look: Look) -> Vec<Part> {
        (self.open, self.part) = (Some(look), Some(look));
        std::mem::take(&mut self.parts)
    }

    /// How long a part of a step is: a burst of requests that take longer is no burst by the time that they are worked on.
    fn part_length(&self) -> Duration {
        let service = self.service_seconds().unwrap_or(f64::INFINITY).max(Self::SHORTEST_PART_SECONDS);
        // `as` saturates, and there is a part at least.
        STEP / ((STEP.as_secs_f64() / service) as u32).max(1)
    }

    /// When to look next, at the latest; `None` before the first look. The step is looked at in parts while there is work.
    pub fn look_next_at(&self) -> Option<Timestamp> {
        let step_ends = self.open?.at + STEP;
        let part = self.part.filter(|part| !part.is_idle());
        Some(part.map_or(step_ends, |part| step_ends.min(part.at + self.part_length())))
    }

    /// The mean time that a request is worked on; `None` before any was completed.
    pub fn service_seconds(&self) -> Option<f64> {
        (self.completed > 0.0)
            .then(|| self.served_seconds / self.completed)
            .filter(|seconds| seconds.is_finite())
    }
}

impl Look {
    fn is_idle(&self) -> bool {
        self.queued + self.in_flight <= 0.0
    }
}

/// What a total grew by; `None` where nobody counts, or whoever does began anew.
fn grown(now: Option<f64>, before: Option<f64>) -> Option<f64> {
    now.zip(before).map(|(now, before)| now - before).filter(|grown| *grown >= 0.0)
}
