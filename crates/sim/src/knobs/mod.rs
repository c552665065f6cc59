//! The settings that a person would turn, policy by policy, for [`tune`](crate::tune).

mod hpa;
mod keda;
mod others;
mod queue_depth;

use forewarm_core::{Bounds, Policy, ScalerSpec};

use crate::tune::Knob;

/// The knobs of a policy. `min_is_free`: whether the fewest replicas may be chosen too, as a user who does not
/// trust a policy does.
pub fn knobs(spec: &ScalerSpec, min_is_free: bool) -> Vec<Knob> {
    let mut knobs = match &spec.policy {
        // The objective is its only setting, and that is what settings are searched for. A queue of messages is none
        // of requests.
        Policy::Forewarm(_) | Policy::Queue(_) => Vec::new(),
        Policy::QueueDepth(_) => queue_depth::knobs(),
        Policy::Hpa(_) => hpa::knobs(),
        Policy::Keda(policy) => keda::knobs(policy.object.triggers.len()),
        Policy::Kpa(_) => others::kpa(),
        Policy::RayServe(_) => others::ray_serve(),
        Policy::SkyServe(policy) => others::sky_serve(policy.rules.target_qps_per_replica),
        Policy::Dynamo(policy) => others::dynamo(policy.engine_requests_per_second),
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

/// Targets of a metric that is counted in requests.
const REQUESTS: [f64; 8] = [1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 14.0, 20.0];
/// Delays on the way up, in seconds.
const UP_SECONDS: [f64; 4] = [0.0, 30.0, 60.0, 120.0];
/// Delays on the way down, in seconds: up to the longest window that `autoscaling/v2` allows.
const DOWN_SECONDS: [f64; 7] = [0.0, 60.0, 300.0, 600.0, 1_200.0, 2_400.0, 3_600.0];
