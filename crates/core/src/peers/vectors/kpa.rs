//! Vectors of Knative's autoscaler: decisions, windows, and configuration.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::compare::{Failure, Report, StepReport};
use crate::{
    Timestamp,
    peers::kpa::{
        self, ConfigMap, DeciderSpec, KpaObservation, KpaState, PodsError, Reachability, WindowAverages,
        window::{Aggregation, AverageWindow, MaxWindow},
    },
};

/// The clock at t = 0 (2000-01-01): buckets are aligned to it.
const EPOCH_SECONDS: f64 = 946_684_800.0;

fn clock(t: f64) -> Timestamp {
    Timestamp::from_seconds(EPOCH_SECONDS + t)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scenario {
    name: String,
    decider_spec: DeciderSpec,
    #[serde(default)]
    initial_ready_pods: i32,
    #[serde(default)]
    initial_ready_error: Failure,
    initial_in_panic: Option<bool>,
    steps: Vec<VectorStep>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VectorStep {
    t: f64,
    decider_spec: Option<DeciderSpec>,
    #[serde(default)]
    ready_pods: i32,
    #[serde(default)]
    ready_error: Failure,
    #[serde(default)]
    stable_value: f64,
    #[serde(default)]
    panic_value: f64,
    #[serde(default)]
    metric_error: Failure,
    expect: Expectation,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expectation {
    scale_valid: bool,
    desired_pod_count: i32,
    excess_burst_capacity: i32,
    in_panic: bool,
    max_panic_pods: i32,
}

pub(super) fn replay(line: &str) -> Result<Report, serde_json::Error> {
    let scenario: Scenario = serde_json::from_str(line)?;
    let mut spec = scenario.decider_spec;
    let counted = scenario.initial_ready_error.0.is_none().then_some(scenario.initial_ready_pods);
    let mut state = KpaState::new(&spec, counted, clock(0.0));
    let mut steps = Vec::with_capacity(scenario.steps.len() + 1);
    if let Some(expected) = scenario.initial_in_panic {
        let mut report = StepReport::new("start");
        report.expect("initialInPanic", &expected, &state.in_panic());
        steps.push(report);
    }
    for step in scenario.steps {
        if let Some(updated) = step.decider_spec {
            spec = updated;
        }
        let observation = KpaObservation {
            now: clock(step.t),
            ready_pods: match step.ready_error.0 {
                None => Ok(step.ready_pods),
                Some(error) if error == "NotFound" => Err(PodsError::NotFound),
                Some(error) => Err(PodsError::Other(error)),
            },
            metric: match step.metric_error.0 {
                None => Ok(WindowAverages { stable: step.stable_value, panic: step.panic_value }),
                Some(error) => Err(error),
            },
        };
        let outcome = kpa::scale(&spec, &mut state, &observation);
        let expect = step.expect;
        let mut report = StepReport::new(format_args!("t={}", step.t));
        report.expect("scaleValid", &expect.scale_valid, &outcome.desired.is_some());
        report.expect("desiredPodCount", &expect.desired_pod_count, &outcome.desired.unwrap_or(0));
        report.expect("excessBurstCapacity", &expect.excess_burst_capacity, &outcome.excess_burst_capacity);
        report.expect("inPanic", &expect.in_panic, &state.in_panic());
        report.expect("maxPanicPods", &expect.max_panic_pods, &state.max_panic_pods());
        report.reasons = outcome.steps.iter().map(ToString::to_string).collect();
        steps.push(report);
    }
    Ok(Report { name: scenario.name, steps })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WindowScenario {
    name: String,
    algorithm: Algorithm,
    window_seconds: f64,
    granularity_seconds: Option<f64>,
    ops: Vec<WindowOp>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Algorithm {
    Linear,
    WeightedExponential,
    Max,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum WindowOp {
    Record { t: f64, value: f64 },
    Average { t: f64, expect: f64 },
    IsEmpty { t: f64, expect: bool },
    Resize { t: f64, window_seconds: f64 },
    Current { expect: i32 },
}

enum Window {
    Average(AverageWindow),
    Max(MaxWindow),
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::ZERO)
}

/// Averages are compared as closely as their algorithms are defined: linear ones are rounded to six
/// digits, weighted ones are sums of powers.
fn agrees(algorithm: Algorithm, expected: f64, got: f64) -> bool {
    let tolerance = match algorithm {
        Algorithm::WeightedExponential => 1e-9 * expected.abs().max(1e-300),
        Algorithm::Linear | Algorithm::Max => 1e-6,
    };
    // A little more than the tolerance, for the last digit of the comparison itself.
    (expected - got).abs() <= tolerance * 1.001
}

pub(super) fn replay_window(line: &str) -> Result<Report, serde_json::Error> {
    let scenario: WindowScenario = serde_json::from_str(line)?;
    let span = seconds(scenario.window_seconds);
    let granularity = scenario.granularity_seconds.map_or(AverageWindow::GRANULARITY, seconds);
    let mut window = match scenario.algorithm {
        Algorithm::Linear => Window::Average(AverageWindow::new(Aggregation::Linear, span, granularity)),
        Algorithm::WeightedExponential => {
            Window::Average(AverageWindow::new(Aggregation::WeightedExponential, span, granularity))
        }
        Algorithm::Max => Window::Max(MaxWindow::new(span)),
    };
    let mut steps = Vec::with_capacity(scenario.ops.len());
    for (index, op) in scenario.ops.into_iter().enumerate() {
        let mut report = StepReport::new(format_args!("op {index}"));
        match (op, &mut window) {
            (WindowOp::Record { t, value }, Window::Average(window)) => window.record(clock(t), value),
            (WindowOp::Record { t, value }, Window::Max(window)) => window.record(clock(t), value as i32),
            (WindowOp::Resize { t, window_seconds }, Window::Average(window)) => {
                window.resize(clock(t), seconds(window_seconds));
            }
            (WindowOp::Average { t, expect }, Window::Average(window)) => {
                let got = window.average(clock(t));
                if !agrees(scenario.algorithm, expect, got) {
                    report.expect("average", &expect, &got);
                }
            }
            (WindowOp::IsEmpty { t, expect }, Window::Average(window)) => {
                report.expect("isEmpty", &expect, &window.is_empty(clock(t)));
            }
            (WindowOp::Current { expect }, Window::Max(window)) => {
                report.expect("current", &expect, &window.current());
            }
            (
                WindowOp::Average { .. }
                | WindowOp::IsEmpty { .. }
                | WindowOp::Resize { .. }
                | WindowOp::Current { .. },
                _,
            ) => report.expect("op", &"one that this kind of window has", &"another"),
        }
        steps.push(report);
    }
    Ok(Report { name: scenario.name, steps })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecScenario {
    name: String,
    #[serde(default)]
    config_autoscaler: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    container_concurrency: i64,
    #[serde(default)]
    reachability: Reachability,
    config_error: Option<String>,
    decider_spec: Option<DeciderSpec>,
    #[serde(default)]
    panic_window_seconds: f64,
    #[serde(default)]
    min_scale: i32,
    #[serde(default)]
    max_scale: i32,
}

pub(super) fn replay_spec(line: &str) -> Result<Report, serde_json::Error> {
    let scenario: SpecScenario = serde_json::from_str(line)?;
    let mut report = StepReport::new("conversion");
    let config = ConfigMap::parse(&scenario.config_autoscaler);
    report.expect("configError", &scenario.config_error.is_some(), &config.is_err());
    match config {
        Ok(config) => {
            let got = kpa::resolve(
                &config,
                &scenario.annotations,
                scenario.container_concurrency,
                scenario.reachability,
            );
            report.expect("deciderSpec", &scenario.decider_spec, &Some(got.decider));
            report.expect(
                "panicWindowSeconds",
                &scenario.panic_window_seconds,
                &got.panic_window.as_secs_f64(),
            );
            report.expect("minScale", &scenario.min_scale, &got.min_scale);
            report.expect("maxScale", &scenario.max_scale, &got.max_scale);
        }
        Err(error) => report.reasons.push(error.to_string()),
    }
    Ok(Report { name: scenario.name, steps: vec![report] })
}
