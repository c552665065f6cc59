//! Vectors of KEDA: the loop between zero and one, and fallbacks.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::compare::{Failure, Report, StepReport};
use crate::{
    Timestamp,
    peers::{
        hpa::{MetricTarget, MetricTargetType},
        keda::{
            self, Annotations, ExecutorObservation, ExecutorState, Fallback, FallbackInput, FallbackState,
            KedaCondition, ScaledObjectSpec, Served,
        },
    },
    quantity::Quantity,
};

/// The one metric of a fallback vector.
const METRIC: &str = "s0-metric";

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
enum Scenario {
    Executor(Box<ExecutorScenario>),
    Fallback(FallbackScenario),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecutorScenario {
    name: String,
    scaled_object: VectorObject,
    hpa_min_replicas: Option<i32>,
    hpa_max_replicas: Option<i32>,
    #[serde(default)]
    bounds_error: Failure,
    polling_interval_relevant: Option<bool>,
    #[serde(default)]
    steps: Vec<ExecutorStep>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VectorObject {
    #[serde(flatten)]
    spec: ScaledObjectSpec,
    #[serde(default)]
    annotations: Annotations,
    #[serde(default)]
    created_at: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecutorStep {
    t: f64,
    replicas: i32,
    #[serde(default)]
    is_active: bool,
    #[serde(default)]
    is_error: bool,
    #[serde(default)]
    get_error: Failure,
    #[serde(default)]
    update_error: Failure,
    annotations: Option<Annotations>,
    expect: ExecutorExpectation,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecutorExpectation {
    scale_to: Option<i32>,
    replicas: i32,
    last_active_time: Option<f64>,
    #[serde(default)]
    conditions: BTreeMap<String, String>,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    error: Failure,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FallbackScenario {
    name: String,
    fallback: Option<Fallback>,
    target_type: MetricTargetType,
    target: Quantity,
    steps: Vec<FallbackStep>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FallbackStep {
    #[serde(default)]
    error: Failure,
    #[serde(default)]
    value: i64,
    replicas: i32,
    ready_pods: i32,
    served: Option<i64>,
    #[serde(default)]
    fallback_active: bool,
    failures: Option<i32>,
    #[serde(default)]
    fallback_condition: String,
}

pub(super) fn replay(line: &str) -> Result<Report, serde_json::Error> {
    Ok(match serde_json::from_str(line)? {
        Scenario::Executor(scenario) => replay_executor(*scenario),
        Scenario::Fallback(scenario) => replay_fallback(scenario),
    })
}

fn replay_executor(scenario: ExecutorScenario) -> Report {
    let VectorObject { spec, mut annotations, created_at } = scenario.scaled_object;
    let mut state = ExecutorState::default();
    let mut bounds = StepReport::new("bounds");
    if let Some(min) = scenario.hpa_min_replicas {
        bounds.expect("hpaMinReplicas", &min, &spec.hpa_min_replicas());
    }
    if let Some(max) = scenario.hpa_max_replicas {
        bounds.expect("hpaMaxReplicas", &max, &spec.hpa_max_replicas());
    }
    bounds.expect("boundsError", &scenario.bounds_error.0.is_some(), &spec.check_bounds().is_err());
    if let Some(relevant) = scenario.polling_interval_relevant {
        bounds.expect("pollingIntervalRelevant", &relevant, &spec.is_polling_interval_relevant());
    }
    let mut steps = vec![bounds];
    for step in scenario.steps {
        if let Some(replaced) = step.annotations {
            annotations = replaced;
        }
        let seen = ExecutorObservation {
            now: Timestamp::from_seconds(step.t),
            created_at: Timestamp::from_seconds(created_at),
            replicas: step.get_error.0.map_or(Ok(step.replicas), Err),
            is_active: step.is_active,
            is_error: step.is_error,
        };
        let plan = keda::plan(&spec, &annotations, &mut state, &seen);
        let outcome = keda::settle(&mut state, plan, step.update_error.0.map_or(Ok(()), Err));

        let expect = step.expect;
        let mut report = StepReport::new(format_args!("t={}", step.t));
        report.expect("scaleTo", &expect.scale_to, &outcome.scale_to);
        report.expect("replicas", &expect.replicas, &outcome.replicas.unwrap_or(step.replicas));
        let last_active = state.last_active.map(Timestamp::as_seconds);
        report.expect("lastActiveTime", &expect.last_active_time, &last_active);
        let conditions = [("Active", &state.active), ("Ready", &state.ready)]
            .into_iter()
            .filter_map(|(name, condition)| {
                let KedaCondition { status, reason } = condition.as_ref()?;
                Some((name.to_owned(), format!("{status:?}/{reason}")))
            })
            .collect();
        report.expect("conditions", &expect.conditions, &conditions);
        report.expect("paused", &expect.paused, &outcome.paused);
        report.expect("error", &expect.error.0.is_some(), &outcome.error.is_some());
        report.reasons = outcome.steps.iter().map(ToString::to_string).collect();
        steps.push(report);
    }
    Report { name: scenario.name, steps }
}

fn replay_fallback(scenario: FallbackScenario) -> Report {
    let spec = ScaledObjectSpec { fallback: scenario.fallback, ..ScaledObjectSpec::default() };
    let is_value = scenario.target_type == MetricTargetType::Value;
    let target = MetricTarget {
        r#type: scenario.target_type,
        value: is_value.then_some(scenario.target),
        average_value: (!is_value).then_some(scenario.target),
        average_utilization: None,
    };
    let mut state = FallbackState::default();
    let mut steps = Vec::with_capacity(scenario.steps.len());
    for (index, step) in scenario.steps.into_iter().enumerate() {
        let input = FallbackInput {
            metric: METRIC,
            target: &target,
            reading: step.error.0.map_or(Ok(step.value), Err),
            replicas: Some(step.replicas),
            ready_pods: Some(step.ready_pods),
        };
        let served = keda::serve(&spec, &mut state, &input);
        let value = match &served {
            Served::Value(milli) | Served::Fallback(milli) => Some(*milli),
            // KEDA's placeholder for "no value" is -1.
            Served::Nothing => Some(-1000),
            Served::Error(_) => None,
        };
        let condition = match state.is_active(spec.fallback.as_ref()) {
            None => "Unknown/",
            Some(true) => "True/FallbackExists",
            Some(false) => "False/NoFallbackFound",
        };
        let mut report = StepReport::new(format_args!("step {index}"));
        report.expect("served", &step.served, &value);
        report.expect("fallbackActive", &step.fallback_active, &matches!(served, Served::Fallback(_)));
        report.expect("failures", &step.failures, &state.health(METRIC).map(|health| health.failures));
        report.expect("fallbackCondition", &step.fallback_condition.as_str(), &condition);
        steps.push(report);
    }
    Report { name: scenario.name, steps }
}
