//! What a gateway tells its controller.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Priority;
use crate::ReplicaId;

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
    /// Requests whose first byte came within [`QueueLimits::ttft_objective`](super::QueueLimits::ttft_objective); stays as it is where there is none.
    /// An answer that is no stream does not show its first token: it counts by when it was sent to its replica.
    pub attained_total: u64,
    /// Requests that missed it: the first byte came later, or never, for they were refused or failed. A client that
    /// left before the first byte was due is in neither: nobody knows how its request would have gone.
    pub missed_total: u64,
    /// The same queue by priority; only those that ever had a request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<Priority, ClassReport>,
    /// Requests that each replica is given at a time now, where it starts slowly or that is learned.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub concurrency: BTreeMap<ReplicaId, u32>,
    /// Tokens that the requests at replicas are expected to hold there, by replica; only where its capacity is known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens_in_flight: BTreeMap<ReplicaId, u64>,
}

/// What a gateway has seen of the requests of one priority.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClassReport {
    /// Requests that wait for a slot now.
    pub queued: u64,
    /// Seconds that the oldest of them has waited.
    pub oldest_wait_seconds: f64,
    /// Requests that arrived.
    pub arrived_total: u64,
    /// Requests that a replica began to answer.
    pub admitted_total: u64,
    /// Requests that found no place.
    pub refused_total: u64,
    /// Requests that had a place and lost it to others.
    pub shed_total: u64,
}

impl PoolReport {
    /// Requests at replicas now.
    pub fn in_flight_sum(&self) -> u64 {
        self.in_flight.values().map(|&count| u64::from(count)).sum()
    }
}
