//! What the loop needs from the world. Each port is thin: no rule about scaling lives behind one.

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::{
    Contested, FailedStart, Notice, Phase, Placement, ReplicaId, Signal, SignalName, Standby, Tier,
    pool::PoolPlan, pool::PoolReport,
};
use futures_util::future::BoxFuture;

/// Something that starts, drains and stops replicas: local processes, a Kubernetes target, a cloud group.
///
/// A replica that `apply` was asked to start shows up in the very next `observe` (as
/// [`Phase::Requested`] at least), so that the loop never asks twice.
pub trait Fleet: Send + Sync + 'static {
    /// The replicas as they are now, and starts that failed since the last call.
    fn observe(&self) -> BoxFuture<'_, Result<FleetView, FleetError>>;

    /// Does what the placement says. Doing it twice is harmless: an unknown or stopped replica in
    /// `drain` or `stop` is no error.
    fn apply<'a>(&'a self, placement: &'a Placement) -> BoxFuture<'a, Result<(), FleetError>>;

    /// Returns when something about the fleet changed since the last call of `observe`.
    fn changed(&self) -> BoxFuture<'_, ()>;
}

/// A fleet as it was seen.
#[derive(Clone, Debug, Default)]
pub struct FleetView {
    /// Every replica that exists or was asked for.
    pub replicas: Vec<FleetReplica>,
    /// Starts that failed since the view before; each is reported once.
    pub failed_starts: Vec<FailedStart>,
    /// Replicas that had been ready and ended although nobody stopped them, since the view before; each
    /// is reported once.
    pub ended: Vec<EndedReplica>,
    /// Instances that stand by to become replicas, without those that are asked for already.
    pub standby: Standby,
    /// That somebody else set the number of replicas lately.
    pub contested: Option<Contested>,
}

/// A replica that had been ready and ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedReplica {
    /// Its name.
    pub id: ReplicaId,
    /// What the fleet says about it, such as an exit status.
    pub reason: String,
}

/// One replica of a fleet.
#[derive(Clone, Debug)]
pub struct FleetReplica {
    /// Its name.
    pub id: ReplicaId,
    /// Where it is in its life.
    pub phase: Phase,
    /// Time since it was requested.
    pub age: Duration,
    /// Where it serves, `host:port`, once known.
    pub address: Option<String>,
    /// Its place in a fleet that only ever gives up its last replica, such as a StatefulSet.
    pub ordinal: Option<u32>,
    /// How long each finished stage of its start took, by name, in seconds (`provision`, `pull`, `load`…).
    pub stages_seconds: BTreeMap<String, f64>,
    /// What its start began with.
    pub tier: Tier,
    /// That somebody is going to take it away, while it serves.
    pub notice: Option<Notice>,
}

impl FleetReplica {
    /// A replica of this name in this phase, of age zero, without an address.
    pub fn new(id: impl Into<ReplicaId>, phase: Phase) -> Self {
        Self {
            id: id.into(),
            phase,
            age: Duration::ZERO,
            address: None,
            ordinal: None,
            stages_seconds: BTreeMap::new(),
            tier: Tier::Cold,
            notice: None,
        }
    }
}

/// Why a fleet could not be seen or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The provider has no room for more.
    #[error("no capacity for {wanted} more: {reason}")]
    OutOfCapacity {
        /// How many were asked for.
        wanted: u32,
        /// In the provider's words.
        reason: String,
    },
    /// A replica could not be started at all, and trying the same again will not help.
    #[error("cannot start a replica: {reason}")]
    CannotStart {
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The fleet could do it and does not, because that would be wrong or forbidden.
    #[error("{reason}")]
    Refused {
        /// What is not done and why, and what would be right.
        reason: String,
    },
    /// The fleet could not be reached or read.
    #[error("cannot reach the fleet")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One signal's source: an engine's metrics, a Prometheus query, a queue.
///
/// The loop polls it in a task of its own, with a timeout, and keeps the last value with its age.
pub trait SignalSource: Send + Sync + 'static {
    /// Reads the signal once. Never an error: a reading that failed is a [`Signal`] that says so.
    fn read<'a>(&'a self, replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal>;
}

/// A gateway: in this process or another.
pub trait Gateway: Send + Sync + 'static {
    /// Makes the gateway serve this plan. When it returns, no request goes to a draining replica any more.
    fn apply<'a>(&'a self, plan: &'a PoolPlan) -> BoxFuture<'a, Result<(), GatewayError>>;

    /// What the gateway sees now.
    fn report(&self) -> BoxFuture<'_, Result<PoolReport, GatewayError>>;

    /// Returns when the queue or the work in flight changed since the last `report`.
    fn changed(&self) -> BoxFuture<'_, ()>;
}

/// A gateway that does not answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the gateway: {0}")]
pub struct GatewayError(pub String);

/// Signals that are read outside the loop and kept with their age.
pub trait SignalSet: Send + Sync + 'static {
    /// Every signal of the set as last read, its age up to date.
    fn latest(&self) -> Vec<(SignalName, Signal)>;

    /// Tells the set which replicas there are.
    fn replicas(&self, replicas: &[FleetReplica]);

    /// Returns when a signal changed since the last `latest`.
    fn changed(&self) -> BoxFuture<'_, ()>;
}
