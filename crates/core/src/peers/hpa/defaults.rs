//! What the API server fills in (`pkg/apis/autoscaling/v2/defaults.go` of Kubernetes 1.37).

use super::spec::{
    Behavior, HpaSpec, MetricSourceType, MetricSpec, MetricTarget, MetricTargetType, ResourceMetric,
    ScalingPolicy, ScalingPolicyType, ScalingRules, SelectPolicy,
};

/// Replicas kept when the specification does not say.
const MIN_REPLICAS: i32 = 1;
/// Percent of the CPU request that is the target when no metric is given.
const CPU_UTILIZATION: i32 = 80;
/// Growing: four pods or a doubling per 15 s, whichever is more.
const SCALE_UP_POLICIES: [ScalingPolicy; 2] = [
    ScalingPolicy { r#type: ScalingPolicyType::Pods, value: 4, period_seconds: 15 },
    ScalingPolicy { r#type: ScalingPolicyType::Percent, value: 100, period_seconds: 15 },
];
/// Shrinking: everything per 15 s.
const SCALE_DOWN_POLICIES: [ScalingPolicy; 1] =
    [ScalingPolicy { r#type: ScalingPolicyType::Percent, value: 100, period_seconds: 15 }];

impl HpaSpec {
    /// The specification as the API server stores it: with defaults, and quantities in canonical form
    /// (as [`Quantity`](crate::quantity::Quantity) writes them). Doing it twice changes nothing.
    #[must_use]
    pub fn defaulted(&self) -> HpaSpec {
        HpaSpec {
            scale_target_ref: self.scale_target_ref.clone(),
            min_replicas: Some(self.min_replicas()),
            max_replicas: self.max_replicas,
            metrics: if self.metrics.is_empty() { vec![default_metric()] } else { self.metrics.clone() },
            behavior: self.behavior.as_ref().map(|behavior| Behavior {
                scale_up: Some(Rules::scale_up(behavior).to_spec()),
                scale_down: Some(Rules::scale_down(behavior).to_spec()),
            }),
        }
    }

    /// The fewest replicas, defaulted.
    pub(super) fn min_replicas(&self) -> i32 {
        self.min_replicas.unwrap_or(MIN_REPLICAS)
    }
}

/// CPU at 80 % of the request.
pub(super) fn default_metric() -> MetricSpec {
    MetricSpec {
        r#type: MetricSourceType::Resource,
        object: None,
        pods: None,
        resource: Some(ResourceMetric {
            name: "cpu".to_owned(),
            target: MetricTarget {
                r#type: MetricTargetType::Utilization,
                value: None,
                average_value: None,
                average_utilization: Some(CPU_UTILIZATION),
            },
        }),
        container_resource: None,
        external: None,
    }
}

/// One direction's rules with the defaults filled in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// Absent only for shrinking, where the controller's flag then counts.
    pub(super) window_seconds: Option<i32>,
    pub(super) select: SelectPolicy,
    pub(super) policies: &'a [ScalingPolicy],
    tolerance: Option<crate::quantity::Quantity>,
}

impl<'a> Rules<'a> {
    pub(super) fn scale_up(behavior: &'a Behavior) -> Self {
        Self::fill(behavior.scale_up.as_ref(), Some(0), &SCALE_UP_POLICIES)
    }

    pub(super) fn scale_down(behavior: &'a Behavior) -> Self {
        Self::fill(behavior.scale_down.as_ref(), None, &SCALE_DOWN_POLICIES)
    }

    fn fill(
        rules: Option<&'a ScalingRules>,
        window: Option<i32>,
        policies: &'static [ScalingPolicy],
    ) -> Self {
        Self {
            window_seconds: rules.and_then(|rules| rules.stabilization_window_seconds).or(window),
            select: rules.and_then(|rules| rules.select_policy).unwrap_or_default(),
            policies: rules.and_then(|rules| rules.policies.as_deref()).unwrap_or(policies),
            tolerance: rules.and_then(|rules| rules.tolerance),
        }
    }

    fn to_spec(self) -> ScalingRules {
        ScalingRules {
            stabilization_window_seconds: self.window_seconds,
            select_policy: Some(self.select),
            policies: Some(self.policies.to_vec()),
            tolerance: self.tolerance,
        }
    }
}
