//! Replicas of an endpoint that knows a number only: names for places, and what their placement comes to.

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::{Phase, Placement, ReplicaId};
use tokio::time::Instant;

use crate::{protocol::Change, view::Seen};

/// The number as it was last seen, and since when each place has been waiting for its replica.
#[derive(Debug, Default)]
pub(crate) struct Count {
    desired: u32,
    coming: BTreeMap<u32, Instant>,
}

impl Count {
    /// Names for what is seen: the first places serve, those up to the number come, those beyond it leave.
    pub(crate) fn replicas(&mut self, desired: u32, ready: u32) -> Vec<Seen> {
        self.desired = desired;
        self.coming.retain(|place, _| (ready..desired).contains(place));
        (0..desired.max(ready))
            .map(|place| {
                let phase = if place >= desired {
                    Phase::Draining
                } else if place >= ready {
                    Phase::Requested
                } else {
                    Phase::Ready
                };
                let age = if phase == Phase::Requested {
                    self.coming.entry(place).or_insert_with(Instant::now).elapsed()
                } else {
                    Duration::ZERO
                };
                Seen { id: name(place), phase, address: None, age, in_flight: None }
            })
            .collect()
    }

    /// The number that a placement comes to. Whoever knows a number only drains by itself, so that a replica
    /// that is to drain counts no more, and one that leaves already did not.
    pub(crate) fn change(&self, placement: &Placement) -> Change {
        let counted = |id: &&ReplicaId| (0..self.desired).any(|place| name(place) == **id);
        let gone = placement.drain.iter().chain(&placement.stop).filter(counted).count();
        let back = placement.revive.len();
        let gone = u32::try_from(gone).unwrap_or(u32::MAX);
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        let more = placement.start.saturating_add(back);
        Change::Number { desired: self.desired.saturating_add(more).saturating_sub(gone) }
    }
}

fn name(place: u32) -> ReplicaId {
    ReplicaId::from(format!("replica-{place}"))
}
