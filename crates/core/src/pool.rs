//! The words between the controller and a gateway: which replicas serve a scaler, and what waits there.
//!
//! Both sides may be one process or two; neither crate depends on the other, only on these types.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ReplicaId, ScalerId, time::seconds};

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
    /// Whether it gets no new requests (it drains); those it has are finished.
    pub draining: bool,
}

/// Limits of one scaler's waiting queue, and its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// What a gateway has seen of one scaler. Totals only grow while the gateway lives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PoolReport {
    /// Requests that wait for a slot now.
    pub queued: u64,
    /// Bytes of their bodies.
    pub queued_bytes: u64,
    /// Seconds that the oldest of them has waited.
    pub oldest_wait_seconds: f64,
    /// Requests at replicas now, by replica.
    pub in_flight: BTreeMap<ReplicaId, u32>,
    /// Replicas of the plan that get no requests, and why: `not_serving`, `ended`, `silent`, `slow` or `failing`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub put_aside: BTreeMap<ReplicaId, String>,
    /// Requests that arrived, refused ones included.
    pub arrived_total: u64,
    /// Requests refused with an honest 429 or 503.
    pub refused_total: u64,
    /// Requests answered in full.
    pub succeeded_total: u64,
    /// Accepted requests that ended in an honest error, by cause.
    pub failed_total: BTreeMap<String, u64>,
    /// Requests sent again to another replica before their first byte.
    pub retried_total: u64,
    /// Output tokens (stream events) passed on.
    pub streamed_events_total: u64,
    /// Seconds of requests at replicas: two requests there for 3 s are 6 s.
    pub busy_seconds_total: f64,
    /// Requests that ended after they were sent to a replica, in whichever way. A try at a replica that failed,
    /// after which the request was sent to another, is no end; its time is in `busy_seconds_total`.
    pub completed_total: u64,
    /// Requests whose first byte came within [`QueueLimits::ttft_objective`]; stays as it is where there is none.
    /// An answer that is no stream does not show its first token: it counts by when it was sent to its replica.
    pub attained_total: u64,
    /// Requests that missed it: the first byte came later, or never, for they were refused or failed. A client that
    /// left before the first byte was due is in neither: nobody knows how its request would have gone.
    pub missed_total: u64,
}

impl PoolReport {
    /// Requests at replicas now.
    pub fn in_flight_sum(&self) -> u64 {
        self.in_flight.values().map(|&count| u64::from(count)).sum()
    }
}
