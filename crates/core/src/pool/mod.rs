//! The words between the controller and a gateway: which replicas serve a scaler, and what waits there.
//!
//! Both sides may be one process or two; neither crate depends on the other, only on these types.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ReplicaId, ScalerId, time::seconds};

mod report;

pub use report::{ClassReport, PoolReport};

/// What a gateway needs to know about one scaler. The controller replaces it as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolPlan {
    /// The scaler.
    pub scaler: ScalerId,
    /// Values of a request's `model` field that belong to this scaler; empty: every model.
    pub models: Vec<String>,
    /// Replicas that may be sent requests, or that are draining.
    pub endpoints: Vec<Endpoint>,
    /// Seconds until the next replica is expected to be ready; `None` when none is coming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_in_seconds: Option<f64>,
    /// Limits of the waiting queue.
    pub queue: QueueLimits,
    /// What makes a replica's concurrency less than [`Endpoint::max_concurrency`].
    #[serde(default, skip_serializing_if = "Concurrency::is_default")]
    pub concurrency: Concurrency,
    /// How requests are told apart, and what those that wait are told.
    #[serde(default, skip_serializing_if = "Routing::is_default")]
    pub routing: Routing,
}

/// How requests of a scaler are told apart, and what those that wait are told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Routing {
    /// Other names of models: a request that asks for the first is sent on as one for the second.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
    /// How often a stream that waits is sent a comment, unless its request says something else; `None`: never.
    #[serde(
        rename = "keepaliveSeconds",
        skip_serializing_if = "Option::is_none",
        with = "seconds::optional"
    )]
    pub keepalive: Option<Duration>,
    /// Sends requests that begin alike to the same replica; `None`: to the one with the least work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
}

impl Routing {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which requests begin alike, and how far a replica may be preferred for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Affinity {
    /// Bytes of the prompt that are looked at.
    pub prefix_bytes: u32,
    /// How many times the mean load of its peers a replica may have and still be preferred; 1 or more.
    pub load_factor: f64,
}

/// One replica behind a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// The replica.
    pub replica: ReplicaId,
    /// Its address, `host:port`.
    pub address: String,
    /// Requests it is given at a time; the rest waits at the gateway.
    pub max_concurrency: u32,
    /// Tokens that its KV cache holds, as far as it is known; requests beyond it wait at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_tokens: Option<u64>,
    /// Whether it gets no new requests (it drains); those it has are finished.
    pub draining: bool,
}

/// What makes the concurrency of a scaler's replicas less than [`Endpoint::max_concurrency`]; by default nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Concurrency {
    /// Learned from the time that replicas take to the first token: nobody has measured how many they bear.
    pub learned: bool,
    /// A replica that is new starts with a part of it, and gets more with every answer that it begins.
    pub slow_start: bool,
}

impl Concurrency {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How urgent a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others: somebody sits and waits.
    High,
    /// What a request has that says nothing.
    #[default]
    Normal,
    /// What can wait: batches, evaluations.
    Low,
}

impl Priority {
    /// The most urgent first.
    pub const ALL: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

    /// Its name in headers, reports and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }
}

/// Whose request it is, where no API key says so: each tenant gets its share of what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tenants {
    /// The request header that names the tenant, written by something that clients cannot get past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Whether the body's `user` names it. Clients write it as they like: for those that are trusted.
    pub user: bool,
    /// Shares by name where they are not 1.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, NonZeroU32>,
}

impl Tenants {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits of one scaler's waiting queue, and its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueLimits {
    /// Requests that may wait; one more is refused.
    pub max_requests: u32,
    /// Bytes of request bodies that may wait.
    pub max_bytes: u64,
    /// Longest wait for a slot while capacity is ready. Time without any ready replica does not count:
    /// a cold start has a clock of its own.
    #[serde(rename = "timeoutSeconds", with = "seconds")]
    pub timeout: Duration,
    /// Longest time a request is held while no replica is ready.
    #[serde(rename = "coldStartTimeoutSeconds", with = "seconds")]
    pub cold_start_timeout: Duration,
    /// The longest time to the first token that is promised. Requests that have waited for longer yield to those
    /// that can still attain it, until half of `timeout` is over; `None`: strictly the order of arrival.
    #[serde(
        rename = "ttftObjectiveSeconds",
        default,
        skip_serializing_if = "Option::is_none",
        with = "seconds::optional"
    )]
    pub ttft_objective: Option<Duration>,
    /// Who shares the queue.
    #[serde(default, skip_serializing_if = "Tenants::is_default")]
    pub tenants: Tenants,
}
