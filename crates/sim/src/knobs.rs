//! The settings that a person would turn, policy by policy, for [`tune`](crate::tune).

use forewarm_core::{Bounds, Policy, PreWarm, QueueDepth, Requests, ScalerSpec};

use crate::tune::Knob;

/// The knobs of a policy. `min_is_free`: whether the fewest replicas may be chosen too, as a user who does not
/// trust a policy does.
pub fn knobs(spec: &ScalerSpec, min_is_free: bool) -> Vec<Knob> {
    let mut knobs = match &spec.policy {
        Policy::QueueDepth(_) => queue_depth(),
        Policy::Hpa(_)
        | Policy::Keda(_)
        | Policy::Kpa(_)
        | Policy::RayServe(_)
        | Policy::SkyServe(_)
        | Policy::Dynamo(_) => Vec::new(),
    };
    if min_is_free {
        let most = spec.replicas.max.0;
        let values = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0];
        knobs.push(Knob {
            name: "replicas.min",
            values: values.into_iter().filter(|&min| min <= f64::from(most)).collect(),
            get: |spec| Some(f64::from(spec.replicas.min.0)),
            set: |spec, min| {
                if let Ok(bounds) = Bounds::new(min as u32, spec.replicas.max.0) {
                    spec.replicas = bounds;
                }
            },
        });
    }
    knobs
}

/// The queue that counts as full where a policy without pre-warming gets one: that of `examples/seed/`.
const MAX_QUEUE: f64 = 100.0;

fn queue_depth() -> Vec<Knob> {
    vec![
        Knob {
            name: "perReplica",
            values: vec![1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0],
            get: |spec| of(spec).map(|policy| policy.per_replica.get()),
            set: |spec, value| {
                if let (Some(policy), Ok(value)) = (of_mut(spec), Requests::new(value)) {
                    policy.per_replica = value;
                }
            },
        },
        Knob {
            name: "preWarm.threshold",
            values: vec![0.3, 0.5, 0.7, 0.9],
            get: |spec| of(spec)?.pre_warm.map(|pre_warm| pre_warm.threshold),
            set: |spec, threshold| {
                let lead_time = spec.cold_start.expected;
                if let (Some(policy), Ok(max_queue)) = (of_mut(spec), Requests::new(MAX_QUEUE)) {
                    let pre_warm = policy.pre_warm.unwrap_or(PreWarm { threshold, lead_time, max_queue });
                    policy.pre_warm = Some(PreWarm { threshold, ..pre_warm });
                }
            },
        },
        Knob {
            name: "preWarm.maxQueue",
            values: vec![2.0, 5.0, 10.0, 25.0, 50.0, 100.0],
            get: |spec| of(spec)?.pre_warm.map(|pre_warm| pre_warm.max_queue.get()),
            set: |spec, value| {
                if let (Some(policy), Ok(max_queue)) = (of_mut(spec), Requests::new(value)) {
                    policy.pre_warm = policy.pre_warm.map(|pre_warm| PreWarm { max_queue, ..pre_warm });
                }
            },
        },
        Knob {
            name: "scaleDown.stabilizationWindowSeconds",
            values: vec![0.0, 60.0, 300.0, 600.0, 1_200.0, 2_400.0, 3_600.0],
            get: |spec| Some(spec.behavior.scale_down.stabilization_window.as_secs_f64()),
            set: |spec, seconds| {
                spec.behavior.scale_down.stabilization_window = std::time::Duration::from_secs_f64(seconds);
            },
        },
    ]
}

fn of(spec: &ScalerSpec) -> Option<&QueueDepth> {
    if let Policy::QueueDepth(policy) = &spec.policy { Some(policy) } else { None }
}

fn of_mut(spec: &mut ScalerSpec) -> Option<&mut QueueDepth> {
    if let Policy::QueueDepth(policy) = &mut spec.policy { Some(policy) } else { None }
}
