//! How a wish for replicas is computed, and how fast it may be followed.

use std::time::Duration;

use forewarm_core::{
    Behavior, Bounds, Forewarm, Policy, PreWarm, QueueDepth, RateLimit, RateUnit, Requests, ScalingRules,
    SelectPolicy,
};

use super::queue;
use crate::{cursor::Cursor, policy, scaler::Objective};

/// Policies that the schema has names for.
const POLICIES: [&str; 9] =
    ["forewarm", "queueDepth", "queue", "hpa", "keda", "kpa", "rayServe", "skyServe", "dynamo"];

/// The longest period and stabilization window that `autoscaling/v2` allows, in seconds.
const MAX_PERIOD_SECONDS: u32 = 1800;
const MAX_WINDOW_SECONDS: u32 = 3600;

pub(super) fn read(
    at: &Cursor<'_>,
    bounds: Option<Bounds>,
    objective: Option<Option<Objective>>,
) -> Option<Policy> {
    let fields = at.fields()?;
    let chosen = fields.exactly_one(&POLICIES);
    fields.finish();
    let (name, at) = chosen?;
    match name {
        "forewarm" => forewarm(&at, objective).map(Policy::Forewarm),
        "queueDepth" => queue_depth(&at).map(Policy::QueueDepth),
        "queue" => queue::read(&at).map(Policy::Queue),
        "hpa" => policy::hpa(&at).map(|hpa| Policy::Hpa(Box::new(hpa))),
        "keda" => policy::keda(&at, bounds).map(|keda| Policy::Keda(Box::new(keda))),
        "kpa" => policy::kpa(&at).map(|kpa| Policy::Kpa(Box::new(kpa))),
        "rayServe" => policy::ray_serve(&at).map(Policy::RayServe),
        "skyServe" => policy::sky_serve(&at).map(Policy::SkyServe),
        // `exactly_one` gives one of `POLICIES`; this is the one that is left.
        _ => policy::dynamo(&at).map(Policy::Dynamo),
    }
}

/// Nothing to set: what it keeps is the objective.
fn forewarm(at: &Cursor<'_>, objective: Option<Option<Objective>>) -> Option<Forewarm> {
    at.fields()?.finish();
    let objective = objective?;
    if objective.is_none() {
        at.problem(
            "a policy that keeps an objective, without one",
            "`spec.objective`, such as {ttft: 2s, percent: 99}",
        );
    }
    objective.map(|objective| Forewarm { percent: objective.percent, ttft: objective.ttft })
}

fn queue_depth(at: &Cursor<'_>) -> Option<QueueDepth> {
    let fields = at.fields()?;
    let per_replica = fields.get("perReplica").map(|n| requests(&n));
    let pre_warm = fields.get("preWarm").map(|pre_warm| self::pre_warm(&pre_warm));
    fields.finish();
    let default = || Requests::new(QueueDepth::DEFAULT_PER_REPLICA).ok();
    Some(QueueDepth {
        per_replica: per_replica.unwrap_or_else(default)?,
        pre_warm: match pre_warm {
            None => None,
            Some(pre_warm) => Some(pre_warm?),
        },
    })
}

fn pre_warm(at: &Cursor<'_>) -> Option<PreWarm> {
    let fields = at.fields()?;
    let threshold = fields
        .require("threshold", "a share of maxQueue above 0, at most 1, such as 0.7")
        .and_then(|threshold| threshold.number(0.0, 1.0));
    let lead_time = fields
        .require("leadTime", "how long a replica takes to start, such as 180s")
        .and_then(|lead_time| lead_time.positive_duration());
    let max_queue = fields
        .require("maxQueue", "the number of waiting requests that counts as full, above zero")
        .and_then(|max_queue| requests(&max_queue));
    fields.finish();
    Some(PreWarm { threshold: threshold?, lead_time: lead_time?, max_queue: max_queue? })
}

pub(super) fn requests(at: &Cursor<'_>) -> Option<Requests> {
    at.positive_quantity().and_then(|value| Requests::new(value.approximate()).ok())
}

/// `behavior` of `autoscaling/v2`; what it does not say is as in `default`.
pub(super) fn behavior(at: &Cursor<'_>, default: &Behavior) -> Option<Behavior> {
    let fields = at.fields()?;
    let up = fields.get("scaleUp").map(|rules| self::rules(&rules, default.scale_up.stabilization_window));
    let down =
        fields.get("scaleDown").map(|rules| self::rules(&rules, default.scale_down.stabilization_window));
    fields.finish();
    Some(Behavior {
        scale_up: up.unwrap_or_else(|| Some(default.scale_up.clone()))?,
        scale_down: down.unwrap_or_else(|| Some(default.scale_down.clone()))?,
    })
}

fn rules(at: &Cursor<'_>, default_window: Duration) -> Option<ScalingRules> {
    let fields = at.fields()?;
    let window = fields
        .get("stabilizationWindowSeconds")
        .map(|window| window.whole(0, MAX_WINDOW_SECONDS).map(|s| Duration::from_secs(s.into())));
    let words =
        [("Max", SelectPolicy::Max), ("Min", SelectPolicy::Min), ("Disabled", SelectPolicy::Disabled)];
    let select_policy = fields.get("selectPolicy").map(|policy| policy.one_of(&words));
    let policies: Option<Vec<_>> = fields
        .get("policies")
        .map(|policies| policies.items().iter().map(rate_limit).collect())
        .unwrap_or(Some(Vec::new()));
    if let Some(tolerance) = fields.get("tolerance") {
        tolerance.problem("a tolerance, which belongs to a policy", "none here, or `policy.hpa.tolerance`");
    }
    fields.finish();
    Some(ScalingRules {
        stabilization_window: window.unwrap_or(Some(default_window))?,
        select_policy: select_policy.unwrap_or(Some(SelectPolicy::default()))?,
        policies: policies?,
    })
}

fn rate_limit(at: &Cursor<'_>) -> Option<RateLimit> {
    let fields = at.fields()?;
    let words = [("Pods", RateUnit::Pods), ("Percent", RateUnit::Percent)];
    let unit = fields.require("type", "Pods or Percent").and_then(|unit| unit.one_of(&words));
    let value =
        fields.require("value", "a whole number of at least 1").and_then(|value| value.whole(1, u32::MAX));
    let period = fields
        .require("periodSeconds", "a whole number from 1 to 1800")
        .and_then(|period| period.whole(1, MAX_PERIOD_SECONDS));
    fields.finish();
    Some(RateLimit { unit: unit?, value: value?, period: Duration::from_secs(period?.into()) })
}
