//! One reconcile, in the controller's order (`reconcileAutoscaler` of `horizontal.go`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{
    calculator::{Fleet, Tolerances},
    conditions::{ConditionType, Conditions},
    defaults::default_metric,
    metrics,
    normalize::{self, Wish},
    observation::{ControllerConfig, HpaObservation, Scale},
    rate,
    reason::{HpaReason, Observed},
    spec::{HpaSpec, MetricSourceType, MetricSpec, ScalingRules},
    state::{HpaState, Recommendation},
};
use crate::{Timestamp, quantity::Quantity};

/// What one reconcile came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HpaOutcome {
    /// What is written to the scale subresource, if anything.
    pub scale_update: Option<i32>,
    /// The replicas asked for afterwards; `None` when the scale could not be read.
    pub desired: Option<i32>,
    /// All conditions of the status.
    pub conditions: Conditions,
    /// Each metric's value; `None` where it failed. Empty when no metric was read.
    pub observed: Vec<Option<Observed>>,
    /// What each step did, in order.
    pub steps: Vec<HpaReason>,
}

/// A reconcile before its scale is written; [`settle`] finishes it.
#[derive(Clone, Debug)]
#[must_use = "settle the plan, or the events it causes are not remembered"]
pub struct HpaPlan {
    now: Timestamp,
    scale: Option<Scale>,
    write: Option<Write>,
    observed: Option<Vec<Option<Observed>>>,
    failed: bool,
    steps: Vec<HpaReason>,
}

#[derive(Clone, Debug)]
struct Write {
    replicas: i32,
    why: String,
}

impl HpaPlan {
    /// What is to be written to the scale subresource, if anything.
    pub fn scale_update(&self) -> Option<i32> {
        self.write.as_ref().map(|write| write.replicas)
    }
}

/// One whole reconcile, where writing the scale succeeds.
pub fn evaluate(
    spec: &HpaSpec,
    config: &ControllerConfig,
    state: &mut HpaState,
    observation: &HpaObservation,
) -> HpaOutcome {
    let plan = plan(spec, config, state, observation);
    settle(spec, state, plan, Ok(()))
}

/// The first half: what to write, if anything. The specification may be as the user wrote it: defaults
/// are applied on the way.
pub fn plan(
    spec: &HpaSpec,
    config: &ControllerConfig,
    state: &mut HpaState,
    observation: &HpaObservation,
) -> HpaPlan {
    let mut plan = HpaPlan {
        now: observation.now,
        scale: None,
        write: None,
        observed: None,
        failed: false,
        steps: Vec::new(),
    };
    let scale = match &observation.scale {
        Ok(scale) => *scale,
        Err(error) => {
            let message = format!("the HPA controller was unable to get the target's current scale: {error}");
            state.status.conditions.set(ConditionType::AbleToScale, false, "FailedGetScale", message);
            plan.steps.push(HpaReason::ScaleUnreadable { error: error.clone() });
            return plan;
        }
    };
    plan.scale = Some(scale);
    let current = scale.spec_replicas;
    let min = spec.min_replicas();
    state.status.conditions.set(
        ConditionType::AbleToScale,
        true,
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    );
    state
        .recommendations
        .get_or_insert_with(|| vec![Recommendation { replicas: current, at: observation.now }]);

    let metric_specs = metric_specs(spec);
    let scaled_to_zero = state.status.conditions.is_true(ConditionType::ScaledToZero);
    if current == 0 {
        let can_leave_zero = scaled_to_zero && (min != 0 || has_fleet_metric(&metric_specs));
        if !can_leave_zero {
            let message = "scaling is disabled since the replica count of the target is zero";
            state.status.conditions.set(ConditionType::ScalingActive, false, "ScalingDisabled", message);
            plan.steps.push(HpaReason::Disabled);
            return plan;
        }
    } else if current > spec.max_replicas || current < min {
        let (bound, why) = if current > spec.max_replicas {
            (spec.max_replicas, "Current number of replicas above Spec.MaxReplicas")
        } else {
            (min, "Current number of replicas below Spec.MinReplicas")
        };
        plan.steps.push(HpaReason::OutOfBounds { current, bound });
        plan.write = Some(Write { replicas: bound, why: why.to_owned() });
        return plan;
    }

    let fleet = Fleet {
        pods: &observation.pods,
        spec_replicas: current,
        status_replicas: scale.status_replicas,
        config,
        tolerances: tolerances(spec, config),
        now: observation.now,
    };
    let evaluated = metrics::evaluate(&fleet, &metric_specs, &observation.metrics, &mut plan.steps);
    plan.observed = Some(evaluated.observed);
    let (proposed, metric) = match evaluated.wish {
        Ok(wish) => wish,
        Err(unusable) => {
            state.status.conditions.set(
                ConditionType::ScalingActive,
                false,
                unusable.reason,
                unusable.message,
            );
            plan.failed = true;
            return plan;
        }
    };
    let message = format!("the HPA was able to successfully calculate a replica count from {metric}");
    state.status.conditions.set(ConditionType::ScalingActive, true, "ValidMetricFound", message);

    // A negative proposal is none.
    let wish = Wish { now: observation.now, current, desired: proposed.max(0), min, max: spec.max_replicas };
    let mut why = String::new();
    if wish.desired > current {
        why = format!("{metric} above target");
    } else if wish.desired < current {
        "All metrics below target".clone_into(&mut why);
    }
    let mut desired = normalize::normalize(wish, spec.behavior.as_ref(), config, state, &mut plan.steps);
    if current == 0 && min != 0 && scaled_to_zero && desired < min {
        desired = min;
        plan.steps.push(HpaReason::RaisedFromZero { min });
        if why.is_empty() {
            "Current number of replicas below Spec.MinReplicas".clone_into(&mut why);
        }
    }
    if desired != current {
        plan.write = Some(Write { replicas: desired, why });
    }
    plan
}

/// The second half: remembers what came of writing the scale, and gives the outcome.
pub fn settle(
    spec: &HpaSpec,
    state: &mut HpaState,
    plan: HpaPlan,
    written: Result<(), String>,
) -> HpaOutcome {
    let HpaPlan { now, scale, write, observed, failed, mut steps } = plan;
    let scale_update = write.as_ref().map(|write| write.replicas);
    let Some(scale) = scale else {
        return outcome(state, scale_update, None, steps);
    };
    let current = scale.spec_replicas;
    let mut desired = current;
    let mut status_desired = if failed { state.status.desired_replicas } else { current };
    match (write, written) {
        (None, _) => steps.push(HpaReason::Unchanged { replicas: current }),
        (Some(write), Ok(())) => {
            desired = write.replicas;
            status_desired = write.replicas;
            rescaled(spec, state, current, desired, now);
            steps.push(HpaReason::Rescaled { from: current, to: desired, why: write.why });
        }
        (Some(write), Err(error)) => {
            status_desired = state.status.desired_replicas;
            let message = format!("the HPA controller was unable to update the target scale: {error}");
            state.status.conditions.set(ConditionType::AbleToScale, false, "FailedUpdateScale", message);
            steps.push(HpaReason::UpdateFailed { replicas: write.replicas, error });
        }
    }
    state.status.current_replicas = current;
    state.status.desired_replicas = status_desired;
    state.status.current_metrics = observed.unwrap_or_default();
    outcome(state, scale_update, Some(desired), steps)
}

fn outcome(
    state: &HpaState,
    scale_update: Option<i32>,
    desired: Option<i32>,
    steps: Vec<HpaReason>,
) -> HpaOutcome {
    HpaOutcome {
        scale_update,
        desired,
        conditions: state.status.conditions.clone(),
        observed: state.status.current_metrics.clone(),
        steps,
    }
}

fn rescaled(spec: &HpaSpec, state: &mut HpaState, from: i32, to: i32, now: Timestamp) {
    rate::record(spec.behavior.as_ref(), state, from, to, now);
    let conditions = &mut state.status.conditions;
    let message = format!("the HPA controller was able to update the target scale to {to}");
    conditions.set(ConditionType::AbleToScale, true, "SucceededRescale", message);
    if from > 0 && to == 0 && spec.min_replicas() == 0 && has_fleet_metric(&spec.metrics) {
        let message = "the HPA controller scaled the workload to zero";
        conditions.set(ConditionType::ScaledToZero, true, "ScaledToZero", message);
    } else {
        let message = "the HPA controller did not scale the workload to zero";
        conditions.set(ConditionType::ScaledToZero, false, "NotScaledToZero", message);
    }
    state.status.last_scale_time = Some(now);
}

fn metric_specs(spec: &HpaSpec) -> Cow<'_, [MetricSpec]> {
    if spec.metrics.is_empty() { Cow::Owned(vec![default_metric()]) } else { Cow::Borrowed(&spec.metrics) }
}

/// Whether some metric exists without any pod.
fn has_fleet_metric(metrics: &[MetricSpec]) -> bool {
    metrics
        .iter()
        .any(|metric| matches!(metric.r#type, MetricSourceType::Object | MetricSourceType::External))
}

fn tolerances(spec: &HpaSpec, config: &ControllerConfig) -> Tolerances {
    let behavior = spec.behavior.as_ref();
    let own = |rules: Option<&ScalingRules>| {
        rules.and_then(|rules| rules.tolerance).map_or(config.tolerance, Quantity::approximate)
    };
    Tolerances {
        down: own(behavior.and_then(|behavior| behavior.scale_down.as_ref())),
        up: own(behavior.and_then(|behavior| behavior.scale_up.as_ref())),
    }
}
