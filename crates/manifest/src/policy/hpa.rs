//! `autoscaling/v2`: metrics and behavior.

use forewarm_core::{
    HpaPolicy,
    peers::hpa::{
        Behavior, ContainerResourceMetric, ControllerConfig, ExternalMetric, MetricIdentifier,
        MetricSourceType, MetricSpec, MetricTarget, MetricTargetType, ObjectMetric, PodsMetric,
        ResourceMetric, ScalingPolicy, ScalingPolicyType, ScalingRules, SelectPolicy,
    },
};

use super::as_it_is;
use crate::cursor::Cursor;

/// The longest period and stabilization window that the API takes, in seconds.
const MAX_PERIOD_SECONDS: u32 = 1800;
const MAX_WINDOW_SECONDS: u32 = 3600;

/// `policy.hpa` of an `InferenceScaler`: an HPA's metrics and behavior, and the controller's flags.
pub(crate) fn hpa(at: &Cursor<'_>) -> Option<HpaPolicy> {
    let fields = at.fields()?;
    let metrics = fields.require("metrics", "at least one metric").and_then(|at| {
        let metrics = metrics(&at)?;
        if metrics.is_empty() {
            at.wanted("at least one metric");
        }
        Some(metrics)
    });
    let behavior = fields.get("behavior").map(|at| behavior(&at));
    let default = ControllerConfig::default();
    let tolerance = fields.get("tolerance").map(|at| at.number_from(0.0));
    let span = |name, default| fields.get(name).map_or(Some(default), |at| at.duration());
    let downscale_stabilization = span("downscaleStabilization", default.downscale_stabilization);
    let cpu_initialization_period = span("cpuInitializationPeriod", default.cpu_initialization_period);
    let initial_readiness_delay = span("initialReadinessDelay", default.initial_readiness_delay);
    fields.finish();
    Some(HpaPolicy {
        metrics: metrics?,
        behavior: behavior.map_or(Some(None), |behavior| behavior.map(Some))?,
        controller: ControllerConfig {
            tolerance: tolerance.unwrap_or(Some(default.tolerance))?,
            downscale_stabilization: downscale_stabilization?,
            cpu_initialization_period: cpu_initialization_period?,
            initial_readiness_delay: initial_readiness_delay?,
        },
    })
}

pub(crate) fn metrics(at: &Cursor<'_>) -> Option<Vec<MetricSpec>> {
    at.items().iter().map(metric).collect()
}

fn metric(at: &Cursor<'_>) -> Option<MetricSpec> {
    use MetricSourceType::{ContainerResource, External, Object, Pods, Resource};
    const KINDS: [(&str, MetricSourceType, &str); 5] = [
        ("Pods", Pods, "pods"),
        ("Object", Object, "object"),
        ("External", External, "external"),
        ("Resource", Resource, "resource"),
        ("ContainerResource", ContainerResource, "containerResource"),
    ];
    let fields = at.fields()?;
    let words = KINDS.map(|(word, kind, _)| (word, kind));
    let kind = fields
        .require("type", "Pods, Object, External, Resource or ContainerResource")
        .and_then(|kind| kind.one_of(&words));
    let sources = KINDS.map(|(_, _, field)| (field, fields.get(field)));
    fields.finish();
    let kind = kind?;
    let field = KINDS.iter().find(|(_, known, _)| *known == kind).map_or("", |(_, _, field)| field);
    let source = sources.into_iter().find_map(|(name, source)| source.filter(|_| name == field));
    let Some(source) = source else {
        at.problem("no such field", format!("`{field}`, as the type says"));
        return None;
    };
    let mut metric = MetricSpec {
        r#type: kind,
        object: None,
        pods: None,
        resource: None,
        container_resource: None,
        external: None,
    };
    match kind {
        Pods => metric.pods = Some(pods(&source)?),
        Object => metric.object = Some(object(&source)?),
        External => metric.external = Some(external(&source)?),
        Resource => metric.resource = Some(resource(&source)?),
        ContainerResource => metric.container_resource = Some(container_resource(&source)?),
    }
    Some(metric)
}

fn pods(at: &Cursor<'_>) -> Option<PodsMetric> {
    let fields = at.fields()?;
    let metric = fields.require("metric", "the metric, with a name").and_then(|at| identifier(&at));
    let target = fields
        .require("target", "what is wanted")
        .and_then(|at| target(&at, &[MetricTargetType::AverageValue]));
    fields.finish();
    Some(PodsMetric { metric: metric?, target: target? })
}

fn external(at: &Cursor<'_>) -> Option<ExternalMetric> {
    let fields = at.fields()?;
    let metric = fields.require("metric", "the metric, with a name").and_then(|at| identifier(&at));
    let target = fields.require("target", "what is wanted").and_then(|at| target(&at, &TOTALS));
    fields.finish();
    Some(ExternalMetric { metric: metric?, target: target? })
}

fn object(at: &Cursor<'_>) -> Option<ObjectMetric> {
    let fields = at.fields()?;
    let described_object = fields
        .require("describedObject", "the object, with kind and name")
        .and_then(|at| as_it_is(&at, "the object, with kind and name"));
    let metric = fields.require("metric", "the metric, with a name").and_then(|at| identifier(&at));
    let target = fields.require("target", "what is wanted").and_then(|at| target(&at, &TOTALS));
    fields.finish();
    Some(ObjectMetric { described_object: described_object?, target: target?, metric: metric? })
}

fn resource(at: &Cursor<'_>) -> Option<ResourceMetric> {
    let fields = at.fields()?;
    let name = fields.require("name", "cpu or memory").and_then(|name| name.text());
    let target = fields.require("target", "what is wanted").and_then(|at| target(&at, &RESOURCES));
    fields.finish();
    Some(ResourceMetric { name: name?, target: target? })
}

fn container_resource(at: &Cursor<'_>) -> Option<ContainerResourceMetric> {
    let fields = at.fields()?;
    let name = fields.require("name", "cpu or memory").and_then(|name| name.text());
    let container = fields.require("container", "the container's name").and_then(|name| name.text());
    let target = fields.require("target", "what is wanted").and_then(|at| target(&at, &RESOURCES));
    fields.finish();
    Some(ContainerResourceMetric { name: name?, target: target?, container: container? })
}

fn identifier(at: &Cursor<'_>) -> Option<MetricIdentifier> {
    let fields = at.fields()?;
    let name = fields.require("name", "the metric's name").and_then(|name| name.text());
    let selector = fields.get("selector").map(|at| as_it_is(&at, "labels: matchLabels or matchExpressions"));
    fields.finish();
    Some(MetricIdentifier {
        name: name?,
        selector: selector.map_or(Some(None), |selector| selector.map(Some))?,
    })
}

const TOTALS: [MetricTargetType; 2] = [MetricTargetType::Value, MetricTargetType::AverageValue];
const RESOURCES: [MetricTargetType; 2] = [MetricTargetType::Utilization, MetricTargetType::AverageValue];

/// A target of one of the types that the metric's source takes.
fn target(at: &Cursor<'_>, types: &[MetricTargetType]) -> Option<MetricTarget> {
    let fields = at.fields()?;
    let words: Vec<(&'static str, MetricTargetType)> =
        types.iter().map(|kind| (word(*kind), *kind)).collect();
    let kind = fields.require("type", "how the target is meant").and_then(|kind| kind.one_of(&words));
    let value = fields.get("value").map(|at| at.positive_quantity());
    let average_value = fields.get("averageValue").map(|at| at.positive_quantity());
    let average_utilization = fields.get("averageUtilization").map(|at| at.whole(1, i32::MAX as u32));
    fields.finish();
    let kind = kind?;
    let (field, is_there) = match kind {
        MetricTargetType::Value => ("value", value.is_some()),
        MetricTargetType::AverageValue => ("averageValue", average_value.is_some()),
        MetricTargetType::Utilization => ("averageUtilization", average_utilization.is_some()),
    };
    if !is_there {
        at.problem(format!("no {field}"), format!("`{field}`, as the type says"));
        return None;
    }
    let whole = |value: Option<u32>| value.and_then(|value| i32::try_from(value).ok());
    Some(MetricTarget {
        r#type: kind,
        value: value.map_or(Some(None), |value| value.map(Some))?,
        average_value: average_value.map_or(Some(None), |value| value.map(Some))?,
        average_utilization: average_utilization.map_or(Some(None), |value| whole(value).map(Some))?,
    })
}

pub(super) fn word(kind: MetricTargetType) -> &'static str {
    match kind {
        MetricTargetType::Utilization => "Utilization",
        MetricTargetType::Value => "Value",
        MetricTargetType::AverageValue => "AverageValue",
    }
}

/// `behavior`: what is absent stays absent, because the controller tells the two apart.
pub(crate) fn behavior(at: &Cursor<'_>) -> Option<Behavior> {
    let fields = at.fields()?;
    let up = fields.get("scaleUp").map(|at| rules(&at));
    let down = fields.get("scaleDown").map(|at| rules(&at));
    fields.finish();
    Some(Behavior {
        scale_up: up.map_or(Some(None), |up| up.map(Some))?,
        scale_down: down.map_or(Some(None), |down| down.map(Some))?,
    })
}

fn rules(at: &Cursor<'_>) -> Option<ScalingRules> {
    let fields = at.fields()?;
    let words =
        [("Max", SelectPolicy::Max), ("Min", SelectPolicy::Min), ("Disabled", SelectPolicy::Disabled)];
    let window = fields.get("stabilizationWindowSeconds").map(|at| seconds(&at, 0, MAX_WINDOW_SECONDS));
    let select_policy = fields.get("selectPolicy").map(|at| at.one_of(&words));
    let policies =
        fields.get("policies").map(|at| at.items().iter().map(scaling_policy).collect::<Option<Vec<_>>>());
    let tolerance = fields.get("tolerance").map(|at| at.quantity());
    fields.finish();
    Some(ScalingRules {
        stabilization_window_seconds: window.map_or(Some(None), |window| window.map(Some))?,
        select_policy: select_policy.map_or(Some(None), |policy| policy.map(Some))?,
        policies: policies.map_or(Some(None), |policies| policies.map(Some))?,
        tolerance: tolerance.map_or(Some(None), |tolerance| tolerance.map(Some))?,
    })
}

fn scaling_policy(at: &Cursor<'_>) -> Option<ScalingPolicy> {
    let fields = at.fields()?;
    let words = [("Pods", ScalingPolicyType::Pods), ("Percent", ScalingPolicyType::Percent)];
    let kind = fields.require("type", "Pods or Percent").and_then(|at| at.one_of(&words));
    let value = fields
        .require("value", "a whole number of at least 1")
        .and_then(|at| seconds(&at, 1, i32::MAX as u32));
    let period_seconds = fields
        .require("periodSeconds", "a whole number from 1 to 1800")
        .and_then(|at| seconds(&at, 1, MAX_PERIOD_SECONDS));
    fields.finish();
    Some(ScalingPolicy { r#type: kind?, value: value?, period_seconds: period_seconds? })
}

/// A whole number, which the API keeps signed.
pub(super) fn seconds(at: &Cursor<'_>, min: u32, max: u32) -> Option<i32> {
    at.whole(min, max).and_then(|value| i32::try_from(value).ok())
}
