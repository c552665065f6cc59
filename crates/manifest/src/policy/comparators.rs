//! The policies of Ray Serve, SkyServe and Dynamo.

use forewarm_core::{
    DynamoPolicy, RayServePolicy, SkyServePolicy,
    peers::{dynamo::OptimizationTarget, ray_serve::RayServeSpec, sky_serve::SkyServeSpec},
};

use crate::cursor::Cursor;

/// `policy.rayServe`: an `autoscaling_config` without its bounds, in camelCase.
pub(crate) fn ray_serve(at: &Cursor<'_>) -> Option<RayServePolicy> {
    let fields = at.fields()?;
    let default = RayServeSpec::default();
    let number = |name, default| fields.get(name).map_or(Some(default), |at| at.number(0.0, f64::INFINITY));
    let span = |name, default| fields.get(name).map_or(Some(default), |at| at.duration());
    let target_ongoing_requests = number("targetOngoingRequests", default.target_ongoing_requests);
    let upscaling_factor = number("upscalingFactor", default.upscaling_factor);
    let downscaling_factor = number("downscalingFactor", default.downscaling_factor);
    let upscale_delay = span("upscaleDelay", default.upscale_delay);
    let downscale_delay = span("downscaleDelay", default.downscale_delay);
    let to_zero = fields.get("downscaleToZeroDelay").map(|at| at.duration());
    fields.finish();
    let rules = RayServeSpec {
        target_ongoing_requests: target_ongoing_requests?,
        upscaling_factor: upscaling_factor?,
        downscaling_factor: downscaling_factor?,
        upscale_delay: upscale_delay?,
        downscale_delay: downscale_delay?,
        downscale_to_zero_delay_seconds: match to_zero {
            Some(delay) => Some(delay?.as_secs_f64()),
            None => None,
        },
        ..default
    };
    Some(RayServePolicy { rules })
}

/// `policy.skyServe`: a `replica_policy` without its bounds, in camelCase.
pub(crate) fn sky_serve(at: &Cursor<'_>) -> Option<SkyServePolicy> {
    let fields = at.fields()?;
    let default = SkyServeSpec::default();
    let target = fields
        .require("targetQpsPerReplica", "requests per second that one replica should have")
        .and_then(|at| at.number(0.0, f64::INFINITY));
    let span = |name, default| fields.get(name).map_or(Some(default), |at| at.duration());
    let upscale_delay = span("upscaleDelay", default.upscale_delay);
    let downscale_delay = span("downscaleDelay", default.downscale_delay);
    fields.finish();
    let rules = SkyServeSpec {
        target_qps_per_replica: Some(target?),
        upscale_delay: upscale_delay?,
        downscale_delay: downscale_delay?,
        ..default
    };
    Some(SkyServePolicy { rules })
}

/// `policy.dynamo`.
pub(crate) fn dynamo(at: &Cursor<'_>) -> Option<DynamoPolicy> {
    let fields = at.fields()?;
    let words = [("throughput", OptimizationTarget::Throughput), ("latency", OptimizationTarget::Latency)];
    let target = fields.get("optimizationTarget").map(|at| at.one_of(&words));
    let engine = fields.get("engineRequestsPerSecond").map(|at| at.number(0.0, f64::INFINITY));
    fields.finish();
    Some(DynamoPolicy {
        target: target.unwrap_or(Some(OptimizationTarget::default()))?,
        engine_requests_per_second: engine.map_or(Some(None), |rate| rate.map(Some))?,
    })
}
