//! Replicas of the simple engine, and what they cost.

use std::time::Duration;

use forewarm_core::{Phase, Placement, Replica, ReplicaId, Timestamp};

/// One modelled replica.
#[derive(Debug)]
struct Modelled {
    id: ReplicaId,
    requested_at: Timestamp,
    ready_at: Timestamp,
    draining: bool,
    busy_slots: u32,
}

/// A fleet whose replicas are ready a fixed time after they were asked for.
#[derive(Debug)]
pub(crate) struct ModelledFleet {
    replicas: Vec<Modelled>,
    slots: u32,
    cold_start: Duration,
    started: u64,
    billed: Duration,
}

impl ModelledFleet {
    /// `ready` replicas at the beginning.
    pub(crate) fn new(slots: u32, cold_start: Duration, ready: u32, now: Timestamp) -> Self {
        let mut fleet = Self { replicas: Vec::new(), slots, cold_start, started: 0, billed: Duration::ZERO };
        for _ in 0..ready {
            fleet.request(now, now);
        }
        fleet.started = u64::from(ready);
        fleet
    }

    fn request(&mut self, now: Timestamp, ready_at: Timestamp) {
        let id = ReplicaId::from(format!("r-{}", self.started));
        self.started += 1;
        self.replicas.push(Modelled { id, requested_at: now, ready_at, draining: false, busy_slots: 0 });
    }

    /// Starts so far, those at the beginning included.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// Replicas that exist.
    pub(crate) fn len(&self) -> usize {
        self.replicas.len()
    }

    /// The replicas as an observation has them.
    pub(crate) fn observe(&self, now: Timestamp) -> Vec<Replica> {
        let phase = |replica: &Modelled| match (replica.draining, replica.ready_at <= now) {
            (true, _) => Phase::Draining,
            (false, true) => Phase::Ready,
            (false, false) => Phase::Loading,
        };
        self.replicas
            .iter()
            .map(|replica| Replica {
                id: replica.id.clone(),
                phase: phase(replica),
                age: now.since(replica.requested_at),
                in_flight: Some(replica.busy_slots),
            })
            .collect()
    }

    /// Does what the placement says; returns when the replicas started now will be ready.
    pub(crate) fn apply(&mut self, placement: &Placement, now: Timestamp) -> Option<Timestamp> {
        let ready_at = now + self.cold_start;
        for _ in 0..placement.start {
            self.request(now, ready_at);
        }
        for replica in self.replicas.iter_mut().filter(|replica| placement.drain.contains(&replica.id)) {
            replica.draining = true;
        }
        let billed = &mut self.billed;
        self.replicas.retain(|replica| {
            let stops = placement.stop.contains(&replica.id);
            if stops {
                *billed += now.since(replica.requested_at);
            }
            !stops
        });
        (placement.start > 0).then_some(ready_at)
    }

    /// Takes a slot of the ready replica with the most work that has one free: packing lets the others
    /// fall idle, and the simple engine is not slowed by company.
    pub(crate) fn take_slot(&mut self, now: Timestamp) -> Option<ReplicaId> {
        let slots = self.slots;
        let replica = self
            .replicas
            .iter_mut()
            .filter(|replica| !replica.draining && replica.ready_at <= now && replica.busy_slots < slots)
            .max_by_key(|replica| replica.busy_slots)?;
        replica.busy_slots += 1;
        Some(replica.id.clone())
    }

    /// Gives a slot back.
    pub(crate) fn free_slot(&mut self, id: &ReplicaId) {
        if let Some(replica) = self.replicas.iter_mut().find(|replica| &replica.id == id) {
            replica.busy_slots = replica.busy_slots.saturating_sub(1);
        }
    }

    /// Time billed for every replica there was, up to `now`.
    pub(crate) fn billed(&self, now: Timestamp) -> Duration {
        self.replicas.iter().map(|replica| now.since(replica.requested_at)).sum::<Duration>() + self.billed
    }
}
