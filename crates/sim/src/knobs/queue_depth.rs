//! The knobs of `queueDepth`.

use std::time::Duration;

use forewarm_core::{Policy, PreWarm, QueueDepth, Requests, ScalerSpec};

use super::{DOWN_SECONDS, REQUESTS};
use crate::tune::Knob;

/// The queue that counts as full where a policy without pre-warming gets one: that of `examples/seed/`.
const MAX_QUEUE: f64 = 100.0;

pub(super) fn knobs() -> Vec<Knob> {
    vec![
        Knob {
            name: "perReplica",
            values: REQUESTS.to_vec(),
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
            values: DOWN_SECONDS.to_vec(),
            get: |spec| Some(spec.behavior.scale_down.stabilization_window.as_secs_f64()),
            set: |spec, seconds| {
                spec.behavior.scale_down.stabilization_window = Duration::from_secs_f64(seconds);
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
