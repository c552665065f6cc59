//! `status`: what was seen and decided, for people and for the controller after a restart.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was seen and decided. Written by the controller when it decides something, and otherwise rarely.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct InferenceScalerStatus {
    /// The generation of the specification that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Replicas that the target is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Replicas that serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Replicas that are to be, as decided last. In shadow mode it is a wish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// The pods' labels, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// How long starts take, as learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<ColdStartStatus>,
    /// The last decisions that did or changed something, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<DecisionLine>,
    /// Ready: it scales. CapacityAvailable: the cluster has room. SignalsKnown: what it decides on is measured.
    /// Contested: somebody else writes the target's number of replicas.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What the controller remembers, so that a restart forgets nothing. Not for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StateStatus>,
}

/// How long starts take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ColdStartStatus {
    /// What is expected of the next one, in seconds.
    pub expected_seconds: i64,
    /// How many starts that is learned from.
    pub samples: i32,
    /// Seconds from the request until a replica was scheduled, pulled, started and ready, in the last start that
    /// was seen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, i64>,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionLine {
    /// When, by the API server's clock.
    pub at: String,
    /// The number before.
    pub from: i32,
    /// The number from then on.
    pub to: i32,
    /// Why, in a line.
    pub summary: String,
    /// Every step on the way to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepLine>,
}

/// A step on the way to a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepLine {
    /// Which.
    pub stage: String,
    /// The number after it.
    pub replicas: i32,
    /// What it did, and why.
    pub reason: String,
}

/// What the controller remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateStatus {
    /// When it was written, by the API server's clock.
    pub at: String,
    /// It, compressed.
    pub encoded: String,
}
