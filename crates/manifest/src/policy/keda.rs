//! `keda.sh/v1alpha1` `ScaledObject`: triggers, fallback and the rest.

use std::collections::BTreeMap;

use forewarm_core::{
    Bounds, KedaPolicy,
    peers::{
        hpa::MetricTargetType,
        keda::{
            Advanced, Annotations, Fallback, FallbackBehavior, Formula, GenerateError, HpaConfig,
            ScaledObjectSpec, ScalingModifiers, Trigger, generated_hpa,
        },
    },
};

use super::{
    as_it_is,
    hpa::{behavior, seconds, word},
};
use crate::cursor::{Cursor, Fields};

const MAX: u32 = i32::MAX as u32;

/// `policy.keda` of an `InferenceScaler`: a ScaledObject without its target and maximum.
pub(crate) fn keda(at: &Cursor<'_>, bounds: Option<Bounds>) -> Option<KedaPolicy> {
    let fields = at.fields()?;
    let object = object(&fields)?;
    fields.finish();
    if let Some(bounds) = bounds {
        check_idle(at, &object, bounds);
    }
    Some(KedaPolicy::new(object))
}

/// The scaler's minimum is kept at all times, so it is the one while idle.
fn check_idle(at: &Cursor<'_>, object: &ScaledObjectSpec, bounds: Bounds) {
    let min = i64::from(bounds.min.0);
    let own = object.min_replica_count.map(i64::from);
    if own.is_some_and(|own| own < min || own > i64::from(bounds.max.0)) {
        at.problem_at("minReplicaCount", format!("from replicas.min, which is {min}, to replicas.max"));
    }
    if let Some(idle) = object.idle_replica_count.map(i64::from) {
        if idle < min {
            at.problem_at(
                "idleReplicaCount",
                format!("at least replicas.min, which is {min} and kept at all times"),
            );
        }
        if own.unwrap_or(min) <= idle {
            at.problem_at("idleReplicaCount", "less than minReplicaCount");
        }
    }
}

/// The fields of `spec` that decide, other than the target and the maximum; the caller finishes `fields`.
pub(crate) fn object(fields: &Fields<'_>) -> Option<ScaledObjectSpec> {
    let whole = |name, min| match fields.get(name) {
        None => Some(None),
        Some(at) => seconds(&at, min, MAX).map(Some),
    };
    let (polling_interval, cooldown_period) = (whole("pollingInterval", 1), whole("cooldownPeriod", 0));
    let initial_cooldown_period = whole("initialCooldownPeriod", 0);
    let (idle_replica_count, min_replica_count) = (whole("idleReplicaCount", 0), whole("minReplicaCount", 0));
    let fallback = fields.get("fallback").map(|at| fallback(&at));
    let advanced = fields.get("advanced").map(|at| advanced(&at));
    let triggers: Option<Vec<Trigger>> = fields
        .require("triggers", "at least one trigger")
        .and_then(|at| at.items().iter().map(trigger).collect());
    let object = ScaledObjectSpec {
        scale_target_ref: None,
        polling_interval: polling_interval?,
        initial_cooldown_period: initial_cooldown_period?,
        cooldown_period: cooldown_period?,
        idle_replica_count: idle_replica_count?,
        min_replica_count: min_replica_count?,
        max_replica_count: None,
        advanced: advanced.map_or(Some(None), |advanced| advanced.map(Some))?,
        triggers: triggers?,
        fallback: fallback.map_or(Some(None), |fallback| fallback.map(Some))?,
    };
    check(&fields.at, &object);
    Some(object)
}

/// What KEDA finds out when it makes an HPA of the object.
fn check(at: &Cursor<'_>, object: &ScaledObjectSpec) {
    if let Err(error) = generated_hpa("", object, &Annotations::default()) {
        match error {
            GenerateError::NoTriggers => at.problem_at("triggers", "at least one trigger"),
            GenerateError::Target { index, key, .. } => {
                at.problem_at(&format!("triggers[{index}].metadata.{key}"), "a number above 0");
            }
            GenerateError::UnknownType { index, .. } => at.problem_at(
                &format!("triggers[{index}].type"),
                "one of prometheus, kafka, apache-kafka, rabbitmq, aws-sqs-queue, aws-cloudwatch, metrics-api, redis, \
                 cron, cpu, memory",
            ),
            GenerateError::Utilization { field } => at.problem_at(&field, "AverageValue or Value"),
            GenerateError::ModifiersTarget(_) => {
                at.problem_at("advanced.scalingModifiers.target", "a number above 0");
            }
        }
    }
    if let Some(modifiers) = object.modifiers() {
        let names: Vec<&str> = object.triggers.iter().filter_map(|trigger| trigger.name.as_deref()).collect();
        let checked = Formula::parse(&modifiers.formula).and_then(|formula| formula.check_names(&names));
        if let Err(error) = checked {
            at.problem_at(
                "advanced.scalingModifiers.formula",
                format!("a formula that can be read ({error})"),
            );
        }
    }
}

fn trigger(at: &Cursor<'_>) -> Option<Trigger> {
    let fields = at.fields()?;
    let kind = fields.require("type", "the trigger's type, such as prometheus").and_then(|kind| kind.text());
    let name = fields.get("name").map(|name| name.text());
    let words = [MetricTargetType::AverageValue, MetricTargetType::Value, MetricTargetType::Utilization]
        .map(|kind| (word(kind), kind));
    let metric_type = fields.get("metricType").map(|kind| kind.one_of(&words));
    let use_cached_metrics = fields.get("useCachedMetrics").map(|at| at.bool());
    let authentication_ref =
        fields.get("authenticationRef").map(|at| as_it_is(&at, "a reference, with a name"));
    let metadata = fields.get("metadata").map(|at| texts(&at));
    fields.finish();
    Some(Trigger {
        r#type: kind?,
        name: name.map_or(Some(None), |name| name.map(Some))?,
        use_cached_metrics: use_cached_metrics.unwrap_or(Some(false))?,
        metadata: metadata.unwrap_or(Some(BTreeMap::new()))?,
        authentication_ref: authentication_ref.map_or(Some(None), |reference| reference.map(Some))?,
        metric_type: metric_type.map_or(Some(None), |kind| kind.map(Some))?,
    })
}

/// A mapping whose values are text.
pub(super) fn texts(at: &Cursor<'_>) -> Option<BTreeMap<String, String>> {
    at.fields()?;
    let entry = |entry: &crate::yaml::Entry| {
        let value = entry.value.text();
        if value.is_none() {
            Cursor::new(&entry.value, format!("{}.{}", at.path, entry.key), at.out).wanted("text");
        }
        Some((entry.key.clone(), value?.to_owned()))
    };
    at.node.entries().iter().map(entry).collect()
}

fn fallback(at: &Cursor<'_>) -> Option<Fallback> {
    let fields = at.fields()?;
    let words = [
        ("static", FallbackBehavior::Static),
        ("currentReplicas", FallbackBehavior::CurrentReplicas),
        ("currentReplicasIfHigher", FallbackBehavior::CurrentReplicasIfHigher),
        ("currentReplicasIfLower", FallbackBehavior::CurrentReplicasIfLower),
        ("scalingModifiers", FallbackBehavior::ScalingModifiers),
    ];
    let failure_threshold = fields
        .require("failureThreshold", "how many failures in a row are borne")
        .and_then(|at| seconds(&at, 0, MAX));
    let replicas = fields.require("replicas", "the replicas then").and_then(|at| seconds(&at, 0, MAX));
    let behavior = fields.get("behavior").map(|at| at.one_of(&words));
    fields.finish();
    Some(Fallback {
        failure_threshold: failure_threshold?,
        replicas: replicas?,
        behavior: behavior.map_or(Some(None), |behavior| behavior.map(Some))?,
    })
}

fn advanced(at: &Cursor<'_>) -> Option<Advanced> {
    let fields = at.fields()?;
    let config = fields.get("horizontalPodAutoscalerConfig").map(|at| {
        let fields = at.fields()?;
        let behavior = fields.get("behavior").map(|at| behavior(&at));
        let name = fields.get("name").map(|name| name.text());
        fields.finish();
        Some(HpaConfig {
            behavior: behavior.map_or(Some(None), |behavior| behavior.map(Some))?,
            name: name.map_or(Some(None), |name| name.map(Some))?,
        })
    });
    let modifiers = fields.get("scalingModifiers").map(|at| modifiers(&at));
    let restore = fields.get("restoreToOriginalReplicaCount").map(|at| at.bool());
    fields.finish();
    Some(Advanced {
        horizontal_pod_autoscaler_config: config.map_or(Some(None), |config| config.map(Some))?,
        restore_to_original_replica_count: restore.unwrap_or(Some(false))?,
        scaling_modifiers: modifiers.map_or(Some(None), |modifiers| modifiers.map(Some))?,
    })
}

fn modifiers(at: &Cursor<'_>) -> Option<ScalingModifiers> {
    let fields = at.fields()?;
    let text = |name| fields.get(name).map_or(Some(String::new()), |at| at.text());
    let (formula, target, activation_target) = (text("formula"), text("target"), text("activationTarget"));
    let words = [MetricTargetType::AverageValue, MetricTargetType::Value].map(|kind| (word(kind), kind));
    let metric_type = fields.get("metricType").map(|at| at.one_of(&words));
    fields.finish();
    Some(ScalingModifiers {
        formula: formula?,
        target: target?,
        activation_target: activation_target?,
        metric_type: metric_type.map_or(Some(None), |kind| kind.map(Some))?,
    })
}
