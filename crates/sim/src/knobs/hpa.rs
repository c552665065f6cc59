//! The knobs of an HPA, and of the `behavior` that a ScaledObject hands to its own.

use forewarm_core::{
    HpaPolicy, Policy, ScalerSpec,
    peers::hpa::{Behavior, ScalingPolicy, ScalingPolicyType, ScalingRules},
    quantity::Quantity,
};

use super::{DOWN_SECONDS, REQUESTS, UP_SECONDS};
use crate::tune::Knob;

pub(super) fn knobs() -> Vec<Knob> {
    let target = Knob {
        name: "metrics[0].averageValue",
        values: REQUESTS.to_vec(),
        get: |spec| of(spec)?.metrics.first()?.pods.as_ref()?.target.average_value.map(Quantity::to_f64),
        set: |spec, value| {
            let target = of_mut(spec)
                .and_then(|policy| policy.metrics.first_mut())
                .and_then(|metric| metric.pods.as_mut())
                .map(|pods| &mut pods.target);
            if let Some(target) = target {
                target.average_value = Some(Quantity::from_milli((value * 1e3) as i64));
            }
        },
    };
    [target].into_iter().chain(behavior()).collect()
}

/// Windows, and pods in a period: of an HPA, and of a ScaledObject.
pub(super) fn behavior() -> Vec<Knob> {
    vec![
        Knob {
            name: "scaleUp.stabilizationWindowSeconds",
            values: UP_SECONDS.to_vec(),
            get: |spec| window(up(spec)),
            set: |spec, seconds| set_window(up_mut(spec), seconds),
        },
        Knob {
            name: "scaleUp.policies[0].value",
            values: vec![1.0, 2.0, 4.0, 8.0, 16.0],
            get: |spec| pods(up(spec)),
            set: |spec, value| set_pods(up_mut(spec), value),
        },
        Knob {
            name: "scaleDown.stabilizationWindowSeconds",
            values: DOWN_SECONDS.to_vec(),
            get: |spec| window(down(spec)),
            set: |spec, seconds| set_window(down_mut(spec), seconds),
        },
        Knob {
            name: "scaleDown.policies[0].value",
            values: vec![1.0, 2.0, 4.0, 8.0],
            get: |spec| pods(down(spec)),
            set: |spec, value| set_pods(down_mut(spec), value),
        },
    ]
}

fn of(spec: &ScalerSpec) -> Option<&HpaPolicy> {
    if let Policy::Hpa(policy) = &spec.policy { Some(policy) } else { None }
}

fn of_mut(spec: &mut ScalerSpec) -> Option<&mut HpaPolicy> {
    if let Policy::Hpa(policy) = &mut spec.policy { Some(policy) } else { None }
}

fn behavior_of(spec: &ScalerSpec) -> Option<&Behavior> {
    if let Policy::Keda(policy) = &spec.policy {
        return policy.object.advanced.as_ref()?.horizontal_pod_autoscaler_config.as_ref()?.behavior.as_ref();
    }
    of(spec)?.behavior.as_ref()
}

fn behavior_mut(spec: &mut ScalerSpec) -> Option<&mut Behavior> {
    let behavior = match &mut spec.policy {
        Policy::Keda(policy) => {
            let advanced = policy.object.advanced.get_or_insert_default();
            &mut advanced.horizontal_pod_autoscaler_config.get_or_insert_default().behavior
        }
        Policy::Hpa(policy) => &mut policy.behavior,
        Policy::Forewarm(_)
        | Policy::QueueDepth(_)
        | Policy::Queue(_)
        | Policy::Kpa(_)
        | Policy::RayServe(_)
        | Policy::SkyServe(_)
        | Policy::Dynamo(_) => return None,
    };
    Some(behavior.get_or_insert_default())
}

fn up(spec: &ScalerSpec) -> Option<&ScalingRules> {
    behavior_of(spec)?.scale_up.as_ref()
}

fn up_mut(spec: &mut ScalerSpec) -> Option<&mut ScalingRules> {
    behavior_mut(spec).map(|behavior| behavior.scale_up.get_or_insert_default())
}

fn down(spec: &ScalerSpec) -> Option<&ScalingRules> {
    behavior_of(spec)?.scale_down.as_ref()
}

fn down_mut(spec: &mut ScalerSpec) -> Option<&mut ScalingRules> {
    behavior_mut(spec).map(|behavior| behavior.scale_down.get_or_insert_default())
}

fn window(rules: Option<&ScalingRules>) -> Option<f64> {
    rules?.stabilization_window_seconds.map(f64::from)
}

fn set_window(rules: Option<&mut ScalingRules>, seconds: f64) {
    if let Some(rules) = rules {
        rules.stabilization_window_seconds = Some(seconds as i32);
    }
}

fn pods(rules: Option<&ScalingRules>) -> Option<f64> {
    rules?.policies.as_ref()?.first().map(|policy| f64::from(policy.value))
}

/// Where there is no limit of pods yet, it is one a minute.
fn set_pods(rules: Option<&mut ScalingRules>, value: f64) {
    let Some(rules) = rules else { return };
    let policies = rules.policies.get_or_insert_default();
    match policies.first_mut() {
        Some(policy) => policy.value = value as i32,
        None => policies.push(ScalingPolicy {
            r#type: ScalingPolicyType::Pods,
            value: value as i32,
            period_seconds: 60,
        }),
    }
}
