//! The HPA that KEDA creates for a `ScaledObject` (`controllers/keda/hpa.go`).

use std::collections::BTreeMap;

use super::{
    formula::{Formula, FormulaError},
    spec::{Annotations, ScaledObjectSpec, ScalingModifiers, Trigger},
};
use crate::{
    peers::{
        go_arith,
        hpa::{
            Behavior, ContainerResourceMetric, ExternalMetric, HpaSpec, LabelSelector, MetricIdentifier,
            MetricSourceType, MetricSpec, MetricTarget, MetricTargetType, ObjectReference, ResourceMetric,
            SelectPolicy,
        },
    },
    quantity::Quantity,
};

/// The label by which KEDA's metrics server knows the object.
const OWNER_LABEL: &str = "scaledobject.keda.sh/name";
/// The metric of a formula.
const COMPOSITE_METRIC: &str = "composite-metric";

/// Why a `ScaledObject` gives no HPA.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// There is nothing to follow.
    #[error("triggers: there are none")]
    NoTriggers,
    /// A trigger's target is missing or no number.
    #[error("triggers[{index}] ({trigger}): metadata.{key} must be a positive number, not {value:?}")]
    Target {
        /// Its place.
        index: usize,
        /// Its type.
        trigger: String,
        /// The setting.
        key: &'static str,
        /// What it is.
        value: Option<String>,
    },
    /// What the target of this type of trigger is called is not known here.
    #[error("triggers[{index}]: the target of type {trigger:?} is not known")]
    UnknownType {
        /// Its place.
        index: usize,
        /// Its type.
        trigger: String,
    },
    /// External metrics have no utilisation.
    #[error("{field}: Utilization is only for cpu and memory; use AverageValue or Value")]
    Utilization {
        /// Where.
        field: String,
    },
    /// The formula's target is missing or no number.
    #[error("advanced.scalingModifiers.target must be a positive number, not {0:?}")]
    ModifiersTarget(String),
}

/// How the target of a type of trigger is called, and its default.
fn target_key(r#type: &str) -> Option<(&'static str, Option<f64>)> {
    Some(match r#type {
        "prometheus" => ("threshold", None),
        "kafka" | "apache-kafka" => ("lagThreshold", Some(10.0)),
        "rabbitmq" => ("value", None),
        "aws-sqs-queue" => ("queueLength", Some(5.0)),
        "aws-cloudwatch" => ("targetMetricValue", None),
        "metrics-api" => ("targetValue", None),
        "redis" => ("listLength", Some(5.0)),
        // A schedule's metric is its replicas.
        "cron" => ("", Some(1.0)),
        _ => return None,
    })
}

/// What a metric of this trigger is called, before its index.
fn metric_name(trigger: &Trigger) -> String {
    let setting = |key: &str| trigger.metadata.get(key).map_or("", String::as_str);
    let name = match trigger.r#type.as_str() {
        "kafka" | "apache-kafka" => match setting("topic") {
            "" => format!("kafka-{}-topics", setting("consumerGroup")),
            topic => format!("kafka-{topic}"),
        },
        "rabbitmq" => format!("rabbitmq-{}", setting("queueName")),
        "aws-sqs-queue" => {
            format!("aws-sqs-{}", setting("queueURL").rsplit('/').next().unwrap_or_default())
        }
        "metrics-api" => format!("metric-api-{}", setting("valueLocation")),
        "redis" => format!("redis-{}", setting("listName")),
        "cron" => {
            let time =
                |key| setting(key).replace(' ', "").replace('*', "x").replace('/', "Sl").replace('?', "Qm");
            format!("cron-{}-{}-{}", setting("timezone"), time("start"), time("end"))
        }
        other => other.to_owned(),
    };
    name.replace(['/', '.', ':', '%', '(', ')'], "-")
}

/// The HPA of a `ScaledObject` named `name`.
///
/// # Errors
/// When a trigger's target is missing, wrong, or of a type whose target is not known here.
pub fn generated_hpa(
    name: &str,
    spec: &ScaledObjectSpec,
    annotations: &Annotations,
) -> Result<HpaSpec, GenerateError> {
    if spec.triggers.is_empty() {
        return Err(GenerateError::NoTriggers);
    }
    let modifiers = spec.modifiers();
    let mut metrics = Vec::with_capacity(spec.triggers.len());
    for (index, trigger) in spec.triggers.iter().enumerate() {
        match trigger.r#type.as_str() {
            "cpu" | "memory" => metrics.push(resource_metric(index, trigger)?),
            // A formula replaces all external metrics by one.
            _ if modifiers.is_some() => {}
            _ => metrics.push(external_metric(name, index, trigger)?),
        }
    }
    if let Some(modifiers) = modifiers {
        metrics.push(composite_metric(name, modifiers)?);
    }
    metrics.sort_by_key(|metric| format!("{:?}", metric.r#type));
    let target = spec.scale_target_ref.clone().unwrap_or_default();
    Ok(HpaSpec {
        scale_target_ref: ObjectReference {
            kind: target.kind.unwrap_or_else(|| "Deployment".to_owned()),
            name: target.name,
            api_version: Some(target.api_version.unwrap_or_else(|| "apps/v1".to_owned())),
        },
        min_replicas: Some(spec.hpa_min_replicas()),
        max_replicas: spec.hpa_max_replicas(),
        metrics,
        behavior: behavior(spec, annotations),
    })
}

/// The object's behavior; pausing one direction disables it there.
fn behavior(spec: &ScaledObjectSpec, annotations: &Annotations) -> Option<Behavior> {
    let config =
        spec.advanced.as_ref().and_then(|advanced| advanced.horizontal_pod_autoscaler_config.as_ref());
    let mut behavior = config.and_then(|config| config.behavior.clone());
    if annotations.paused_scale_in() {
        let rules = behavior.get_or_insert_default().scale_down.get_or_insert_default();
        rules.select_policy = Some(SelectPolicy::Disabled);
    }
    if annotations.paused_scale_out() {
        let rules = behavior.get_or_insert_default().scale_up.get_or_insert_default();
        rules.select_policy = Some(SelectPolicy::Disabled);
    }
    behavior
}

fn external(name: &str, metric: String, target: MetricTarget) -> MetricSpec {
    let match_labels = BTreeMap::from([(OWNER_LABEL.to_owned(), name.to_owned())]);
    let selector = Some(LabelSelector { match_labels, match_expressions: Vec::new() });
    let metric = MetricIdentifier { name: metric, selector };
    MetricSpec { external: Some(ExternalMetric { metric, target }), ..empty(MetricSourceType::External) }
}

fn empty(r#type: MetricSourceType) -> MetricSpec {
    MetricSpec { r#type, object: None, pods: None, resource: None, container_resource: None, external: None }
}

fn external_metric(name: &str, index: usize, trigger: &Trigger) -> Result<MetricSpec, GenerateError> {
    let (key, default) = target_key(&trigger.r#type)
        .ok_or_else(|| GenerateError::UnknownType { index, trigger: trigger.r#type.clone() })?;
    let written = trigger.metadata.get(key);
    let value = match written {
        Some(text) => text.parse().ok(),
        None => default,
    };
    let value = value.filter(|value: &f64| value.is_finite() && *value > 0.0).ok_or_else(|| {
        GenerateError::Target { index, trigger: trigger.r#type.clone(), key, value: written.cloned() }
    })?;
    // KEDA writes targets with three decimals.
    let quantity = format!("{value:.3}").parse().unwrap_or(Quantity::ZERO);
    let field = || format!("triggers[{index}].metricType");
    let target =
        target(trigger.metric_type, quantity).ok_or_else(|| GenerateError::Utilization { field: field() })?;
    Ok(external(name, format!("s{index}-{}", metric_name(trigger)), target))
}

fn target(r#type: Option<MetricTargetType>, quantity: Quantity) -> Option<MetricTarget> {
    let r#type = r#type.unwrap_or(MetricTargetType::AverageValue);
    let (value, average_value) = match r#type {
        MetricTargetType::AverageValue => (None, Some(quantity)),
        MetricTargetType::Value => (Some(quantity), None),
        MetricTargetType::Utilization => return None,
    };
    Some(MetricTarget { r#type, value, average_value, average_utilization: None })
}

fn composite_metric(name: &str, modifiers: &ScalingModifiers) -> Result<MetricSpec, GenerateError> {
    let value = modifiers
        .target
        .parse::<f64>()
        .ok()
        .filter(|target| *target > 0.0)
        .ok_or_else(|| GenerateError::ModifiersTarget(modifiers.target.clone()))?;
    let quantity = Quantity::from_milli(go_arith::to_i64(value * 1000.0));
    let target = target(modifiers.metric_type, quantity).ok_or_else(|| GenerateError::Utilization {
        field: "advanced.scalingModifiers.metricType".to_owned(),
    })?;
    Ok(external(name, COMPOSITE_METRIC.to_owned(), target))
}

fn resource_metric(index: usize, trigger: &Trigger) -> Result<MetricSpec, GenerateError> {
    let text = trigger.metadata.get("value");
    let wrong = || GenerateError::Target {
        index,
        trigger: trigger.r#type.clone(),
        key: "value",
        value: text.cloned(),
    };
    let r#type = trigger.metric_type.unwrap_or(MetricTargetType::Utilization);
    let (average_utilization, average_value) = match r#type {
        MetricTargetType::Utilization => {
            (Some(text.and_then(|text| text.parse().ok()).ok_or_else(wrong)?), None)
        }
        MetricTargetType::AverageValue | MetricTargetType::Value => {
            (None, Some(text.and_then(|text| text.parse().ok()).ok_or_else(wrong)?))
        }
    };
    let target = MetricTarget { r#type, value: None, average_value, average_utilization };
    let name = trigger.r#type.clone();
    Ok(match trigger.metadata.get("containerName") {
        Some(container) => MetricSpec {
            container_resource: Some(ContainerResourceMetric { name, target, container: container.clone() }),
            ..empty(MetricSourceType::ContainerResource)
        },
        None => MetricSpec {
            resource: Some(ResourceMetric { name, target }),
            ..empty(MetricSourceType::Resource)
        },
    })
}

/// The composite metric in milli-units: the formula's result, or, where it came to nothing, the
/// fallback's replicas times the target.
///
/// # Errors
/// When the formula is wrong, or came to nothing and there is no fallback.
pub fn composite_value(
    spec: &ScaledObjectSpec,
    formula: &Formula,
    triggers: &BTreeMap<String, Option<f64>>,
) -> Result<i64, FormulaError> {
    if let Some(milli) = formula.evaluate_milli(triggers)? {
        return Ok(milli);
    }
    let nothing = |why: &str| FormulaError::Type(format!("the formula came to nothing, and {why}"));
    let fallback = spec.fallback.as_ref().ok_or_else(|| nothing("there is no fallback"))?;
    let target = spec.modifiers().and_then(|modifiers| modifiers.target.parse::<f64>().ok());
    let target = target.ok_or_else(|| nothing("its target is no number"))?;
    Ok(go_arith::to_i64(f64::from(fallback.replicas) * target * 1000.0))
}
