//! What the HPA is told when a trigger fails (`pkg/fallback/fallback.go`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::spec::{Fallback, FallbackBehavior, ScaledObjectSpec};
use crate::peers::{
    go_arith,
    hpa::{MetricTarget, MetricTargetType},
};

/// The health of each metric, as the object's status has it. Tracked only while a valid fallback exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FallbackState(BTreeMap<String, Health>);

/// One metric's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Failures in a row.
    pub failures: i32,
}

impl FallbackState {
    /// A metric's health, if it is tracked.
    pub fn health(&self, metric: &str) -> Option<Health> {
        self.0.get(metric).copied()
    }

    /// Whether some metric failed more often than the threshold; `None` while nothing is tracked.
    pub fn is_active(&self, fallback: Option<&Fallback>) -> Option<bool> {
        let fallback = fallback.filter(|_| !self.0.is_empty())?;
        Some(self.0.values().any(|health| health.failures > fallback.failure_threshold))
    }
}

/// One query of the HPA.
#[derive(Clone, Debug)]
pub struct FallbackInput<'a> {
    /// The metric's name.
    pub metric: &'a str,
    /// Its target in the HPA.
    pub target: &'a MetricTarget,
    /// The trigger's answer in milli-units.
    pub reading: Result<i64, String>,
    /// The target's replicas, if they can be read.
    pub replicas: Option<i32>,
    /// Its Running and Ready pods, if they can be read.
    pub ready_pods: Option<i32>,
}

/// What the HPA is told. Values are milli-units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// The trigger's value.
    Value(i64),
    /// The value that makes the HPA ask for the fallback's replicas.
    Fallback(i64),
    /// Nothing, which the formula may replace with `??`.
    Nothing,
    /// An error: the HPA holds, or goes by its other metrics.
    Error(String),
}

/// Answers one query, and keeps count of failures.
pub fn serve(spec: &ScaledObjectSpec, state: &mut FallbackState, input: &FallbackInput<'_>) -> Served {
    let fallback = spec.fallback.as_ref().filter(|fallback| is_valid(spec, fallback));
    let Some(fallback) = fallback else {
        return input.reading.clone().map_or_else(Served::Error, Served::Value);
    };
    let error = match &input.reading {
        Ok(value) => {
            state.0.insert(input.metric.to_owned(), Health { failures: 0 });
            return Served::Value(*value);
        }
        Err(error) => error,
    };
    let health = state.0.entry(input.metric.to_owned()).or_default();
    health.failures = health.failures.saturating_add(1);
    if health.failures <= fallback.failure_threshold {
        return Served::Error(error.clone());
    }
    let behavior = fallback.behavior.unwrap_or_default();
    if behavior == FallbackBehavior::ScalingModifiers {
        return Served::Nothing;
    }
    let current = match (behavior, fallback.behavior, input.replicas) {
        // Only the written `static` does without the current replicas.
        (FallbackBehavior::Static, Some(_), replicas) => replicas.unwrap_or(0),
        (_, _, Some(replicas)) => replicas,
        (_, _, None) => return Served::Error(error.clone()),
    };
    let replicas = match behavior {
        FallbackBehavior::Static | FallbackBehavior::ScalingModifiers => fallback.replicas,
        FallbackBehavior::CurrentReplicas => current,
        FallbackBehavior::CurrentReplicasIfHigher => current.max(fallback.replicas),
        FallbackBehavior::CurrentReplicasIfLower => current.min(fallback.replicas),
    };
    match metric_for(spec, input, f64::from(replicas)) {
        Some(milli) => Served::Fallback(milli),
        None => Served::Error("error performing fallback".to_owned()),
    }
}

/// The value that makes the HPA ask for `replicas`; `None` when a total cannot be shared.
fn metric_for(spec: &ScaledObjectSpec, input: &FallbackInput<'_>, mut replicas: f64) -> Option<i64> {
    let (r#type, target) = match spec.modifiers() {
        Some(modifiers) => (modifiers.metric_type, modifiers.target.parse().unwrap_or(0.0)),
        None => {
            let target = match input.target.r#type {
                MetricTargetType::AverageValue => input.target.average_value,
                MetricTargetType::Value => input.target.value,
                MetricTargetType::Utilization => None,
            };
            (Some(input.target.r#type), target.map_or(0.0, |target| target.approximate()))
        }
    };
    if r#type == Some(MetricTargetType::Value) {
        // The HPA multiplies a total's ratio by the ready pods.
        replicas /= f64::from(input.ready_pods.filter(|ready| *ready != 0)?);
    }
    Some(go_arith::to_i64(target * 1000.0 * replicas))
}

/// A formula's target must be a whole number here, though admission takes others (`HasValidFallback`).
fn is_valid(spec: &ScaledObjectSpec, fallback: &Fallback) -> bool {
    let target_is_whole = spec
        .modifiers()
        .is_none_or(|modifiers| modifiers.target.parse::<i64>().is_ok_and(|target| target > 0));
    fallback.failure_threshold >= 0 && fallback.replicas >= 0 && target_is_whole
}
