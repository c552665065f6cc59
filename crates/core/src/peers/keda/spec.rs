//! The specification of a `ScaledObject` (`keda.sh/v1alpha1`), as a user writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::peers::{
    hpa::{Behavior, MetricTargetType},
    kpa::parse_bool,
};

/// Replicas of the HPA when the object does not say.
const HPA_MIN_REPLICAS: i32 = 1;
const HPA_MAX_REPLICAS: i32 = 100;

/// `ScaledObjectSpec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaledObjectSpec {
    /// What is scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_target_ref: Option<ScaleTarget>,
    /// Seconds between polls; 30 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polling_interval: Option<i32>,
    /// Seconds after creation before a target that was never active goes to zero; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_cooldown_period: Option<i32>,
    /// Seconds after the last activity before the target goes to zero; 300 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown_period: Option<i32>,
    /// Replicas while no trigger is active, instead of the minimum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_replica_count: Option<i32>,
    /// The fewest replicas; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replica_count: Option<i32>,
    /// The most replicas; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replica_count: Option<i32>,
    /// Rarely needed settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advanced: Option<Advanced>,
    /// What the count follows.
    #[serde(default)]
    pub triggers: Vec<Trigger>,
    /// What happens when triggers fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

/// `ScaleTarget`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTarget {
    /// Its name.
    pub name: String,
    /// `apps/v1` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// `Deployment` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The container whose environment triggers refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_source_container_name: Option<String>,
}

/// `ScaleTriggers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// Such as `prometheus`.
    pub r#type: String,
    /// What formulas call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the HPA is answered from the last poll.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub use_cached_metrics: bool,
    /// Settings of the type.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Where its credentials are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_ref: Option<AuthenticationRef>,
    /// How its target is meant; `AverageValue` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_type: Option<MetricTargetType>,
}

/// `AuthenticationRef`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthenticationRef {
    /// Its name.
    pub name: String,
    /// `TriggerAuthentication` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// `Fallback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// More failures in a row than this start it.
    pub failure_threshold: i32,
    /// The replicas then.
    pub replicas: i32,
    /// How they are meant; `static` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<FallbackBehavior>,
}

/// How a fallback's replicas are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FallbackBehavior {
    /// As they are.
    #[default]
    Static,
    /// The current replicas instead.
    CurrentReplicas,
    /// The current replicas if they are more.
    CurrentReplicasIfHigher,
    /// The current replicas if they are fewer.
    CurrentReplicasIfLower,
    /// The formula sees nothing in place of the failing trigger.
    ScalingModifiers,
}

/// `AdvancedConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Advanced {
    /// For the HPA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizontal_pod_autoscaler_config: Option<HpaConfig>,
    /// Whether deleting the object restores the count from before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restore_to_original_replica_count: bool,
    /// One metric computed from several triggers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling_modifiers: Option<ScalingModifiers>,
}

/// `HorizontalPodAutoscalerConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HpaConfig {
    /// Passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<Behavior>,
    /// `keda-hpa-` and the object's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `ScalingModifiers`. Targets are numbers in strings, as KEDA has them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingModifiers {
    /// In expr-lang, over the triggers' names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub formula: String,
    /// The composite metric's target.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// The composite metric is active above this; 0 when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub activation_target: String,
    /// How the target is meant; `AverageValue` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_type: Option<MetricTargetType>,
}

/// Bounds that admission refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBounds {
    /// The minimum is above the maximum.
    #[error("minReplicaCount {min} is above maxReplicaCount {max}")]
    MinAboveMax {
        /// The fewest.
        min: i32,
        /// The most.
        max: i32,
    },
    /// Idle is no less than the minimum.
    #[error("idleReplicaCount {idle} must be less than minReplicaCount {min}")]
    IdleNotBelowMin {
        /// While idle.
        idle: i32,
        /// The fewest.
        min: i32,
    },
}

impl ScaledObjectSpec {
    /// The minimum of the HPA, which never is 0.
    pub fn hpa_min_replicas(&self) -> i32 {
        self.min_replica_count.filter(|min| *min > 0).unwrap_or(HPA_MIN_REPLICAS)
    }

    /// The maximum of the HPA.
    pub fn hpa_max_replicas(&self) -> i32 {
        self.max_replica_count.unwrap_or(HPA_MAX_REPLICAS)
    }

    /// The formula's settings, unless they are all empty.
    pub fn modifiers(&self) -> Option<&ScalingModifiers> {
        let modifiers = self.advanced.as_ref()?.scaling_modifiers.as_ref()?;
        (*modifiers != ScalingModifiers::default()).then_some(modifiers)
    }

    /// Whether the HPA alone would not do: somebody must poll at zero or idle, or fill the cache.
    pub fn is_polling_interval_relevant(&self) -> bool {
        self.min_replica_count.unwrap_or(0) == 0
            || self.idle_replica_count.is_some()
            || self.triggers.iter().any(|trigger| trigger.use_cached_metrics)
    }

    /// What admission checks of the bounds (`CheckReplicaCountBoundsAreValid`).
    ///
    /// # Errors
    /// When KEDA's webhook would refuse them.
    pub fn check_bounds(&self) -> Result<(), InvalidBounds> {
        let min = self.min_replica_count.map_or(0, |_| self.hpa_min_replicas());
        let max = self.hpa_max_replicas();
        if min > max {
            return Err(InvalidBounds::MinAboveMax { min, max });
        }
        match self.idle_replica_count {
            Some(idle) if idle >= min => Err(InvalidBounds::IdleNotBelowMin { idle, min }),
            Some(_) | None => Ok(()),
        }
    }
}

/// A `ScaledObject`'s annotations, which pause and force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Annotations(pub BTreeMap<String, String>);

impl Annotations {
    /// `autoscaling.keda.sh/paused`, or the mere presence of `autoscaling.keda.sh/paused-replicas`.
    pub fn paused(&self) -> bool {
        self.0.contains_key("autoscaling.keda.sh/paused-replicas") || self.is_on("autoscaling.keda.sh/paused")
    }

    /// The count to hold while paused, if it is given and a number.
    pub fn paused_replicas(&self) -> Option<i32> {
        self.0.get("autoscaling.keda.sh/paused-replicas")?.parse().ok()
    }

    /// No shrinking.
    pub fn paused_scale_in(&self) -> bool {
        self.is_on("autoscaling.keda.sh/paused-scale-in")
    }

    /// No growing.
    pub fn paused_scale_out(&self) -> bool {
        self.is_on("autoscaling.keda.sh/paused-scale-out")
    }

    /// Active whatever the triggers say.
    pub fn force_activation(&self) -> bool {
        self.is_on("autoscaling.keda.sh/force-activation")
    }

    /// Anything that is not a boolean counts as true.
    fn is_on(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|text| parse_bool(text).unwrap_or(true))
    }
}
