//! Policy `hpa`: a reconcile every 15 s.

use std::collections::BTreeMap;

use super::signals::{Signals, milli};
use crate::{
    Bounds, Observation, Phase, Reason, Replica, Stage, Timestamp,
    peers::hpa::{
        self, ConditionStatus, ControllerConfig, HpaObservation, HpaReason, HpaSpec, HpaState, MetricAnswer,
        MetricSourceType, MetricSpec, Pod, PodPhase, PodSample, Readiness, Scale,
    },
    pipeline::Draft,
    policy::HpaPolicy,
};

/// One reconcile of the policy.
pub(super) fn tick(draft: &mut Draft<'_>, policy: &HpaPolicy, state: &mut HpaState, signals: &Signals<'_>) {
    let Bounds { min, max } = draft.spec.replicas;
    let spec = HpaSpec {
        min_replicas: Some(count(min.0)),
        max_replicas: count(max.0),
        metrics: policy.metrics.clone(),
        behavior: policy.behavior.clone(),
        ..HpaSpec::default()
    };
    let now = draft.now;
    let metrics = spec.metrics.iter().map(|metric| answer(signals, metric, now)).collect();
    reconcile(draft, &spec, &policy.controller, state, metrics);
}

/// Runs the controller on the observed fleet and takes its number.
pub(super) fn reconcile(
    draft: &mut Draft<'_>,
    spec: &HpaSpec,
    controller: &ControllerConfig,
    state: &mut HpaState,
    metrics: Vec<MetricAnswer>,
) {
    let current = count(draft.current);
    let observation = HpaObservation {
        now: draft.now,
        scale: Ok(Scale { spec_replicas: current, status_replicas: existing(draft.observation) }),
        pods: pods(draft.observation),
        metrics,
    };
    let outcome = hpa::evaluate(spec, controller, state, &observation);
    for hpa in outcome.steps {
        let (stage, replicas) = place(&hpa, current);
        draft.set(stage, super::replicas(replicas), Reason::Hpa { hpa });
    }
    draft.replicas = super::replicas(outcome.desired.unwrap_or(current));
}

/// `status.replicas`: pods that exist and are not on their way out.
pub(super) fn existing(observation: &Observation) -> i32 {
    count(observation.count_where(Phase::counts))
}

pub(super) fn count(replicas: u32) -> i32 {
    i32::try_from(replicas).unwrap_or(i32::MAX)
}

/// Replicas as pods. One that loads its model runs and is not ready.
fn pods(observation: &Observation) -> Vec<Pod> {
    observation.replicas.iter().map(|replica| pod(replica, observation.at)).collect()
}

fn pod(replica: &Replica, now: Timestamp) -> Pod {
    let mut pod = Pod::running(replica.id.as_str());
    pod.started = Some(now - replica.age);
    let not_ready = Some(Readiness { status: ConditionStatus::False, since: pod.started });
    match replica.phase {
        Phase::Requested | Phase::Provisioning => {
            pod.phase = PodPhase::Pending;
            pod.ready = not_ready;
        }
        Phase::Loading => pod.ready = not_ready,
        Phase::Ready => {}
        Phase::Draining | Phase::Leaving => pod.deleting = true,
    }
    pod
}

/// What the metrics API would say.
fn answer(signals: &Signals<'_>, metric: &MetricSpec, now: Timestamp) -> MetricAnswer {
    let unset = || MetricAnswer::Failed("the metric's source is not set".to_owned());
    match metric.r#type {
        MetricSourceType::Pods => {
            metric.pods.as_ref().map_or_else(unset, |pods| per_pod(signals, &pods.metric.name, now))
        }
        MetricSourceType::Resource => {
            metric.resource.as_ref().map_or_else(unset, |resource| per_pod(signals, &resource.name, now))
        }
        MetricSourceType::ContainerResource => metric
            .container_resource
            .as_ref()
            .map_or_else(unset, |source| per_pod(signals, &source.name, now)),
        MetricSourceType::Object => metric.object.as_ref().map_or_else(unset, |object| {
            total(signals, &object.metric.name).map_or_else(MetricAnswer::Failed, MetricAnswer::Value)
        }),
        MetricSourceType::External => metric.external.as_ref().map_or_else(unset, |external| {
            total(signals, &external.metric.name)
                .map_or_else(MetricAnswer::Failed, |value| MetricAnswer::Series(vec![value]))
        }),
    }
}

fn total(signals: &Signals<'_>, name: &str) -> Result<i64, String> {
    signals.total(name).map(milli).map_err(super::signals::Unread::into_text)
}

pub(super) fn per_pod(signals: &Signals<'_>, name: &str, now: Timestamp) -> MetricAnswer {
    let sample = |value| PodSample { value: milli(value), timestamp: now, window: HpaPolicy::SYNC_PERIOD };
    match signals.per_replica(name) {
        Ok(values) => {
            let samples: BTreeMap<String, PodSample> =
                values.into_iter().map(|(id, value)| (id.to_owned(), sample(value))).collect();
            MetricAnswer::PerPod(samples)
        }
        Err(unread) => MetricAnswer::Failed(unread.into_text()),
    }
}

/// The pipeline's step that a step of the controller is, and the number after it.
fn place(reason: &HpaReason, current: i32) -> (Stage, i32) {
    match reason {
        HpaReason::ScaleUnreadable { .. } | HpaReason::Disabled | HpaReason::MetricFailed { .. } => {
            (Stage::Propose, current)
        }
        HpaReason::Proposal { replicas, .. } => (Stage::Propose, *replicas),
        HpaReason::MetricsUnusable { .. } => (Stage::Combine, current),
        HpaReason::LargestProposal { replicas, .. } => (Stage::Combine, *replicas),
        HpaReason::Stabilised { result, .. } => (Stage::Stabilise, *result),
        HpaReason::RateLimited { result, .. } => (Stage::RateLimit, *result),
        HpaReason::OutOfBounds { bound, .. } => (Stage::Guard, *bound),
        HpaReason::Bounded { result, .. } => (Stage::Guard, *result),
        HpaReason::RaisedFromZero { min } => (Stage::Guard, *min),
        HpaReason::Rescaled { to, .. } => (Stage::Guard, *to),
        HpaReason::Unchanged { replicas } | HpaReason::UpdateFailed { replicas, .. } => {
            (Stage::Guard, *replicas)
        }
    }
}
