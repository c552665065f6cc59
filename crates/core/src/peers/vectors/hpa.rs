//! Vectors of Kubernetes' HPA controller.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::compare::{Failure, Report, StepReport};
use crate::{
    Timestamp,
    peers::hpa::{
        self, ConditionStatus, Container, ControllerConfig, HpaObservation, HpaSpec, HpaState, MetricAnswer,
        MetricSourceType, MetricSpec, Observed, Pod, PodPhase, PodSample, Readiness, Scale,
    },
};

/// The window of a sample that does not say (`metricServerDefaultMetricWindow`).
const DEFAULT_WINDOW_SECONDS: f64 = 60.0;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scenario {
    name: String,
    hpa: HpaObject,
    defaulted_spec: Option<serde_json::Value>,
    #[serde(default)]
    config: ControllerConfig,
    #[serde(default)]
    containers: Vec<VectorContainer>,
    steps: Vec<VectorStep>,
}

/// A whole manifest, or only its `spec`.
#[derive(Deserialize)]
#[serde(untagged)]
enum HpaObject {
    Manifest { spec: HpaSpec },
    Spec(HpaSpec),
}

impl HpaObject {
    fn into_spec(self) -> HpaSpec {
        match self {
            Self::Manifest { spec } | Self::Spec(spec) => spec,
        }
    }
}

#[derive(Deserialize)]
struct VectorContainer {
    name: String,
    #[serde(default)]
    requests: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VectorStep {
    t: f64,
    hpa: Option<HpaObject>,
    defaulted_spec: Option<serde_json::Value>,
    #[serde(default)]
    spec_replicas: i32,
    #[serde(default)]
    status_replicas: i32,
    #[serde(default)]
    pods: Vec<VectorPod>,
    #[serde(default)]
    metrics: Vec<VectorMetric>,
    #[serde(default)]
    get_scale_error: Failure,
    #[serde(default)]
    update_scale_error: Failure,
    expect: Expectation,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VectorPod {
    name: String,
    phase: PodPhase,
    ready: Option<VectorReady>,
    ready_transition: Option<f64>,
    start: Option<f64>,
    deletion: Option<f64>,
    containers: Option<Vec<VectorContainer>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum VectorReady {
    Known(bool),
    Status(ConditionStatus),
}

#[derive(Default, Deserialize)]
struct VectorMetric {
    #[serde(default)]
    error: Failure,
    pods: Option<BTreeMap<String, i64>>,
    value: Option<i64>,
    values: Option<Vec<i64>>,
    timestamp: Option<f64>,
    window: Option<f64>,
    #[serde(default)]
    timestamps: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expectation {
    scale_update: Option<i32>,
    desired_replicas: i32,
    status_current_replicas: i32,
    status_desired_replicas: i32,
    #[serde(default)]
    conditions: BTreeMap<String, String>,
    #[serde(default)]
    observed: Vec<Option<i64>>,
}

pub(super) fn replay(line: &str) -> Result<Report, serde_json::Error> {
    let scenario: Scenario = serde_json::from_str(line)?;
    let mut spec = scenario.hpa.into_spec();
    let mut state = HpaState::default();
    let mut defaulted = scenario.defaulted_spec;
    let mut steps = Vec::with_capacity(scenario.steps.len());
    for step in scenario.steps {
        let mut report = StepReport::new(format_args!("t={}", step.t));
        if let Some(hpa) = step.hpa {
            spec = hpa.into_spec();
            defaulted = step.defaulted_spec;
        }
        if let Some(expected) = defaulted.take() {
            report.expect("defaultedSpec", &expected, &serde_json::to_value(spec.defaulted())?);
        }
        let now = Timestamp::from_seconds(step.t);
        let observation = HpaObservation {
            now,
            scale: match step.get_scale_error.0 {
                Some(error) => Err(error),
                None => {
                    Ok(Scale { spec_replicas: step.spec_replicas, status_replicas: step.status_replicas })
                }
            },
            pods: step.pods.into_iter().map(|pod| pod.into_pod(&scenario.containers)).collect(),
            metrics: step.metrics.into_iter().map(|metric| metric.into_answer(now)).collect(),
        };
        let plan = hpa::plan(&spec, &scenario.config, &mut state, &observation);
        let written = step.update_scale_error.0.map_or(Ok(()), Err);
        let outcome = hpa::settle(&spec, &mut state, plan, written);

        let expect = step.expect;
        report.expect("scaleUpdate", &expect.scale_update, &outcome.scale_update);
        let desired = outcome.desired.unwrap_or(step.spec_replicas);
        report.expect("desiredReplicas", &expect.desired_replicas, &desired);
        let status = state.status();
        report.expect("statusCurrentReplicas", &expect.status_current_replicas, &status.current_replicas);
        report.expect("statusDesiredReplicas", &expect.status_desired_replicas, &status.desired_replicas);
        let conditions = outcome
            .conditions
            .iter()
            .map(|condition| {
                let value = format!("{:?}/{}", condition.status, condition.reason);
                (condition.r#type.to_string(), value)
            })
            .collect();
        report.expect("conditions", &expect.conditions, &conditions);
        let metrics = &spec.defaulted().metrics;
        let shared_by_none =
            |index: usize| step.status_replicas == 0 && metrics.get(index).is_some_and(is_share_of_fleet);
        let comparable = |values: Vec<Option<i64>>| -> Vec<Option<i64>> {
            let keep = |(index, value): (usize, Option<i64>)| value.filter(|_| !shared_by_none(index));
            let mut values: Vec<Option<i64>> = values.into_iter().enumerate().map(keep).collect();
            // The recording leaves out a list that holds nothing.
            values.truncate(values.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
            values
        };
        let observed = outcome.observed.iter().map(|seen| seen.map(as_number)).collect();
        report.expect("observed", &comparable(expect.observed), &comparable(observed));
        report.reasons = outcome.steps.iter().map(ToString::to_string).collect();
        steps.push(report);
    }
    Ok(Report { name: scenario.name, steps })
}

/// Whether the metric is divided by the replicas that exist, which gives nothing to compare at zero.
fn is_share_of_fleet(metric: &MetricSpec) -> bool {
    let target = match metric.r#type {
        MetricSourceType::Object => metric.object.as_ref().map(|object| &object.target),
        MetricSourceType::External => metric.external.as_ref().map(|external| &external.target),
        MetricSourceType::Pods | MetricSourceType::Resource | MetricSourceType::ContainerResource => None,
    };
    target.is_some_and(|target| target.average_value.is_some())
}

fn as_number(observed: Observed) -> i64 {
    match observed {
        Observed::Value { milli } | Observed::Average { milli } => milli,
        Observed::Utilization { percent, .. } => i64::from(percent),
    }
}

impl VectorPod {
    fn into_pod(self, containers: &[VectorContainer]) -> Pod {
        Pod {
            name: self.name,
            phase: self.phase,
            ready: self.ready.map(|ready| Readiness {
                status: match ready {
                    VectorReady::Known(true) => ConditionStatus::True,
                    VectorReady::Known(false) => ConditionStatus::False,
                    VectorReady::Status(status) => status,
                },
                since: self.ready_transition.map(Timestamp::from_seconds),
            }),
            started: self.start.map(Timestamp::from_seconds),
            deleting: self.deletion.is_some(),
            containers: self
                .containers
                .as_deref()
                .unwrap_or(containers)
                .iter()
                .map(|container| Container {
                    name: container.name.clone(),
                    requests: container.requests.clone(),
                })
                .collect(),
        }
    }
}

impl VectorMetric {
    fn into_answer(self, now: Timestamp) -> MetricAnswer {
        if let Some(error) = self.error.0 {
            return MetricAnswer::Failed(error);
        }
        if let Some(value) = self.value {
            return MetricAnswer::Value(value);
        }
        if let Some(values) = self.values {
            return MetricAnswer::Series(values);
        }
        let common = self.timestamp.map_or(now, Timestamp::from_seconds);
        let window = Duration::try_from_secs_f64(self.window.unwrap_or(DEFAULT_WINDOW_SECONDS))
            .unwrap_or(Duration::ZERO);
        let sample = |name: &str, value| PodSample {
            value,
            timestamp: self.timestamps.get(name).map_or(common, |seconds| Timestamp::from_seconds(*seconds)),
            window,
        };
        let pods = self.pods.unwrap_or_default();
        MetricAnswer::PerPod(
            pods.into_iter()
                .map(|(name, value)| {
                    let s = sample(&name, value);
                    (name, s)
                })
                .collect(),
        )
    }
}
