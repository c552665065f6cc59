//! The custom resource `InferenceScaler`: its schema as the API server has it.
//!
//! These types make the schema and nothing else. What an object means is read by the reader of manifest files, so that
//! a file and an object of the cluster are one language with the same errors. What is written here in doc comments is
//! what `kubectl explain` shows.
#![expect(unreachable_pub, reason = "the derive repeats these types where nobody can reach them")]
#![expect(clippy::duplicated_attributes, reason = "columns are of the same types")]

mod scalars;
mod spec;
mod status;

use kube::{CustomResource, CustomResourceExt, KubeSchema};
use serde::{Deserialize, Serialize};

pub use scalars::{Amount, GoDuration, Quantity};
pub use spec::{
    Affinity, Behavior, ColdStart, Engine, EngineSource, Floor, KubernetesTarget, Objective, Pause, Policy,
    PreWarm, PrometheusSource, Queue, QueueDepth, RateLimit, Replicas, Routing, Rules, Signal, Target,
    Tenants,
};
pub use status::{ColdStartStatus, DecisionLine, InferenceScalerStatus, StateStatus, StepLine};

/// Keeps the right number of replicas of an inference engine running for the load it gets, warmed up before the load
/// comes.
#[derive(CustomResource, KubeSchema, Clone, Debug, Serialize, Deserialize)]
#[kube(
    group = "forewarm.dev",
    version = "v1alpha1",
    kind = "InferenceScaler",
    namespaced,
    status = "InferenceScalerStatus",
    shortname = "infs",
    category = "autoscaling",
    doc = "Keeps the right number of replicas of an inference engine running for the load it gets, warmed up before \
           the load comes. `forewarm kube why NAME` tells why the number is what it is.",
    scale(
        spec_replicas_path = ".spec.replicas.min",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.kubernetes.name"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.replicas.min"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.replicas.max"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Why", type_ = "string", json_path = ".status.decisions[0].summary", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.replicas.min > 0 || self.environment != 'production' || self.allowScaleToZero")
        .message("spec.replicas.min is 0 in production: at least 1, or `allowScaleToZero: true`: from zero, every \
                  first request waits a cold start")
        .field_path(".replicas.min"),
    validation = Rule::new("!has(self.policy.forewarm) || has(self.objective)")
        .message("policy.forewarm keeps an objective: set spec.objective, such as {ttft: 2s, percent: 99}")
)]
pub struct InferenceScalerSpec {
    /// What is scaled.
    pub target: Target,
    /// What serves the requests, and how it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Values of a request's `model` field that come here. Empty: every model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub models: Vec<String>,
    /// Other names of models: a request that asks for the first is sent on as one for the second.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub aliases: std::collections::BTreeMap<String, String>,
    /// What the replicas are for: production, staging, dev or batch. In production zero replicas need
    /// `allowScaleToZero`.
    #[serde(default)]
    pub environment: Environment,
    /// The fewest and the most replicas.
    pub replicas: Replicas,
    /// Lets a production scaler go to zero.
    #[serde(default)]
    pub allow_scale_to_zero: bool,
    /// What is promised to users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,
    /// What is known about starting a replica before it was ever observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<ColdStart>,
    /// How the number of replicas is computed: exactly one of these.
    pub policy: Policy,
    /// How fast the number may be followed, as `behavior` of autoscaling/v2. It applies to any policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<Behavior>,
    /// What is measured besides, by name. Without one of the engines', `waiting` and `running` are asked of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub signals: Vec<Signal>,
    /// The fewest replicas during hours of the week.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub floors: Vec<Floor>,
    /// The waiting room at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// How the gateway treats streams and prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<Routing>,
    /// Readings older than this prove nothing; default 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_signal_age: Option<GoDuration>,
    /// Longest time a draining replica may take to finish its requests; default 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_deadline: Option<GoDuration>,
    /// Changes of the number allowed in any minute; default 30. Stops a runaway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_changes_per_minute: Option<i32>,
    /// Act: decide, record and act. Shadow: decide and record only, next to whoever acts.
    #[serde(default)]
    pub mode: Mode,
    /// The kill switch: holds a number of replicas, and expires by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// What the replicas are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// People wait for the answers.
    #[default]
    Production,
    /// A rehearsal.
    Staging,
    /// Somebody's experiment.
    Dev,
    /// Nobody waits.
    Batch,
}

/// Whether decisions are acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Mode {
    /// Decide, record, act.
    #[default]
    Act,
    /// Decide and record only.
    Shadow,
}

/// The manifest of the `CustomResourceDefinition`, as `kubectl apply` takes it.
///
/// # Errors
/// When it cannot be written as YAML, which would be a bug.
pub fn crd_yaml() -> Result<String, forewarm_manifest::yaml::WriteError> {
    forewarm_manifest::yaml::write(&InferenceScaler::crd())
}
