//! What a burst needs that is shorter than a step: short requests come dozens at once, and the mean of a step hides them.
//! A burst that reaches into the next step is two, and a step that ends within the patience of a burst makes it more sudden than it is.
//!
//! Work that arrives within some time need not be worked on within it: each request may wait for the objective's time, its
//! patience. So a capacity *c* is enough when no stretch of the step, *t* long, brings more than *c* × (*t* + patience) of work.
//! That is the processor demand criterion of deadline scheduling (Baruah, Rosier, Howell 1990), for deadlines that all are as
//! far away.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// More requests at a time than any service has. What is learned from a number must stay a number.
pub(super) const MOST_LOAD: f64 = 1e9;

/// What was counted in a part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Part {
    pub(super) seconds: f64,
    /// Request-seconds worked; `None` where nobody counts them, or they were counted anew.
    pub(super) busy_seconds: Option<f64>,
    /// Requests that the queue grew by.
    pub(super) queue_grew: f64,
}

/// Work that arrived, in request-seconds, within so long.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    seconds: f64,
    work: f64,
}

/// The load of a step, all in requests at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLoad {
    mean: f64,
    parts: Vec<Stretch>,
    /// How long a request may wait.
    patience_seconds: f64,
}

impl StepLoad {
    /// As much at all times of a step.
    pub fn even(mean: f64) -> Self {
        Self { mean, parts: Vec::new(), patience_seconds: 0.0 }
    }

    /// Of requests that take so long, and may wait for so long; `None` when a part is not known.
    pub(super) fn of_parts(
        mean: f64,
        parts: &[Part],
        service_seconds: f64,
        patience: Duration,
    ) -> Option<Self> {
        let stretch = |part: &Part| {
            let work = part.busy_seconds? + part.queue_grew * service_seconds;
            let most = MOST_LOAD * part.seconds;
            Some(Stretch { seconds: part.seconds, work: work.clamp(-most, most) })
        };
        let parts = parts.iter().map(stretch).collect::<Option<_>>()?;
        Some(Self { mean, parts, patience_seconds: patience.as_secs_f64() })
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// With so much capacity nobody waits for longer than they may; the mean at least, for a load that stays.
    pub fn needed(&self) -> f64 {
        let patience = self.patience_seconds;
        self.stretches().map(|part| part.work / (part.seconds + patience)).fold(self.mean, f64::max)
    }

    /// The load of its part that had most: what is needed if that came all at once.
    pub fn at_once(&self) -> f64 {
        let patience = self.patience_seconds;
        self.parts.iter().map(|part| part.work / part.seconds.max(patience)).fold(self.mean, f64::max)
    }

    /// The part of the mean that comes too late with this capacity.
    pub fn excess(&self, capacity: f64) -> f64 {
        let patience = self.patience_seconds;
        let seconds = self.parts.iter().map(|part| part.seconds).sum::<f64>();
        let late = |part: Stretch| (part.work - capacity * (part.seconds + patience)) / seconds;
        self.stretches().map(late).fold(self.mean - capacity, f64::max).max(0.0)
    }

    /// Every run of parts, as one.
    fn stretches(&self) -> impl Iterator<Item = Stretch> {
        (0..self.parts.len()).flat_map(|first| {
            self.parts.iter().skip(first).scan(Stretch { seconds: 0.0, work: 0.0 }, |all, part| {
                *all = Stretch { seconds: all.seconds + part.seconds, work: all.work + part.work };
                Some(*all)
            })
        })
    }
}
