//! What the controller remembers between reconciles. The real one forgets the first three at a restart;
//! ours can be written down.

use serde::{Deserialize, Serialize};

use super::{conditions::Conditions, reason::Observed};
use crate::Timestamp;

/// The memory of one HPA. Both lists reuse entries that are older than every window, so they hold at most
/// one entry per reconcile within the longest window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HpaState {
    /// Unstabilised recommendations; `None` before the first reconcile.
    pub(super) recommendations: Option<Vec<Recommendation>>,
    /// Replicas added, with their times.
    pub(super) scale_ups: Vec<ScaleEvent>,
    /// Replicas removed, with their times.
    pub(super) scale_downs: Vec<ScaleEvent>,
    /// The object's status.
    pub(super) status: HpaStatus,
}

impl HpaState {
    /// The object's status after the last reconcile.
    pub fn status(&self) -> &HpaStatus {
        &self.status
    }
}

/// `HorizontalPodAutoscalerStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HpaStatus {
    /// Replicas asked for before the reconcile.
    pub current_replicas: i32,
    /// Replicas asked for after it. Keeps its value when the metrics fail.
    pub desired_replicas: i32,
    /// When the count was last changed.
    pub last_scale_time: Option<Timestamp>,
    /// What each metric was; `None` where it failed. Empty when no metric was read.
    pub current_metrics: Vec<Option<Observed>>,
    /// Why.
    pub conditions: Conditions,
}

/// A count that the metrics asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recommendation {
    pub(super) replicas: i32,
    pub(super) at: Timestamp,
}

/// A change that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ScaleEvent {
    pub(super) change: i32,
    pub(super) at: Timestamp,
    /// Older than the longest policy period was when another event came: its place may be reused.
    pub(super) outdated: bool,
}
