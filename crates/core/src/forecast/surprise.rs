//! How far loads were from what was expected, in units of how far they usually are.
//!
//! Measured like that, the services that the policy was developed on are alike, from one replica to dozens: a load is
//! above 1.2 spreads with a probability of 10 %, above 2.6 with 1 %, above 3.9 with 0.1 %. So all forecasters share one
//! distribution. It begins as that of a logistic law, and what surprises the steady ones of them only corrects it. Beyond
//! what was ever seen the law goes on. A season that is known has one of its own, which begins as that of all.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::{STEP, decay};

/// Bins of the inverse hyperbolic sine of a surprise, which is fine near zero and reaches 27 spreads either way: a
/// burst after hours of calm is that far.
const BINS: usize = 64;
const BIN_WIDTH: f64 = 0.125;
const LOWEST: f64 = -(BINS as f64) / 2.0 * BIN_WIDTH;
/// What is left of a surprise's weight after a day.
const KEPT_A_DAY: f64 = 0.9;
/// The prior is worth so many steps: two hours.
const PRIOR_WEIGHT: f64 = 500.0;
/// Its tail falls to a tenth in 1.35 spreads.
const PRIOR_SHAPE: f64 = 1.7;

/// The surprises seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Surprises {
    weights: Vec<f32>,
}

/// At each bin's lower edge, the probability of a larger surprise.
#[derive(Clone)]
pub(super) struct Tail([f64; BINS + 1]);

static LOGISTIC: LazyLock<[f64; BINS + 1]> =
    LazyLock::new(|| std::array::from_fn(|bin| 1.0 / (1.0 + (PRIOR_SHAPE * edge(bin as f64)).exp())));

impl Default for Surprises {
    fn default() -> Self {
        Self { weights: vec![0.0; BINS] }
    }
}

impl Surprises {
    /// Takes in the surprises of a step, one a forecaster; together they weigh as much as one.
    pub(super) fn observe(&mut self, surprises: &[f64]) {
        if surprises.is_empty() {
            return;
        }
        let kept = decay(KEPT_A_DAY, STEP) as f32;
        self.weights.iter_mut().for_each(|weight| *weight *= kept);
        for surprise in surprises {
            let bin = place(*surprise).floor().clamp(0.0, (BINS - 1) as f64) as usize;
            if let Some(weight) = self.weights.get_mut(bin) {
                *weight += 1.0 / surprises.len() as f32;
            }
        }
    }

    /// The law of what was seen, which begins as a logistic one.
    pub(super) fn tail(&self) -> Tail {
        self.after(&LOGISTIC)
    }

    /// The law of what was seen, which begins as this one.
    pub(super) fn tail_after(&self, prior: &Tail) -> Tail {
        self.after(&prior.0)
    }

    fn after(&self, prior: &[f64; BINS + 1]) -> Tail {
        let mut tail = [0.0; BINS + 1];
        let mut above = 0.0;
        for (tail, weight) in tail.iter_mut().take(BINS).zip(&self.weights).rev() {
            above += f64::from(*weight);
            *tail = above;
        }
        let total = above + PRIOR_WEIGHT;
        for (probability, prior) in tail.iter_mut().zip(prior) {
            *probability = (*probability + PRIOR_WEIGHT * prior) / total;
        }
        Tail(tail)
    }
}

/// The surprise at the lower edge of a bin, or at a place within one.
fn edge(place: f64) -> f64 {
    (LOWEST + place * BIN_WIDTH).sinh()
}

/// Where a surprise is, in bins.
fn place(surprise: f64) -> f64 {
    (surprise.asinh() - LOWEST) / BIN_WIDTH
}

impl Tail {
    /// The surprise that is exceeded with this probability.
    pub(super) fn surprise(&self, probability: f64) -> f64 {
        // The tail falls, so the bins above it begin where it is passed.
        let above = self.0.partition_point(|tail| *tail > probability).min(BINS);
        let Some(below) = above.checked_sub(1) else { return edge(0.0) };
        let (high, low) = (self.0[below], self.0[above]);
        let part = if high > low { ((high - probability) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
        edge(below as f64 + part)
    }

    /// The probability of a larger surprise.
    pub(super) fn probability(&self, surprise: f64) -> f64 {
        let place = place(surprise).clamp(0.0, BINS as f64);
        let below = (place as usize).min(BINS - 1);
        let (high, low) = (self.0[below], self.0[below + 1]);
        high + (low - high) * (place - below as f64)
    }
}
