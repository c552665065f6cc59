//! Rules of NVIDIA Dynamo's planner, as of ai-dynamo 1.6.1 (`dynamo/planner/core`): the load rule with
//! static thresholds (`optimization_target` `throughput` or `latency`), the throughput rule, and the
//! constant predictor.
//!
//! The SLA target's latency model is learned from a benchmark of the engine; its result, the requests per
//! second of one engine, is an input here.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::go_arith;

/// Between load decisions (`load_adjustment_interval_seconds`).
pub const LOAD_INTERVAL_SECONDS: u64 = 5;
/// Between throughput decisions; also how far ahead is predicted (`throughput_adjustment_interval`).
pub const THROUGHPUT_INTERVAL_SECONDS: u64 = 180;
/// The most replicas by which one throughput decision changes the count
/// (`max_throughput_scaling_replicas`).
pub const MAX_THROUGHPUT_CHANGE: i32 = 8;

/// What the static thresholds aim at (`optimization_target`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizationTarget {
    /// Full engines.
    #[default]
    Throughput,
    /// Short queues.
    Latency,
}

/// Which engines are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// Engines that only read prompts, judged by queued prompt tokens over the context length.
    Prefill,
    /// Engines that only generate, judged by their KV cache.
    Decode,
    /// Engines that do both, judged by their KV cache and the queued prompts.
    Aggregated,
}

/// What one engine reports, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineLoad {
    /// Prompt tokens that wait.
    pub queued_prefill_tokens: u64,
    /// KV tokens of running requests.
    pub scheduled_kv_tokens: u64,
    /// KV tokens of waiting requests.
    pub queued_kv_tokens: u64,
}

/// Why the planner decided so.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum DynamoReason {
    /// No engine reports, or its capacity is unknown.
    InsufficientData,
    /// Some engine is above the threshold.
    EngineOverloaded {
        /// The fullest engine.
        highest: f64,
        /// The threshold.
        threshold: f64,
    },
    /// All engines are below the threshold.
    EnginesIdle {
        /// The fullest engine.
        highest: f64,
        /// The threshold.
        threshold: f64,
    },
    /// The engines are idle, but fewer of them would be overloaded.
    SurvivorsWouldOverload {
        /// The fullest engine, were one gone.
        highest: f64,
        /// The threshold for growing.
        threshold: f64,
    },
    /// Neither.
    NoChange,
    /// Demand over what one engine carries.
    Throughput {
        /// Predicted, per second.
        demand: f64,
        /// Of one engine, per second.
        engine: f64,
        /// The engines for it.
        wish: i32,
    },
}

impl fmt::Display for DynamoReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsufficientData => f.write_str("not enough data to decide"),
            Self::EngineOverloaded { highest, threshold } => {
                write!(f, "an engine is at {highest:.3}, threshold {threshold}: one more")
            }
            Self::EnginesIdle { highest, threshold } => {
                write!(f, "all engines are at {highest:.3} or less, threshold {threshold}: one fewer")
            }
            Self::SurvivorsWouldOverload { highest, threshold } => {
                write!(f, "one fewer would put an engine at {highest:.3}, threshold {threshold}: none goes")
            }
            Self::NoChange => f.write_str("between the thresholds"),
            Self::Throughput { demand, engine, wish } => {
                write!(f, "{demand:.2} requests/s / {engine:.2} per engine → {wish}")
            }
        }
    }
}

/// How full an engine is, relative to `capacity_tokens`: the context length for prefill, the KV cache
/// otherwise.
fn fullness(component: Component, engine: &EngineLoad, capacity_tokens: u64) -> f64 {
    let tokens = match component {
        Component::Prefill => engine.queued_prefill_tokens,
        Component::Decode => engine.scheduled_kv_tokens.saturating_add(engine.queued_kv_tokens),
        Component::Aggregated => engine
            .scheduled_kv_tokens
            .saturating_add(engine.queued_kv_tokens)
            .saturating_add(engine.queued_prefill_tokens),
    };
    tokens as f64 / capacity_tokens as f64
}

/// The thresholds for growing and shrinking.
fn thresholds(component: Component, target: OptimizationTarget) -> (f64, f64) {
    match (component, target) {
        (Component::Prefill, OptimizationTarget::Throughput) => (1.0, 0.1),
        (Component::Prefill, OptimizationTarget::Latency) => (0.1, 0.0),
        (Component::Decode | Component::Aggregated, OptimizationTarget::Throughput) => (1.0, 0.6),
        (Component::Decode | Component::Aggregated, OptimizationTarget::Latency) => (0.4, 0.1),
    }
}

/// The load rule: one more when any engine is too full, one fewer when all have room and the rest would
/// stay below the threshold for growing. `None` leaves the count.
pub fn load_decision(
    component: Component,
    target: OptimizationTarget,
    engines: &[EngineLoad],
    capacity_tokens: u64,
    workers: i32,
    min: i32,
    starting: bool,
) -> (Option<i32>, DynamoReason) {
    if workers == 0 || engines.is_empty() || capacity_tokens == 0 {
        return (None, DynamoReason::InsufficientData);
    }
    let highest =
        engines.iter().map(|engine| fullness(component, engine, capacity_tokens)).fold(0.0, f64::max);
    let (up, down) = thresholds(component, target);
    // A prompt queue at its threshold is too long, a cache at its threshold is just full.
    let overloaded = if component == Component::Prefill { highest >= up } else { highest > up };
    if overloaded {
        let reason = DynamoReason::EngineOverloaded { highest, threshold: up };
        return (Some(workers.saturating_add(1)), reason);
    }
    let empty_queue = component == Component::Prefill && target == OptimizationTarget::Latency;
    let idle = if empty_queue { highest <= down } else { highest < down };
    if !idle || (workers <= 1 && !starting) {
        return (None, DynamoReason::NoChange);
    }
    let fewer = (workers - 1).max(min);
    let survivor = highest * f64::from(workers) / f64::from(fewer.max(1));
    if 0 < fewer && fewer < workers && survivor >= up {
        return (Some(workers), DynamoReason::SurvivorsWouldOverload { highest: survivor, threshold: up });
    }
    (Some(fewer), DynamoReason::EnginesIdle { highest, threshold: down })
}

/// The throughput rule: engines for the predicted demand, changed by at most
/// [`MAX_THROUGHPUT_CHANGE`]. `None` when one engine's rate is not known yet. Where both rules run, this
/// result is the load rule's floor.
pub fn throughput_decision(
    demand_per_second: f64,
    engine_per_second: f64,
    current: i32,
    min: i32,
) -> (Option<i32>, DynamoReason) {
    if engine_per_second.is_nan() || engine_per_second <= 0.0 {
        return (None, DynamoReason::InsufficientData);
    }
    let exact = (demand_per_second / engine_per_second).ceil().min(f64::from(i32::MAX));
    let wish = go_arith::to_i32(exact).max(min);
    let lowest = current.saturating_sub(MAX_THROUGHPUT_CHANGE).max(0);
    let bounded = wish.max(lowest).min(current.saturating_add(MAX_THROUGHPUT_CHANGE));
    let reason = DynamoReason::Throughput { demand: demand_per_second, engine: engine_per_second, wish };
    (Some(bounded), reason)
}

/// The constant predictor: the next interval is as the last one. Idle intervals before the first
/// request are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConstantPredictor {
    last: Option<f64>,
}

impl ConstantPredictor {
    /// Adds an interval's value; a NaN counts as 0.
    pub fn add(&mut self, value: f64) {
        let value = if value.is_nan() { 0.0 } else { value };
        if value != 0.0 || self.last.is_some() {
            self.last = Some(value);
        }
    }

    /// The next interval's value.
    pub fn predict(&self) -> f64 {
        self.last.unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engines(kv: &[u64]) -> Vec<EngineLoad> {
        kv.iter().map(|kv| EngineLoad { scheduled_kv_tokens: *kv, ..Default::default() }).collect()
    }

    fn decode(kv: &[u64], min: i32) -> Option<i32> {
        let workers = kv.len() as i32;
        let target = OptimizationTarget::Throughput;
        load_decision(Component::Decode, target, &engines(kv), 1000, workers, min, false).0
    }

    #[test]
    fn one_full_engine_is_enough_to_grow_and_all_must_be_idle_to_shrink() {
        assert_eq!(decode(&[1001, 0, 0], 1), Some(4));
        assert_eq!(decode(&[1000, 0, 0], 1), None);
        assert_eq!(decode(&[599, 599, 599], 1), Some(2));
        assert_eq!(decode(&[599, 600, 0], 1), None);
        assert_eq!(decode(&[0], 1), None);
        assert_eq!(decode(&[], 1), None);
    }

    #[test]
    fn nothing_goes_when_the_survivors_would_be_full() {
        assert_eq!(decode(&[500, 500], 1), Some(2));
        assert_eq!(decode(&[499, 499], 1), Some(1));
    }

    #[test]
    fn prefill_is_judged_by_its_queue() {
        let queue = |tokens, target| {
            let engines = [EngineLoad { queued_prefill_tokens: tokens, ..Default::default() }; 2];
            load_decision(Component::Prefill, target, &engines, 1000, 2, 1, false).0
        };
        assert_eq!(queue(1000, OptimizationTarget::Throughput), Some(3));
        assert_eq!(queue(99, OptimizationTarget::Throughput), Some(1));
        assert_eq!(queue(100, OptimizationTarget::Latency), Some(3));
        assert_eq!(queue(1, OptimizationTarget::Latency), None);
        assert_eq!(queue(0, OptimizationTarget::Latency), Some(1));
    }

    #[test]
    fn throughput_is_bounded_per_decision() {
        assert_eq!(throughput_decision(10.0, 3.0, 2, 1).0, Some(4));
        assert_eq!(throughput_decision(1000.0, 1.0, 2, 1).0, Some(10));
        assert_eq!(throughput_decision(0.0, 1.0, 20, 1).0, Some(12));
        assert_eq!(throughput_decision(1.0, 0.0, 2, 1).0, None);
    }

    #[test]
    fn leading_idle_intervals_are_not_counted() {
        let mut predictor = ConstantPredictor::default();
        predictor.add(0.0);
        assert_eq!(predictor, ConstantPredictor::default());
        predictor.add(3.0);
        predictor.add(f64::NAN);
        assert_eq!((predictor.predict(), predictor.last), (0.0, Some(0.0)));
    }
}
