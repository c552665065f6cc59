//! One forecaster: a level of the recent load, and how far from it the load usually is a lead time later.
//!
//! How far varies: after an eventful quarter of an hour the next one is eventful, too. So the spread is measured over ten
//! minutes and over three hours, half of each. Except around a known season, it is never less than that of a day: a burst out of a
//! calm would be dozens of its spreads, and would be asked for whenever the spread is wide. What is beyond the spread is for
//! [`Surprises`](super::surprise::Surprises).
//!
//! Where the load has a [`Season`](super::season::Season), the level follows its course.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    STEP,
    budget::laxness,
    season::{Course, Season, Span},
    surprise::Tail,
};
use crate::Timestamp;

/// How the level of the recent load is taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// Exponentially weighted mean with this time constant in seconds.
    Mean(u32),
    /// The 90 % quantile of this many seconds.
    High(u32),
    /// The mean of a minute, and how the load usually goes on from this time of such a span.
    Season(Span),
}

impl Level {
    /// Whether its surprises are the service's, and not of its own making: who follows each minute, or a season that may
    /// not come again, is surprised more, and all others would be taken for less certain than they are.
    pub(super) fn is_steady(self) -> bool {
        match self {
            Level::Mean(seconds) => seconds >= STEADY_SECONDS,
            Level::High(_) => true,
            Level::Season(_) => false,
        }
    }
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
            Level::Season(Span::Hour) => f.write_str("usual course of an hour"),
            Level::Season(span) => write!(f, "usual course of a {span}"),
        }
    }
}

/// The shortest time constant of a mean that is steady.
const STEADY_SECONDS: u32 = 300;
/// Time constants of the spread, in seconds: of its two halves, and of its least (but around a season that is known).
const SPREAD_SECONDS: [f64; 3] = [600.0, 10_800.0, 86_400.0];
/// The spread that is assumed beforehand, in logarithms, around a mean of up to so many requests at a time, and the steps that this
/// is worth.
const PRIOR_SPREAD: f64 = 0.3;
const PRIOR_SPREAD_REQUESTS: f64 = 8.0;
const PRIOR_SPREAD_WEIGHT: f64 = 20.0;
/// Time constant of the mean that a season goes on from, in seconds.
const SEASON_MEAN_SECONDS: u32 = 60;
/// How far what a season goes on from is what is seen, and not what is usual, in logarithms: what begins a little later
/// than it usually does is not yet missing.
const SEASON_FOLLOWS: f64 = 0.75;

/// The spread that is assumed beforehand around a mean of so many requests at a time. The sum of many varies less, but not by the
/// square root of them, for they come from fewer clients; by the fourth. Services differ in that, so an objective stricter than 99 %
/// relies on it less, in proportion to what may miss.
pub(super) fn prior_spread(usual: f64, allowance: f64) -> f64 {
    let many = (usual / PRIOR_SPREAD_REQUESTS).max(1.0);
    PRIOR_SPREAD * many.powf(-0.25 * laxness(allowance))
}

/// A forecaster's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Expert {
    pub(super) forecaster: Forecaster,
    season: Option<Season>,
    /// Of the exponential mean: weighted sum and weights.
    mean: (f64, f64),
    /// Of the distances between load and level a lead time before, in logarithms: weighted sums and weights.
    distances: [(f64, f64); 3],
    /// What waits for the load of a lead time later, oldest first. How a service begins says nothing about how it goes
    /// on, so the levels of its first lead time are `None`.
    pending: VecDeque<Option<Base>>,
    /// Steps seen so far, until there were enough of them.
    seen: u32,
}

/// What a forecaster says at one step.
pub(super) struct Forecast {
    /// The level now.
    pub(super) now: Base,
    /// The level a lead time ago, from which what is ready now was decided.
    pub(super) then: Option<Base>,
    /// How far the load is from what was expected then, in spreads.
    pub(super) surprise: Option<f64>,
    /// The most load that its season is to bring until a lead time from now, where it has one that is known.
    pub(super) brings: Option<f64>,
}

/// A level with the offset that is in it, and the spread around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Base {
    level: f32,
    offset: f32,
    spread: f32,
}

impl Base {
    /// The load that is this surprising, in spreads.
    pub(super) fn load(self, surprise: f64) -> f64 {
        let ratio = (f64::from(self.spread) * surprise).exp();
        (f64::from(self.level) * ratio - f64::from(self.offset)).max(0.0)
    }

    /// How surprising a load is.
    pub(super) fn surprise(self, load: f64) -> f64 {
        self.distance(load) / f64::from(self.spread)
    }

    fn distance(self, load: f64) -> f64 {
        ((load + f64::from(self.offset)) / f64::from(self.level)).ln()
    }
}

impl Expert {
    pub(super) fn new(forecaster: Forecaster) -> Self {
        let distances = [(0.0, 0.0); 3];
        let season = match forecaster.level {
            Level::Season(span) => Some(Season::new(span)),
            Level::Mean(_) | Level::High(_) => None,
        };
        Self { forecaster, season, mean: (0.0, 0.0), distances, pending: VecDeque::new(), seen: 0 }
    }

    /// Forgets what waits for the load of a lead time later; `false` when nothing does.
    pub(super) fn forget_pending(&mut self) -> bool {
        !std::mem::take(&mut self.pending).is_empty()
    }

    /// Forgets its season; `false` when it has none that is known.
    pub(super) fn forget_season(&mut self) -> bool {
        self.season.as_mut().is_some_and(|season| {
            let knew = season.is_known();
            *season = Season::new(season.span);
            knew
        })
    }

    /// Takes in the load of the step that ends at this moment: learns from what was expected `lag` steps ago, and
    /// forecasts. `None`: nobody looked, and it is only what it was on average.
    pub(super) fn observe(
        &mut self,
        at: Option<Timestamp>,
        load: f64,
        history: &[f32],
        usual: f64,
        prior_spread: f64,
        lag: usize,
    ) -> Forecast {
        let mut then = None;
        while self.pending.len() >= lag.max(1) {
            then = self.pending.pop_front().flatten();
        }
        if let Some(base) = then {
            let distance = base.distance(load).abs();
            for ((sum, weights), seconds) in self.distances.iter_mut().zip(SPREAD_SECONDS) {
                let kept = (-STEP.as_secs_f64() / seconds).exp();
                (*sum, *weights) = (*sum * kept + distance, *weights * kept + 1.0);
            }
        }
        let offset = 1.0 + f64::from(self.forecaster.shrink) * usual;
        let recent = self.recent(load, history) + offset;
        let course = self.season.as_mut().zip(at);
        let course = course.and_then(|(season, at)| season.observe(at, load, lag, SEASON_MEAN_SECONDS));
        let level = course.map_or(recent, |Course { lately, most }| {
            (recent / (lately + offset)).powf(SEASON_FOLLOWS) * (most + offset)
        });
        let spread = self.spread(prior_spread, course.is_some());
        let now = Base { level: level as f32, offset: offset as f32, spread: spread as f32 };
        let begins = (self.seen as usize) < lag;
        self.seen = self.seen.saturating_add(u32::from(begins));
        self.pending.push_back((!begins).then_some(now));
        let surprise = then.map(|base| base.surprise(load));
        if let (Some(season), Some(_), Some(surprise)) = (&mut self.season, course, surprise) {
            season.surprises.observe(&[surprise]);
        }
        Forecast { now, then, surprise, brings: course.map(|course| course.most) }
    }

    /// The law of its surprises: that of all, but for a season that is known.
    pub(super) fn tail(&self, forecast: &Forecast, all: &Tail) -> Tail {
        let own = self.season.as_ref().filter(|_| forecast.brings.is_some());
        own.map_or_else(|| all.clone(), |season| season.surprises.tail_after(all))
    }

    /// The usual distance between load and level of late, or of a day where that is more; never zero thanks to the prior. What
    /// comes when it usually comes is no burst out of a calm, so around a season that is known it is that of late.
    fn spread(&self, prior: f64, season: bool) -> f64 {
        let [minutes, hours, day] = self
            .distances
            .map(|(sum, weights)| (sum + prior * PRIOR_SPREAD_WEIGHT) / (weights + PRIOR_SPREAD_WEIGHT));
        let lately = f64::midpoint(minutes, hours);
        if season { lately } else { lately.max(day) }
    }

    fn mean(&mut self, load: f64, seconds: u32) -> f64 {
        let kept = (-STEP.as_secs_f64() / f64::from(seconds)).exp();
        self.mean = (self.mean.0 * kept + load, self.mean.1 * kept + 1.0);
        self.mean.0 / self.mean.1
    }

    fn recent(&mut self, load: f64, history: &[f32]) -> f64 {
        match self.forecaster.level {
            Level::Mean(seconds) => self.mean(load, seconds),
            Level::Season(_) => self.mean(load, SEASON_MEAN_SECONDS),
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
}
