//! How many misses the objective still allows: the day's allowance, less what was missed already.

use serde::{Deserialize, Serialize};

use super::{STEP, decay};

/// Requests that attained and missed the objective, with a memory of days.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MissBudget {
    /// Totals as last seen.
    seen: Option<(f64, f64)>,
    /// Weighted counts of requests, of misses, and of steps.
    requests: f64,
    misses: f64,
    steps: f64,
}

impl MissBudget {
    /// What is left of a count after a day.
    const KEPT_A_DAY: f64 = 0.7;
    /// The budget is balanced over the next day: a debt is paid back that slowly, so that one burst that nobody
    /// could foresee does not buy replicas that come too late for it.
    const HORIZON_STEPS: f64 = 86_400.0 / STEP.as_secs() as f64;
    /// The target never leaves these multiples of the allowance.
    const LEAST: f64 = 0.3;
    const MOST: f64 = 2.0;

    /// Takes in the totals at the end of `steps` steps.
    pub fn observe(&mut self, attained_total: f64, missed_total: f64, steps: u32) {
        let before = self.seen.replace((attained_total, missed_total));
        let kept = decay(Self::KEPT_A_DAY, STEP * steps);
        let grown = |now: f64, before: f64| if now < before { now } else { now - before };
        let (attained, missed) = before.map_or((0.0, 0.0), |(attained, missed)| {
            (grown(attained_total, attained), grown(missed_total, missed))
        });
        self.requests = self.requests * kept + attained + missed;
        self.misses = self.misses * kept + missed;
        self.steps = self.steps * kept + f64::from(steps);
    }

    /// The share of the coming day's requests that may miss, so that `allowance` comes out over all.
    pub fn target(&self, allowance: f64) -> f64 {
        let coming = self.requests / self.steps.max(1.0) * Self::HORIZON_STEPS;
        let left = allowance * self.requests - self.misses;
        let correction = if coming > 0.0 { left / (allowance * coming) } else { 0.0 };
        allowance * (1.0 + correction).clamp(Self::LEAST, Self::MOST)
    }

    /// The share that missed so far; `None` before any request was judged.
    pub fn missed(&self) -> Option<f64> {
        (self.requests > 0.0).then(|| self.misses / self.requests)
    }
}
