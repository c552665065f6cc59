//! The knobs of Knative's, Ray Serve's, SkyServe's and Dynamo's autoscalers.

use std::time::Duration;

use forewarm_core::{
    DynamoPolicy, KpaPolicy, Policy, RayServePolicy, ScalerSpec, SkyServePolicy,
    peers::dynamo::OptimizationTarget,
};

use super::{DOWN_SECONDS, REQUESTS, UP_SECONDS};
use crate::tune::Knob;

const UTILIZATION: &str = "autoscaling.knative.dev/target-utilization-percentage";
const WINDOW: &str = "autoscaling.knative.dev/window";
const DOWN_DELAY: &str = "autoscaling.knative.dev/scale-down-delay";

pub(super) fn kpa() -> Vec<Knob> {
    vec![
        Knob {
            name: "target-utilization-percentage",
            values: vec![20.0, 35.0, 50.0, 70.0, 90.0],
            get: |spec| annotation(spec, UTILIZATION, ""),
            set: |spec, value| annotate(spec, UTILIZATION, value.to_string()),
        },
        Knob {
            name: "window",
            values: vec![30.0, 60.0, 120.0, 300.0, 900.0],
            get: |spec| annotation(spec, WINDOW, "s"),
            set: |spec, seconds| annotate(spec, WINDOW, format!("{seconds}s")),
        },
        Knob {
            name: "scale-down-delay",
            values: DOWN_SECONDS.to_vec(),
            get: |spec| annotation(spec, DOWN_DELAY, "s"),
            set: |spec, seconds| annotate(spec, DOWN_DELAY, format!("{seconds}s")),
        },
    ]
}

fn annotation(spec: &ScalerSpec, name: &str, unit: &str) -> Option<f64> {
    let Policy::Kpa(policy) = &spec.policy else { return None };
    policy.annotations().get(name)?.strip_suffix(unit)?.parse().ok()
}

/// What Knative would refuse leaves the policy as it is.
fn annotate(spec: &mut ScalerSpec, name: &str, value: String) {
    let Policy::Kpa(policy) = &spec.policy else { return };
    let mut annotations = policy.annotations().clone();
    annotations.insert(name.to_owned(), value);
    if let Ok(policy) = KpaPolicy::new(annotations, policy.config().clone(), policy.container_concurrency()) {
        spec.policy = Policy::Kpa(Box::new(policy));
    }
}

pub(super) fn ray_serve() -> Vec<Knob> {
    vec![
        Knob {
            name: "target_ongoing_requests",
            values: REQUESTS.to_vec(),
            get: |spec| ray(spec).map(|policy| policy.rules.target_ongoing_requests),
            set: |spec, value| {
                if let Policy::RayServe(policy) = &mut spec.policy {
                    policy.rules.target_ongoing_requests = value;
                }
            },
        },
        Knob {
            name: "upscale_delay_s",
            values: UP_SECONDS.to_vec(),
            get: |spec| ray(spec).map(|policy| policy.rules.upscale_delay.as_secs_f64()),
            set: |spec, seconds| {
                if let Policy::RayServe(policy) = &mut spec.policy {
                    policy.rules.upscale_delay = Duration::from_secs_f64(seconds);
                }
            },
        },
        Knob {
            name: "downscale_delay_s",
            values: DOWN_SECONDS.to_vec(),
            get: |spec| ray(spec).map(|policy| policy.rules.downscale_delay.as_secs_f64()),
            set: |spec, seconds| {
                if let Policy::RayServe(policy) = &mut spec.policy {
                    policy.rules.downscale_delay = Duration::from_secs_f64(seconds);
                }
            },
        },
    ]
}

fn ray(spec: &ScalerSpec) -> Option<&RayServePolicy> {
    if let Policy::RayServe(policy) = &spec.policy { Some(policy) } else { None }
}

/// Shares of the target, or of a replica's requests a second, as they were given.
const SHARES: [f64; 7] = [0.3, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5];

fn shares_of(given: Option<f64>) -> Vec<f64> {
    given.map(|given| SHARES.iter().map(|share| share * given).collect()).unwrap_or_default()
}

pub(super) fn sky_serve(given: Option<f64>) -> Vec<Knob> {
    vec![
        Knob {
            name: "target_qps_per_replica",
            values: shares_of(given),
            get: |spec| sky(spec)?.rules.target_qps_per_replica,
            set: |spec, value| {
                if let Policy::SkyServe(policy) = &mut spec.policy {
                    policy.rules.target_qps_per_replica = Some(value);
                }
            },
        },
        Knob {
            name: "upscale_delay_seconds",
            values: vec![20.0, 60.0, 120.0, 300.0],
            get: |spec| sky(spec).map(|policy| policy.rules.upscale_delay.as_secs_f64()),
            set: |spec, seconds| {
                if let Policy::SkyServe(policy) = &mut spec.policy {
                    policy.rules.upscale_delay = Duration::from_secs_f64(seconds);
                }
            },
        },
        Knob {
            name: "downscale_delay_seconds",
            values: DOWN_SECONDS.to_vec(),
            get: |spec| sky(spec).map(|policy| policy.rules.downscale_delay.as_secs_f64()),
            set: |spec, seconds| {
                if let Policy::SkyServe(policy) = &mut spec.policy {
                    policy.rules.downscale_delay = Duration::from_secs_f64(seconds);
                }
            },
        },
    ]
}

fn sky(spec: &ScalerSpec) -> Option<&SkyServePolicy> {
    if let Policy::SkyServe(policy) = &spec.policy { Some(policy) } else { None }
}

pub(super) fn dynamo(given: Option<f64>) -> Vec<Knob> {
    vec![
        Knob {
            name: "engineRequestsPerSecond",
            values: shares_of(given),
            get: |spec| planner(spec)?.engine_requests_per_second,
            set: |spec, value| {
                if let Policy::Dynamo(policy) = &mut spec.policy {
                    policy.engine_requests_per_second = Some(value);
                }
            },
        },
        Knob {
            // 0: for throughput, 1: for latency.
            name: "target",
            values: vec![0.0, 1.0],
            get: |spec| planner(spec).map(|policy| f64::from(policy.target == OptimizationTarget::Latency)),
            set: |spec, value| {
                if let Policy::Dynamo(policy) = &mut spec.policy {
                    let latency = value > 0.5;
                    policy.target =
                        if latency { OptimizationTarget::Latency } else { OptimizationTarget::Throughput };
                }
            },
        },
    ]
}

fn planner(spec: &ScalerSpec) -> Option<&DynamoPolicy> {
    if let Policy::Dynamo(policy) = &spec.policy { Some(policy) } else { None }
}
