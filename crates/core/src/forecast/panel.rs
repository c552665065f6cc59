//! Several forecasters, each scored by what it would have cost: the cheapest that would have kept the objective
//! decides.
//!
//! Replica *k* is worth its cost when the load a lead time ahead exceeds what *k* − 1 carry with at least some
//! probability θ (the marginal rule of the newsvendor, with one price of a miss for all replicas and all times). Each
//! forecaster is followed at eighteen θ at once, beside what really happens: how many replicas, how many misses. So the
//! θ that gives the misses asked for is read off, not guessed, and a forecaster has influence as long as it is
//! cheapest at that number of misses.
//!
//! A start costs a cold start that serves nobody, so it takes better odds than keeping what is there.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    STEP, StepLoad, decay,
    expert::{Base, Expert, Forecast, Forecaster, Level, prior_spread},
    season::Span,
    surprise::{Surprises, Tail},
};
use crate::Timestamp;

/// The candidates of θ: 0.8, 0.48, … 0.00014.
const THETAS: usize = 18;
const FIRST_THETA: f64 = 0.8;
const NEXT_THETA: f64 = 0.6;

/// The forecasters: short and long memories, close to the load of now or drawn to that of the day, and seasons.
const FORECASTERS: [Forecaster; 10] = [
    Forecaster { level: Level::Mean(300), shrink: 0.25 },
    Forecaster { level: Level::Mean(300), shrink: 1.0 },
    Forecaster { level: Level::Mean(1_800), shrink: 0.25 },
    Forecaster { level: Level::Mean(1_800), shrink: 1.0 },
    Forecaster { level: Level::High(900), shrink: 0.5 },
    Forecaster { level: Level::High(3_600), shrink: 0.5 },
    Forecaster { level: Level::Mean(60), shrink: 0.25 },
    Forecaster { level: Level::Season(Span::Hour), shrink: 0.25 },
    Forecaster { level: Level::Season(Span::Day), shrink: 0.25 },
    Forecaster { level: Level::Season(Span::Week), shrink: 0.25 },
];
/// Steps of history: what the longest forecaster looks back.
pub(crate) const HISTORY: usize = 3_600 / STEP.as_secs() as usize;

/// Steps in five minutes.
const RECENT: usize = 20;

/// What is left of a score's weight after a day.
const SCORE_KEPT_A_DAY: f64 = 0.7;
/// The share that is assumed to miss, beforehand: 0.8 θ at a load of a replica, and less at more, by the fourth root.
/// On the traces that the policy was developed on it is 0.12 θ (dozens of replicas) to 1.3 θ (one).
const PRIOR_MISSES: f64 = 0.8;
/// Until the scores weigh more than these steps (six hours), they say little beside the prior.
const PRIOR_STEPS: f64 = 6.0 * 240.0;
/// That little was missed says little until more than θ should have happened so often: where a day has one burst, a
/// quiet day is luck.
const PRIOR_EXCEEDANCES: f64 = 33.0;
/// Steps before the costs are compared; until then the first forecaster decides.
const COMPARED_AFTER: f64 = 240.0;
/// Time constant of the mean of a day, in steps.
const USUAL_STEPS: f64 = 86_400.0 / STEP.as_secs() as f64;
/// What is left of the highest load after a day, and how many times more than it replicas are kept for: surprises
/// out of a calm hour say too much in an eventful one.
const HIGHEST_KEPT_A_DAY: f64 = 0.7;
const MOST_OF_HIGHEST: f64 = 1.5;
/// So far from its mean to what it needs if it comes at once is what a burst counts for at least, at first.
const AT_ONCE: f64 = 0.25;
/// The part of the highest load that is kept ready for at first, and the steps of the first minute, whose load is of too few
/// requests to say how long they take.
const SEEN_ALREADY: f64 = 0.9;
const BEGUN_STEPS: usize = 4;
/// The time constant, in steps, in which all of them are learned: at first the highest load is that of minutes, and may be
/// exceeded twice as far.
const LEARNED_STEPS: f64 = 240.0;
/// A start takes so many times better odds than keeping.
const ODDS_OF_START: f64 = 1.7;
/// A load below half a request is none.
const NOTHING: f64 = 0.5;

/// The forecasters and their scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Panel {
    experts: Vec<Expert>,
    surprises: Surprises,
    /// By forecaster and θ: weighted load missed, and replicas.
    scores: Vec<Vec<(f32, f32)>>,
    /// Weighted load and steps that the scores stand for.
    scored: (f64, f64),
    /// The loads of the last hour, and the means of the last five minutes, which say what came and not what it needed.
    history: Vec<f32>,
    #[serde(default)]
    means: VecDeque<f32>,
    /// Of the mean of a day: weighted sum and weights.
    usual: (f64, f64),
    /// The highest load, of late days most.
    highest: f64,
    /// The load that replicas were kept for last.
    kept_for: f64,
}

/// Shares that may miss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MayMiss {
    /// As the objective has it.
    pub allowance: f64,
    /// As it is now, after what was missed so far.
    pub now: f64,
}

/// What the panel says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outlook {
    /// Who decides.
    pub forecaster: Forecaster,
    /// The load to keep replicas for a lead time ahead, in requests at a time.
    pub load: f64,
    /// The probability of more, as the forecaster has it.
    pub exceedance: f64,
    /// The highest load so far, where most of it is kept ready for and that is more than the forecast asks for: in the first
    /// hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<f64>,
    /// The mean load of the last five minutes.
    pub recent: f64,
    /// The load of the last step.
    pub last: f64,
}

impl Default for Panel {
    fn default() -> Self {
        Self {
            experts: FORECASTERS.map(Expert::new).to_vec(),
            surprises: Surprises::default(),
            scores: vec![vec![(0.0, 0.0); THETAS]; FORECASTERS.len()],
            scored: (0.0, 0.0),
            history: Vec::new(),
            means: VecDeque::new(),
            usual: (0.0, 0.0),
            highest: 0.0,
            kept_for: 0.0,
        }
    }
}

/// Replicas for a load: as many as it fills, and the one that it reaches into.
pub(crate) fn replicas(load: f64, concurrency: f64) -> u32 {
    // `as` saturates; the upper bound cuts it then.
    if load < NOTHING { 0 } else { ((load / concurrency).floor() as u32).saturating_add(1) }
}

impl Panel {
    /// Forgets what waits for a load that is still to come, then the load of the last hour, then what is usual when, a season at
    /// a time; `false` when all are gone. The scores of days stay.
    pub(crate) fn forget_detail(&mut self) -> bool {
        let mut forgot = false;
        for expert in &mut self.experts {
            forgot |= expert.forget_pending();
        }
        if forgot || !std::mem::take(&mut self.history).is_empty() {
            return true;
        }
        // The longest is the last, and the bulkiest.
        self.experts.iter_mut().rev().any(Expert::forget_season)
    }

    /// Takes in the load of the step that ends at this moment, and says what to expect. Of a step that nobody looked at there is
    /// no moment, and its load is a mean. `lag` is the number of steps from a decision until its replicas serve;
    /// `concurrency` what one of them works on at a time; `may_miss` the share of the load that may; `least` the
    /// replicas that are there anyway.
    pub fn observe(
        &mut self,
        at: Option<Timestamp>,
        step: &StepLoad,
        lag: usize,
        concurrency: f64,
        may_miss: MayMiss,
        least: u32,
    ) -> Outlook {
        // A state of a version that had others.
        let is_ours = self.experts.iter().map(|expert| expert.forecaster).eq(FORECASTERS);
        if !is_ours || self.scores.len() != FORECASTERS.len() {
            *self = Self::default();
        }
        let (load, kept) = (self.counts(step), (-1.0 / USUAL_STEPS).exp());
        self.usual = (self.usual.0 * kept + load, self.usual.1 * kept + 1.0);
        let usual = self.usual.0 / self.usual.1;
        self.highest = load.max(self.highest * decay(HIGHEST_KEPT_A_DAY, STEP));
        if self.history.len() == HISTORY {
            self.history.remove(0);
        }
        self.history.push(load as f32);
        if self.means.len() == RECENT {
            self.means.pop_front();
        }
        self.means.push_back(step.mean() as f32);

        let (history, prior_spread) = (&self.history, prior_spread(usual, may_miss.allowance));
        let observe = |expert: &mut Expert| expert.observe(at, load, history, usual, prior_spread, lag);
        let forecasts: Vec<Forecast> = self.experts.iter_mut().map(observe).collect();
        let steady =
            self.experts.iter().zip(&forecasts).filter(|(expert, _)| expert.forecaster.level.is_steady());
        let surprises: Vec<f64> = steady.filter_map(|(_, forecast)| forecast.surprise).collect();
        self.surprises.observe(&surprises);
        let all = self.surprises.tail();
        self.score(&forecasts, &all, step, concurrency, least);
        let (who, threshold) = self.choose(&forecasts, may_miss.now, usual / concurrency);
        let recent = self.means.iter().copied().map(f64::from).sum::<f64>() / self.means.len() as f64;
        let decides = self.experts.get(who).zip(forecasts.get(who));
        let (load, exceedance, seen) = match decides {
            // Where nothing ever came, nothing is known that could be kept ready.
            Some((expert, forecast)) if usual > 0.0 => {
                let tail = expert.tail(forecast, &all);
                let load = |probability| forecast.now.load(tail.surprise(probability));
                let to_start = ODDS_OF_START * threshold / (1.0 + (ODDS_OF_START - 1.0) * threshold);
                let most = self.most(forecast.brings.unwrap_or(0.0));
                let kept_for = self.kept_for.max(load(to_start)).min(load(threshold)).min(most);
                let highest = self.highest_seen();
                let again = SEEN_ALREADY * self.unlearned() * highest;
                let kept_for_it = kept_for.max(again);
                let exceedance = tail.probability(forecast.now.surprise(kept_for_it));
                (kept_for_it, exceedance, (again > kept_for).then_some(highest))
            }
            _ => (load, threshold, None),
        };
        let forecaster = decides.map_or(FORECASTERS[0], |(expert, _)| expert.forecaster);
        self.kept_for = load;
        Outlook { forecaster, load, exceedance, seen, recent, last: step.mean() }
    }

    /// The load that a step counts for: what it needs. In the first hours nobody knows how sudden its bursts may be, and what it
    /// needs if they come at once counts for a part.
    fn counts(&self, step: &StepLoad) -> f64 {
        let sudden = AT_ONCE * self.unlearned() * (step.at_once() - step.mean());
        step.needed().max(step.mean() + sudden)
    }

    /// The highest load of the last hour. What comes again and again is not foreseen before it has come several times: in the first
    /// hours, most of this is kept ready for.
    fn highest_seen(&self) -> f64 {
        // When the hour is full, its first steps are no longer those of the service.
        let begun = if self.history.len() < HISTORY { BEGUN_STEPS } else { 0 };
        let loads = self.history.iter().skip(begun).copied().map(f64::from);
        loads.fold(0.0, f64::max)
    }

    /// One at first, and less the more steps were scored.
    fn unlearned(&self) -> f64 {
        (-self.scored.1 / LEARNED_STEPS).exp()
    }

    /// The most load that replicas are kept for, where the season of who decides is to bring this one.
    fn most(&self, season: f64) -> f64 {
        MOST_OF_HIGHEST * (1.0 + self.unlearned()) * self.highest.max(season)
    }

    /// What each candidate would have had ready and paid for in this step, and what it would have missed.
    fn score(&mut self, forecasts: &[Forecast], all: &Tail, load: &StepLoad, concurrency: f64, least: u32) {
        let kept = decay(SCORE_KEPT_A_DAY, STEP);
        let matured = forecasts.iter().any(|forecast| forecast.then.is_some());
        if matured {
            self.scored = (self.scored.0 * kept + load.mean(), self.scored.1 * kept + 1.0);
        }
        let at_thetas =
            |tail: &Tail| -> [f64; THETAS] { std::array::from_fn(|index| tail.surprise(theta(index))) };
        let of_all = at_thetas(all);
        for ((expert, forecast), scores) in self.experts.iter().zip(forecasts).zip(&mut self.scores) {
            let Some(then) = forecast.then else { continue };
            let surprises = match forecast.brings {
                Some(_) => at_thetas(&expert.tail(forecast, all)),
                None => of_all,
            };
            for ((missed, cost), surprise) in scores.iter_mut().zip(surprises) {
                let wanted = |base: Base| replicas(base.load(surprise), concurrency).max(least);
                // Ready is what was wanted a lead time ago and is wanted still.
                let paid = wanted(forecast.now);
                let ready = f64::from(wanted(then).min(paid));
                *missed = *missed * kept as f32 + load.excess(ready * concurrency) as f32;
                *cost = *cost * kept as f32 + paid as f32;
            }
        }
    }

    /// The cheapest forecaster at the θ at which it would have missed the target, and that θ. A day's mean load fills
    /// so many `replicas`.
    fn choose(&self, forecasts: &[Forecast], target: f64, replicas: f64) -> (usize, f64) {
        let (load, steps) = self.scored;
        // A share of no load is no number; the prior alone counts then.
        let step_load = if load > 0.0 { load / steps } else { 1.0 };
        let prior_misses = PRIOR_MISSES / replicas.max(1.0).sqrt().sqrt();
        // What was missed counts after hours, what was not after as long as it takes to be seen.
        let share = |index: usize, missed: f32, prior_steps: f64| {
            let prior = step_load * prior_steps;
            (f64::from(missed) + prior * prior_misses * theta(index)) / (load + prior)
        };
        let by_hours = |index: usize, missed: f32| share(index, missed, PRIOR_STEPS);
        let cautious = |index: usize, missed: f32| {
            by_hours(index, missed).max(share(index, missed, PRIOR_EXCEEDANCES / theta(index)))
        };
        // The cheapest by what was seen; how far it may be trusted is another question.
        let cost = |scores: &Vec<(f32, f32)>| at_target(scores, target, by_hours).1;
        let who = if steps > COMPARED_AFTER {
            // A season that is not known now decides on no record of when it was.
            let decides = |who: usize| {
                let is_known = forecasts.get(who).is_some_and(|forecast| forecast.brings.is_some());
                is_known || !matches!(FORECASTERS[who].level, Level::Season(_))
            };
            let costs = self.scores.iter().map(cost).enumerate().filter(|(who, _)| decides(*who));
            costs.min_by(|left, right| left.1.total_cmp(&right.1)).map_or(0, |(who, _)| who)
        } else {
            0
        };
        let threshold = self.scores.get(who).map(|scores| at_target(scores, target, cautious).0);
        (who, threshold.unwrap_or(FIRST_THETA))
    }
}

/// Where the share missed falls to the target: θ and the cost there.
fn at_target(scores: &[(f32, f32)], target: f64, share: impl Fn(usize, f32) -> f64) -> (f64, f64) {
    let mut before = None;
    for (index, &(missed, cost)) in scores.iter().enumerate() {
        let (missed, exceedance, cost) = (share(index, missed), theta(index), f64::from(cost));
        if missed > target && index + 1 < THETAS {
            before = Some((missed, exceedance, cost));
            continue;
        }
        // Between two candidates, by the logarithm of both.
        return match before {
            Some((more, above, cheaper)) if more > missed => {
                let part = ((target / missed).ln() / (more / missed).ln()).clamp(0.0, 1.0);
                (exceedance * (above / exceedance).powf(part), cost + (cheaper - cost) * part)
            }
            _ => (exceedance, cost),
        };
    }
    (FIRST_THETA, f64::INFINITY)
}

fn theta(index: usize) -> f64 {
    FIRST_THETA * NEXT_THETA.powi(index as i32)
}
