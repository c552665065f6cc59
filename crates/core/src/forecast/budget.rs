//! How many misses the objective still allows: the day's allowance, less what was missed already.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{STEP, StepLoad, decay};

/// Requests that attained and missed the objective, with a memory of days.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MissBudget {
    /// Totals as last seen.
    seen: Option<(f64, f64)>,
    /// Weighted counts of requests, of misses, and of steps since the first request.
    requests: f64,
    misses: f64,
    steps: f64,
    /// The misses that were aimed at: each request is charged at the aim of its time.
    #[serde(default)]
    aimed: f64,
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
    /// The part of the allowance that is kept for what nobody can foresee, where a start takes [`MissBudget::COLD_START_SECONDS`]:
    /// a budget that is spent to the last is overdrawn half of the time. It goes by the square root of the cold start, and is no
    /// more than [`MissBudget::MOST_MARGIN`]. (docs/research/policy.md has what others give, for all constants here.)
    const MARGIN: f64 = 0.28;
    const MOST_MARGIN: f64 = 0.7;
    const COLD_START_SECONDS: f64 = 240.0;
    /// It is also no more than one burst misses, beside the allowance of the days so far: that of eight hours, where a start takes
    /// as long as that, and in proportion elsewhere.
    const BURST_STEPS: f64 = 28_800.0 / STEP.as_secs() as f64;
    /// The target never leaves these multiples of the aim, but that the least falls to this only over the first [horizon
    /// ](MissBudget::HORIZON_STEPS). To pay a debt back costs by the logarithm of the target, so a little for
    /// long is cheaper than much for a while; of an objective stricter than [`MissBudget::LAX`] a burst leaves a debt that is
    /// more beside its allowance, and the least falls with the square root of that.
    const LEAST: f64 = 0.4;
    const MOST: f64 = 4.0;
    const LAX: f64 = 0.01;

    /// Bounds of [`MissBudget::bias`], and the share of misses that it starts from.
    const BIAS: (f64, f64) = (0.5, 4.0);

    /// Takes in the totals at the end of `steps` steps in which `load` was offered to replicas that take `capacity`, and
    /// this share of the requests was [aimed at](MissBudget::aim).
    pub fn observe(
        &mut self,
        attained_total: f64,
        missed_total: f64,
        steps: u32,
        load: &StepLoad,
        capacity: f64,
        aim: f64,
    ) {
        if self.aimed <= 0.0 {
            // A state of a version that did not count it: neither a debt nor a credit can be told from it.
            (self.requests, self.misses, self.steps) = (0.0, 0.0, 0.0);
        }
        let before = self.seen.replace((attained_total, missed_total));
        let grown = |now: f64, before: f64| if now < before { now } else { now - before };
        let (attained, missed) = before.map_or((0.0, 0.0), |(attained, missed)| {
            (grown(attained_total, attained), grown(missed_total, missed))
        });
        let came = attained + missed;
        let (kept, remembered) = memory(Self::KEPT_A_DAY, steps);
        let weight = remembered / f64::from(steps.max(1));
        if came > 0.0 || self.requests > 0.0 {
            self.steps = self.steps * kept + remembered;
        }
        self.requests = self.requests * kept + came * weight;
        self.aimed = self.aimed * kept + came * weight * aim;
        self.misses = self.misses * kept + missed * weight;
        let (kept, remembered) = memory(Self::RECENT_KEPT_A_DAY, steps);
        let weight = remembered / f64::from(steps.max(1));
        let Recent { requests, misses, load: loads, excess } = &mut self.recent;
        *requests = *requests * kept + came * weight;
        *misses = *misses * kept + missed * weight;
        *loads = *loads * kept + load.mean() * remembered;
        *excess = *excess * kept + load.excess(capacity) * remembered;
    }

    /// The share of the requests that is aimed at, less than `allowance`. What a burst misses that nobody could foresee is the more
    /// the longer a start takes (as a rule, so in the median), the stricter the objective is, and the less is on the account.
    pub fn aim(&self, allowance: f64, cold_start: Duration) -> f64 {
        let starts = cold_start.as_secs_f64() / Self::COLD_START_SECONDS;
        let burst = Self::BURST_STEPS * starts / laxness(allowance).sqrt();
        let margin = (Self::MARGIN * starts.sqrt()).min(Self::MOST_MARGIN);
        allowance * (1.0 - margin.min(burst / self.steps.max(1.0)))
    }

    /// The share of the coming requests that may miss, so that `allowance` comes out over all, where this share is [aimed
    /// at](MissBudget::aim).
    pub fn target(&self, allowance: f64, aim: f64) -> f64 {
        let coming = self.requests / self.steps.max(1.0) * Self::HORIZON_STEPS;
        let correction =
            if coming > 0.0 && self.aimed > 0.0 { (self.aimed - self.misses) / (aim * coming) } else { 0.0 };
        // The debt of a first cold start is more than the first hours could ever pay back.
        let at_first = laxness(allowance) * (-self.steps / Self::HORIZON_STEPS).exp();
        let least = (Self::LEAST * laxness(allowance).sqrt()).max(at_first);
        aim * (1.0 + correction).clamp(least, Self::MOST)
    }

    /// How many times more requests miss than the loads of the steps would have it.
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

/// Of so many steps: what is left of what was before them, and how many of them are remembered, by what is kept after a day.
fn memory(kept_a_day: f64, steps: u32) -> (f64, f64) {
    let kept = decay(kept_a_day, STEP * steps);
    (kept, (1.0 - kept) / (1.0 - decay(kept_a_day, STEP)))
}

/// One for all objectives up to [`MissBudget::LAX`], and less the stricter one is.
pub(super) fn laxness(allowance: f64) -> f64 {
    (allowance / MissBudget::LAX).min(1.0)
}
