//! How many misses the objective still allows: the day's allowance, less what was missed already.

use std::time::Duration;

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
    /// With the memory of hours: requests and misses, load and the part of it that the ready replicas could not take.
    recent: Recent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Recent {
    requests: f64,
    misses: f64,
    load: f64,
    excess: f64,
}

impl MissBudget {
    /// What is left of a count after a day.
    const KEPT_A_DAY: f64 = 0.9;
    /// What is left of a recent count after a day: a memory of six hours.
    const RECENT_KEPT_A_DAY: f64 = 0.018;
    /// The budget is balanced over the next half day: a debt is paid back that slowly, so that one burst that nobody
    /// could foresee does not buy replicas that come too late for it.
    const HORIZON_STEPS: f64 = 43_200.0 / STEP.as_secs() as f64;
    /// The part of the allowance that is kept for what nobody can foresee, with a cold start of [`MissBudget::LEAD_SECONDS`]: a
    /// budget that is spent to the last is overdrawn half of the time. It goes by the square root of the cold start.
    const MARGIN: f64 = 0.28;
    /// And at most what one burst misses: so much of a day's allowance, until the cold start is over. Beside the allowance of
    /// many days that is little.
    const BURST_STEPS: f64 = 43_200.0 / STEP.as_secs() as f64;
    const LEAD_SECONDS: f64 = 240.0;
    const MOST_MARGIN: f64 = 0.7;
    /// The target never leaves these multiples of the aim. To pay a debt back costs by the logarithm of the target, so a little for
    /// long is cheaper than much for a while; of an objective stricter than [`MissBudget::LAX`] a burst leaves a debt that is
    /// more beside its allowance, and the least falls with the square root of that.
    const LEAST: f64 = 0.4;
    const MOST: f64 = 4.0;
    const LAX: f64 = 0.01;

    /// Bounds of [`MissBudget::bias`], and the share of misses that it starts from.
    const BIAS: (f64, f64) = (0.5, 4.0);

    /// Takes in the totals at the end of `steps` steps in which `load` was offered to replicas that take `capacity`.
    pub fn observe(&mut self, attained_total: f64, missed_total: f64, steps: u32, load: f64, capacity: f64) {
        let before = self.seen.replace((attained_total, missed_total));
        let kept = decay(Self::KEPT_A_DAY, STEP * steps);
        let grown = |now: f64, before: f64| if now < before { now } else { now - before };
        let (attained, missed) = before.map_or((0.0, 0.0), |(attained, missed)| {
            (grown(attained_total, attained), grown(missed_total, missed))
        });
        self.requests = self.requests * kept + attained + missed;
        self.misses = self.misses * kept + missed;
        self.steps = self.steps * kept + f64::from(steps);
        let kept = decay(Self::RECENT_KEPT_A_DAY, STEP * steps);
        let Recent { requests, misses, load: loads, excess } = &mut self.recent;
        *requests = *requests * kept + attained + missed;
        *misses = *misses * kept + missed;
        *loads = *loads * kept + load * f64::from(steps);
        *excess = *excess * kept + (load - capacity).max(0.0) * f64::from(steps);
    }

    /// The share of the coming requests that may miss, so that `allowance` comes out over all, where a start takes so long.
    pub fn target(&self, allowance: f64, lead: Duration) -> f64 {
        // What a burst misses is more beside the allowance of a stricter objective.
        let strictness = (allowance / Self::LAX).min(1.0);
        let leads = lead.as_secs_f64() / Self::LEAD_SECONDS;
        let burst = Self::BURST_STEPS * leads / strictness.sqrt();
        let margin = (Self::MARGIN * leads.sqrt()).min(Self::MOST_MARGIN).min(burst / self.steps.max(1.0));
        let aim = allowance * (1.0 - margin);
        let coming = self.requests / self.steps.max(1.0) * Self::HORIZON_STEPS;
        let left = aim * self.requests - self.misses;
        let correction = if coming > 0.0 { left / (aim * coming) } else { 0.0 };
        // The debt of a first cold start is more than the first hours could ever pay back.
        let at_first = strictness * (-self.steps / Self::HORIZON_STEPS).exp();
        let least = (Self::LEAST * strictness.sqrt()).max(at_first);
        aim * (1.0 + correction).clamp(least, Self::MOST)
    }

    /// How many times more requests miss than the mean load of the steps would have it: bursts shorter than a step
    /// miss too, and an excess that is short enough does not.
    pub fn bias(&self, allowance: f64) -> f64 {
        let Recent { requests, misses, load, excess } = self.recent;
        if requests <= 0.0 || load <= 0.0 {
            return 1.0;
        }
        let prior = allowance / 4.0;
        let bias = (misses / requests + prior) / (excess / load + prior);
        bias.clamp(Self::BIAS.0, Self::BIAS.1)
    }

    /// The share that missed so far; `None` before any request was judged.
    pub fn missed(&self) -> Option<f64> {
        (self.requests > 0.0).then(|| self.misses / self.requests)
    }
}
