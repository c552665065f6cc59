//! What the controller sees at one reconcile: the scale, the pods, and an answer per metric.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The kube-controller-manager's flags that decide (`--horizontal-pod-autoscaler-*`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ControllerConfig {
    /// How far a ratio may be from 1 without any change, both ways; a behavior's tolerance overrides it.
    pub tolerance: f64,
    /// The window for shrinking when the specification has none.
    #[serde(rename = "downscaleStabilizationSeconds", with = "crate::time::seconds")]
    pub downscale_stabilization: Duration,
    /// How long after its start a pod's CPU samples may still be those of its initialisation.
    #[serde(rename = "cpuInitializationPeriodSeconds", with = "crate::time::seconds")]
    pub cpu_initialization_period: Duration,
    /// A pod that became unready this soon after its start was never ready.
    #[serde(rename = "initialReadinessDelaySeconds", with = "crate::time::seconds")]
    pub initial_readiness_delay: Duration,
}

impl Default for ControllerConfig {
    /// `pkg/controller/podautoscaler/config/v1alpha1/defaults.go`.
    fn default() -> Self {
        Self {
            tolerance: 0.1,
            downscale_stabilization: Duration::from_secs(300),
            cpu_initialization_period: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
        }
    }
}

/// One reconcile's inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct HpaObservation {
    /// When.
    pub now: Timestamp,
    /// The scale subresource, or the error of reading it.
    pub scale: Result<Scale, String>,
    /// Every pod that the selector matches.
    pub pods: Vec<Pod>,
    /// The answer to each of the specification's metrics, in their order. A missing one is an error.
    pub metrics: Vec<MetricAnswer>,
}

/// The scale subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scale {
    /// What is asked for.
    pub spec_replicas: i32,
    /// What exists.
    pub status_replicas: i32,
}

/// What the metrics API said. Values are milli-units.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricAnswer {
    /// The query failed.
    Failed(String),
    /// A value per pod (Pods, Resource, `ContainerResource`); none at all is a failure.
    PerPod(BTreeMap<String, PodSample>),
    /// One value (Object).
    Value(i64),
    /// Several series, added up (External); none at all is a failure.
    Series(Vec<i64>),
}

/// One pod's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodSample {
    /// Milli-units.
    pub value: i64,
    /// When it was measured. Only CPU looks at it.
    pub timestamp: Timestamp,
    /// Over which span. Only CPU looks at it.
    pub window: Duration,
}

/// A pod's phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPhase {
    /// Not all containers have been started.
    Pending,
    /// At least one container runs.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, at least one badly.
    Failed,
    /// The node does not answer.
    Unknown,
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// The Ready condition of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether it is ready.
    pub status: ConditionStatus,
    /// Since when; `None` when never recorded, which counts as the distant past.
    pub since: Option<Timestamp>,
}

/// A pod, as far as the rules look at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its name: metrics are matched by it.
    pub name: String,
    /// Its phase.
    pub phase: PodPhase,
    /// Its Ready condition.
    pub ready: Option<Readiness>,
    /// When the kubelet took it.
    pub started: Option<Timestamp>,
    /// Whether it has a deletion timestamp, be it in the future.
    pub deleting: bool,
    /// Its containers, restartable init containers included.
    pub containers: Vec<Container>,
}

impl Pod {
    /// A pod that runs and is ready, without requests.
    pub fn running(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            phase: PodPhase::Running,
            ready: Some(Readiness { status: ConditionStatus::True, since: None }),
            started: None,
            deleting: false,
            containers: Vec::new(),
        }
    }

    /// Running with a Ready condition that is true; a terminating pod may still be.
    pub(super) fn is_ready(&self) -> bool {
        self.phase == PodPhase::Running
            && self.ready.is_some_and(|ready| ready.status == ConditionStatus::True)
    }
}

/// A container's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// By resource name, in milli-units.
    pub requests: BTreeMap<String, i64>,
}
