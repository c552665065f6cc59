//! One forecaster: a level of the recent load, and the learned distribution of what comes a lead time later,
//! relative to that level.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{STEP, decay};

/// How the level of the recent load is taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// Exponentially weighted mean with this time constant in seconds.
    Mean(u32),
    /// The 90 % quantile of this many seconds.
    High(u32),
}

/// A forecaster by name: how it takes the level, and how far it is drawn to the mean of days.
///
/// The level is `recent + 1 + shrink × mean of a day`. Near zero a ratio of loads says nothing; how near depends on
/// how large the load usually is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forecaster {
    /// How the recent load is summed up.
    pub level: Level,
    /// Weight of the mean of a day.
    pub shrink: f32,
}

impl std::fmt::Display for Forecaster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.level {
            Level::Mean(seconds) => write!(f, "mean of {} min", seconds / 60),
            Level::High(seconds) => write!(f, "90 % quantile of {} min", seconds / 60),
        }
    }
}

/// Bins of the logarithm of a ratio: from e^-4.8 to e^4.8.
const BINS: usize = 64;
const BIN_WIDTH: f64 = 0.15;
/// What is left of an observed ratio's weight after a day.
const KEPT_A_DAY: f64 = 0.9;
/// The prior: a log-logistic ratio, worth so many observations. Its tail is heavy, because the first burst is
/// not to be met unprepared.
const PRIOR_WEIGHT: f64 = 8.0;
const PRIOR_SHAPE: f64 = 4.0;

/// A forecaster's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Expert {
    pub(super) forecaster: Forecaster,
    /// Of the exponential mean: weighted sum and weights.
    mean: (f64, f64),
    /// Weights of the ratios seen.
    ratios: Vec<f32>,
    /// Offsets and levels that wait for what comes a lead time later, oldest first. How a service begins says nothing
    /// about how it goes on, so the levels of its first lead time are `None`.
    pending: VecDeque<Option<(f32, f32)>>,
    /// Steps seen so far, until there were enough of them.
    seen: u32,
}

/// What a forecaster says at one step.
pub(super) struct Forecast {
    /// The level now and its offset.
    pub(super) now: Base,
    /// The level a lead time ago, from which what is ready now was decided.
    pub(super) then: Option<Base>,
    /// The tail of the ratios: at each bin's lower edge, the probability of a larger one.
    tail: [f64; BINS + 1],
}

/// A level, and the offset that is in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    level: f64,
    offset: f64,
}

impl Base {
    /// The load at this ratio to the level.
    pub(super) fn load(self, ratio: f64) -> f64 {
        (self.level * ratio - self.offset).max(0.0)
    }
}

impl Expert {
    pub(super) fn new(forecaster: Forecaster) -> Self {
        Self { forecaster, mean: (0.0, 0.0), ratios: vec![0.0; BINS], pending: VecDeque::new(), seen: 0 }
    }

    /// Takes in the load of a step: learns from what was expected `lag` steps ago, and forecasts.
    pub(super) fn observe(&mut self, load: f64, history: &[f32], usual: f64, lag: usize) -> Forecast {
        let mut then = None;
        while self.pending.len() >= lag.max(1) {
            then = self.pending.pop_front().flatten();
        }
        let then = then.map(|(offset, level)| Base { level: level.into(), offset: offset.into() });
        if let Some(base) = then {
            let kept = decay(KEPT_A_DAY, STEP) as f32;
            self.ratios.iter_mut().for_each(|weight| *weight *= kept);
            let ratio = ((load + base.offset) / base.level).ln();
            let bin = (ratio / BIN_WIDTH + BINS as f64 / 2.0).floor().clamp(0.0, (BINS - 1) as f64) as usize;
            if let Some(weight) = self.ratios.get_mut(bin) {
                *weight += 1.0;
            }
        }
        let offset = 1.0 + f64::from(self.forecaster.shrink) * usual;
        let recent = self.recent(load, history);
        let now = Base { level: recent + offset, offset };
        let begins = (self.seen as usize) < lag;
        self.seen = self.seen.saturating_add(u32::from(begins));
        self.pending.push_back((!begins).then_some((offset as f32, now.level as f32)));
        Forecast { now, then, tail: self.tail() }
    }

    fn recent(&mut self, load: f64, history: &[f32]) -> f64 {
        match self.forecaster.level {
            Level::Mean(seconds) => {
                let kept = (-STEP.as_secs_f64() / f64::from(seconds)).exp();
                self.mean = (self.mean.0 * kept + load, self.mean.1 * kept + 1.0);
                self.mean.0 / self.mean.1
            }
            Level::High(seconds) => {
                let steps = (u64::from(seconds) / STEP.as_secs()) as usize;
                let mut recent = history[history.len().saturating_sub(steps)..].to_vec();
                if recent.is_empty() {
                    return load;
                }
                let rank = recent.len() * 9 / 10;
                f64::from(*recent.select_nth_unstable_by(rank, f32::total_cmp).1)
            }
        }
    }

    fn tail(&self) -> [f64; BINS + 1] {
        let mut tail = [0.0; BINS + 1];
        let mut above = 0.0;
        for (tail, weight) in tail.iter_mut().take(BINS).zip(&self.ratios).rev() {
            above += f64::from(*weight);
            *tail = above;
        }
        let total = above + PRIOR_WEIGHT;
        for (bin, probability) in tail.iter_mut().enumerate() {
            let edge = (bin as f64 - BINS as f64 / 2.0) * BIN_WIDTH;
            *probability = (*probability + PRIOR_WEIGHT / (1.0 + (PRIOR_SHAPE * edge).exp())) / total;
        }
        tail
    }
}

impl Forecast {
    /// The ratio to the level that is exceeded with this probability.
    pub(super) fn ratio(&self, probability: f64) -> f64 {
        // The tail falls, so the bins above it begin where it is passed.
        let above = self.tail.partition_point(|tail| *tail > probability).min(BINS);
        let Some(below) = above.checked_sub(1) else { return (-(BINS as f64) / 2.0 * BIN_WIDTH).exp() };
        let (high, low) = (self.tail[below], self.tail[above]);
        let part = if high > low { ((high - probability) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
        ((below as f64 + part - BINS as f64 / 2.0) * BIN_WIDTH).exp()
    }
}
