//! The policy of a checked scaler with every default written out.

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::{
    DynamoPolicy, HpaPolicy, Policy, QueueDepth, RayServePolicy, SkyServePolicy,
    peers::{
        dynamo::OptimizationTarget,
        hpa::{Behavior, MetricSpec},
        keda::ScaledObjectSpec,
    },
};
use serde::Serialize;

use super::queue::QueueLine;
use crate::{policy::kpa_line, quantity::write_duration};

#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum PolicyLine<'a> {
    Forewarm {},
    QueueDepth {
        per_replica: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        pre_warm: Option<PreWarm>,
    },
    Queue(QueueLine<'a>),
    Hpa {
        metrics: &'a [MetricSpec],
        #[serde(skip_serializing_if = "Option::is_none")]
        behavior: Option<&'a Behavior>,
        tolerance: f64,
        downscale_stabilization: String,
        cpu_initialization_period: String,
        initial_readiness_delay: String,
    },
    Keda(&'a ScaledObjectSpec),
    Kpa(BTreeMap<&'static str, serde_json::Value>),
    RayServe {
        target_ongoing_requests: f64,
        upscaling_factor: f64,
        downscaling_factor: f64,
        upscale_delay: String,
        downscale_delay: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        downscale_to_zero_delay: Option<String>,
    },
    SkyServe {
        #[serde(skip_serializing_if = "Option::is_none")]
        target_qps_per_replica: Option<f64>,
        upscale_delay: String,
        downscale_delay: String,
    },
    Dynamo {
        optimization_target: OptimizationTarget,
        #[serde(skip_serializing_if = "Option::is_none")]
        engine_requests_per_second: Option<f64>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PreWarm {
    threshold: f64,
    lead_time: String,
    max_queue: f64,
}

impl<'a> PolicyLine<'a> {
    pub(super) fn of(policy: &'a Policy) -> Self {
        match policy {
            Policy::Forewarm(_) => PolicyLine::Forewarm {},
            Policy::QueueDepth(QueueDepth { per_replica, pre_warm }) => PolicyLine::QueueDepth {
                per_replica: per_replica.get(),
                pre_warm: pre_warm.map(|pre_warm| PreWarm {
                    threshold: pre_warm.threshold,
                    lead_time: write_duration(pre_warm.lead_time),
                    max_queue: pre_warm.max_queue.get(),
                }),
            },
            Policy::Queue(queue) => PolicyLine::Queue(QueueLine::of(queue)),
            Policy::Hpa(hpa) => {
                let HpaPolicy { metrics, behavior, controller } = hpa.as_ref();
                PolicyLine::Hpa {
                    metrics,
                    behavior: behavior.as_ref(),
                    tolerance: controller.tolerance,
                    downscale_stabilization: write_duration(controller.downscale_stabilization),
                    cpu_initialization_period: write_duration(controller.cpu_initialization_period),
                    initial_readiness_delay: write_duration(controller.initial_readiness_delay),
                }
            }
            Policy::Keda(keda) => PolicyLine::Keda(&keda.object),
            Policy::Kpa(kpa) => PolicyLine::Kpa(kpa_line(kpa)),
            Policy::RayServe(RayServePolicy { rules }) => PolicyLine::RayServe {
                target_ongoing_requests: rules.target_ongoing_requests,
                upscaling_factor: rules.upscaling_factor,
                downscaling_factor: rules.downscaling_factor,
                upscale_delay: write_duration(rules.upscale_delay),
                downscale_delay: write_duration(rules.downscale_delay),
                downscale_to_zero_delay: rules
                    .downscale_to_zero_delay_seconds
                    .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                    .map(write_duration),
            },
            Policy::SkyServe(SkyServePolicy { rules }) => PolicyLine::SkyServe {
                target_qps_per_replica: rules.target_qps_per_replica,
                upscale_delay: write_duration(rules.upscale_delay),
                downscale_delay: write_duration(rules.downscale_delay),
            },
            Policy::Dynamo(DynamoPolicy { target, engine_requests_per_second }) => PolicyLine::Dynamo {
                optimization_target: *target,
                engine_requests_per_second: *engine_requests_per_second,
            },
        }
    }
}
