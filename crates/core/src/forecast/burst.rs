//! What a burst needs that is shorter than a step: short requests come dozens at once, and the mean of a step hides them.
//!
//! Work that arrives within some time need not be worked on within it: each request may wait for [`PATIENCE`]. So a capacity *c*
//! is enough when no stretch of the step, *t* long, brings more than *c* × (*t* + patience) of work. That is the processor demand
//! criterion of deadline scheduling (Baruah, Rosier, Howell 1990), for deadlines that all are as far away.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A request waits for so long and is still in time, by the objectives of seconds that interactive use has.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Work that arrived within a part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Part {
    pub(super) seconds: f64,
    /// In request-seconds.
    pub(super) work: f64,
}

/// The load of a step, all in requests at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLoad {
    mean: f64,
    seconds: f64,
    parts: Vec<Part>,
}

impl StepLoad {
    /// As much at all times of a step.
    pub fn even(mean: f64) -> Self {
        Self { mean, seconds: super::STEP.as_secs_f64(), parts: Vec::new() }
    }

    pub(super) fn of_parts(mean: f64, seconds: f64, parts: Vec<Part>) -> Self {
        Self { mean, seconds, parts }
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// With so much capacity nobody waits for longer than [`PATIENCE`]; the mean at least, for a load that stays.
    pub fn needed(&self) -> f64 {
        let patience = PATIENCE.as_secs_f64();
        self.stretches().map(|part| part.work / (part.seconds + patience)).fold(self.mean, f64::max)
    }

    /// The load of its part that had most: what is needed if that came all at once.
    pub fn at_once(&self) -> f64 {
        let patience = PATIENCE.as_secs_f64();
        self.parts.iter().map(|part| part.work / part.seconds.max(patience)).fold(self.mean, f64::max)
    }

    /// What comes too late with this capacity.
    pub fn excess(&self, capacity: f64) -> f64 {
        let patience = PATIENCE.as_secs_f64();
        let late = |part: Part| (part.work - capacity * (part.seconds + patience)) / self.seconds;
        self.stretches().map(late).fold(self.mean - capacity, f64::max).max(0.0)
    }

    /// Every run of parts, as one.
    fn stretches(&self) -> impl Iterator<Item = Part> {
        (0..self.parts.len()).flat_map(|first| {
            self.parts.iter().skip(first).scan(Part { seconds: 0.0, work: 0.0 }, |all, part| {
                *all = Part { seconds: all.seconds + part.seconds, work: all.work + part.work };
                Some(*all)
            })
        })
    }
}
