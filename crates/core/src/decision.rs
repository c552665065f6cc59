//! The result of planning: the number, what to do about it, and every reason on the way.

use serde::{Deserialize, Serialize};

use crate::ReplicaId;

/// What a fleet is to do. Leaves it no choices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Placement {
    /// How many replicas to start.
    pub start: u32,
    /// Replicas that get no new requests from now on.
    pub drain: Vec<ReplicaId>,
    /// Replicas to stop now: they are drained, or were never ready.
    pub stop: Vec<ReplicaId>,
}

impl Placement {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.start == 0 && self.drain.is_empty() && self.stop.is_empty()
    }
}
