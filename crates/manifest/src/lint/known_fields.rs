//! The fields of foreign manifests that are checked for misspelling, by kind.

use super::world::{Kind, Manifest};

/// What is known about a value's fields.
pub(super) enum Shape {
    /// Not looked at.
    Any,
    /// A mapping with these fields.
    Object(&'static [(&'static str, Shape)]),
    /// A list of these.
    List(&'static Shape),
}

use Shape::{Any, List, Object};

/// `autoscaling/v2` of Kubernetes 1.37.
const RULES: Shape = Object(&[
    ("stabilizationWindowSeconds", Any),
    ("selectPolicy", Any),
    ("tolerance", Any),
    ("policies", List(&Object(&[("type", Any), ("value", Any), ("periodSeconds", Any)]))),
]);
const BEHAVIOR: Shape = Object(&[("scaleUp", RULES), ("scaleDown", RULES)]);
const METRIC: Shape = Object(&[("name", Any), ("selector", Any)]);
const TARGET: Shape =
    Object(&[("type", Any), ("value", Any), ("averageValue", Any), ("averageUtilization", Any)]);
const METRICS: Shape = List(&Object(&[
    ("type", Any),
    ("pods", Object(&[("metric", METRIC), ("target", TARGET)])),
    ("object", Object(&[("metric", METRIC), ("target", TARGET), ("describedObject", Any)])),
    ("external", Object(&[("metric", METRIC), ("target", TARGET)])),
    ("resource", Object(&[("name", Any), ("target", TARGET)])),
    ("containerResource", Object(&[("name", Any), ("container", Any), ("target", TARGET)])),
]));
const HPA: Shape = Object(&[
    ("apiVersion", Any),
    ("kind", Any),
    ("metadata", Any),
    ("status", Any),
    (
        "spec",
        Object(&[
            ("scaleTargetRef", Object(&[("apiVersion", Any), ("kind", Any), ("name", Any)])),
            ("minReplicas", Any),
            ("maxReplicas", Any),
            ("metrics", METRICS),
            ("behavior", BEHAVIOR),
        ]),
    ),
]);

/// `keda.sh/v1alpha1` of KEDA 2.20.
const TRIGGERS: Shape = List(&Object(&[
    ("type", Any),
    ("name", Any),
    ("metadata", Any),
    ("metricType", Any),
    ("useCachedMetrics", Any),
    ("authenticationRef", Object(&[("name", Any), ("kind", Any)])),
]));
const SCALED_OBJECT: Shape = Object(&[
    ("apiVersion", Any),
    ("kind", Any),
    ("metadata", Any),
    ("status", Any),
    (
        "spec",
        Object(&[
            (
                "scaleTargetRef",
                Object(&[("apiVersion", Any), ("kind", Any), ("name", Any), ("envSourceContainerName", Any)]),
            ),
            ("pollingInterval", Any),
            ("cooldownPeriod", Any),
            ("initialCooldownPeriod", Any),
            ("idleReplicaCount", Any),
            ("minReplicaCount", Any),
            ("maxReplicaCount", Any),
            ("fallback", Object(&[("failureThreshold", Any), ("replicas", Any), ("behavior", Any)])),
            (
                "advanced",
                Object(&[
                    ("restoreToOriginalReplicaCount", Any),
                    ("horizontalPodAutoscalerConfig", Object(&[("name", Any), ("behavior", BEHAVIOR)])),
                    ("scalingModifiers", Any),
                ]),
            ),
            ("triggers", TRIGGERS),
        ]),
    ),
]);

/// `PutScalingPolicy` of EC2 Auto Scaling (API version 2011-01-01).
const EC2_POLICY: Shape = Object(&[
    ("AutoScalingGroupName", Any),
    ("PolicyName", Any),
    ("PolicyType", Any),
    ("AdjustmentType", Any),
    ("MinAdjustmentStep", Any),
    ("MinAdjustmentMagnitude", Any),
    ("ScalingAdjustment", Any),
    ("Cooldown", Any),
    ("MetricAggregationType", Any),
    ("StepAdjustments", Any),
    ("EstimatedInstanceWarmup", Any),
    ("PredictiveScalingConfiguration", Any),
    ("Enabled", Any),
    (
        "TargetTrackingConfiguration",
        Object(&[
            ("PredefinedMetricSpecification", Any),
            ("CustomizedMetricSpecification", Any),
            ("TargetValue", Any),
            ("DisableScaleIn", Any),
            // Of the other API: a finding of its own.
            ("ScaleInCooldown", Any),
            ("ScaleOutCooldown", Any),
        ]),
    ),
]);

/// The fields of this manifest's kind, when they are known. Our own kind has a reader that is stricter.
pub(super) fn shape_of(manifest: &Manifest<'_>) -> Option<&'static Shape> {
    match manifest.kind {
        Kind::Hpa if manifest.root.text(&["apiVersion"]) == Some("autoscaling/v2") => Some(&HPA),
        Kind::ScaledObject => Some(&SCALED_OBJECT),
        Kind::Ec2Policy => Some(&EC2_POLICY),
        Kind::Hpa
        | Kind::ScaledJob
        | Kind::Knative
        | Kind::Workload
        | Kind::InferenceScaler
        | Kind::AdapterRules
        | Kind::ApplicationPolicy
        | Kind::Other => None,
    }
}
