//! Modelled replicas, where each is in its life, and what they cost.

use std::collections::BTreeSet;

use forewarm_core::{FailedStart, Phase, Placement, Replica, ReplicaId};

use crate::{
    cold_start::{ColdStarts, Fate, Start},
    engine::Engine,
    time::{Micros, timestamp},
};

/// A replica's number: they are counted in the order of their requests, and never used again.
pub(crate) type Index = u32;

#[derive(Debug)]
pub(crate) struct Modelled<E> {
    pub(crate) engine: E,
    id: ReplicaId,
    requested_at: Micros,
    provisioned_at: Micros,
    /// When it is ready or fails; `None`: never.
    settled_at: Option<Micros>,
    fate: Fate,
    ready: bool,
    draining: bool,
    /// Time with work, up to `busy_since`; for a GPU's utilisation.
    busy: Micros,
    busy_since: Option<Micros>,
    busy_at_last_look: Micros,
    /// Its load in [`Fleet::open`], if it is there.
    open_at: Option<u64>,
}

impl<E: Engine> Modelled<E> {
    /// The load with which it takes part in the choice of a replica.
    fn opening(&self) -> Option<u64> {
        (self.ready && !self.draining && self.engine.has_room()).then(|| self.engine.load())
    }
}

/// Replicas by number; those that stopped are gone.
#[derive(Debug)]
pub(crate) struct Fleet<E> {
    replicas: std::collections::BTreeMap<Index, Modelled<E>>,
    /// Ready, not draining, with room: by load, then by age.
    open: BTreeSet<(u64, Index)>,
    starts: ColdStarts,
    capacity: u32,
    next: Index,
    billed: Micros,
    starting: Micros,
    pub(crate) failed: u64,
    failed_starts: Vec<FailedStart>,
}

impl<E: Engine> Fleet<E> {
    pub(crate) fn new(starts: ColdStarts, capacity: Option<u32>) -> Self {
        Self {
            replicas: std::collections::BTreeMap::new(),
            open: BTreeSet::new(),
            starts,
            capacity: capacity.unwrap_or(u32::MAX),
            next: 0,
            billed: 0,
            starting: 0,
            failed: 0,
            failed_starts: Vec::new(),
        }
    }

    /// The provider has no more replicas than this from now on.
    pub(crate) fn limit(&mut self, replicas: u32) {
        self.capacity = replicas;
    }

    /// Replicas that exist.
    pub(crate) fn len(&self) -> u32 {
        self.replicas.len() as u32
    }

    /// Starts so far, the first ones included.
    pub(crate) fn started(&self) -> u32 {
        self.next
    }

    fn insert(&mut self, now: Micros, start: Start, ready: bool, engine: E) -> (Index, Option<Micros>) {
        let index = self.next;
        self.next += 1;
        let provisioned_at = now + start.provisioning;
        let settled_at = (start.fate != Fate::Hangs).then_some(provisioned_at + start.loading);
        let replica = Modelled {
            engine,
            id: ReplicaId::from(format!("r-{index}")),
            requested_at: now,
            provisioned_at,
            settled_at,
            fate: start.fate,
            ready,
            draining: false,
            busy: 0,
            busy_since: None,
            busy_at_last_look: 0,
            open_at: None,
        };
        self.replicas.insert(index, replica);
        (index, settled_at)
    }

    /// A replica that is ready from the beginning.
    pub(crate) fn insert_ready(&mut self, now: Micros, engine: E) {
        let start = Start { provisioning: 0, loading: 0, fate: Fate::Ready };
        let (index, _) = self.insert(now, start, true, engine);
        self.note(index, now);
    }

    /// Starts a replica; returns its number and when it is settled, unless it hangs or the provider has none.
    pub(crate) fn start(&mut self, now: Micros, engine: E) -> Option<(Index, Micros)> {
        let start = self.starts.next();
        if self.len() >= self.capacity {
            let id = ReplicaId::from(format!("r-{}", self.next));
            self.next += 1;
            self.fail(id, Phase::Requested, "the provider has no capacity");
            return None;
        }
        let (index, settled_at) = self.insert(now, start, false, engine);
        settled_at.map(|at| (index, at))
    }

    fn fail(&mut self, id: ReplicaId, phase: Phase, error: &str) {
        self.failed += 1;
        self.failed_starts.push(FailedStart { id, phase, error: error.into() });
    }

    /// A start has come to its end; returns whether the replica is ready.
    pub(crate) fn settle(&mut self, index: Index, now: Micros) -> bool {
        let Some(replica) = self.replicas.get_mut(&index) else { return false };
        if replica.fate == Fate::Fails {
            let id = replica.id.clone();
            self.remove(index, now);
            self.fail(id, Phase::Loading, "the engine ended with exit status 1");
            return false;
        }
        replica.ready = true;
        self.note(index, now);
        true
    }

    fn remove(&mut self, index: Index, now: Micros) {
        if let Some(replica) = self.replicas.remove(&index) {
            self.billed += now - replica.requested_at;
            self.starting += replica.starting(now);
            if let Some(load) = replica.open_at {
                self.open.remove(&(load, index));
            }
        }
    }

    /// Of the replicas with room, the one with the least to do; the oldest of several.
    pub(crate) fn with_room(&self) -> Option<Index> {
        self.open.first().map(|&(_, index)| index)
    }

    /// The ready replica after `last` in turn, with or without room.
    pub(crate) fn in_turn(&self, last: Index) -> Option<Index> {
        let serves = |(_, replica): &(&Index, &Modelled<E>)| replica.ready && !replica.draining;
        let mut after = self.replicas.range(last + 1..).filter(serves);
        let next = after.next().or_else(|| self.replicas.iter().find(serves));
        next.map(|(&index, _)| index)
    }

    pub(crate) fn engine(&mut self, index: Index) -> Option<&mut E> {
        self.replicas.get_mut(&index).map(|replica| &mut replica.engine)
    }

    /// Keeps track of room and work after an engine changed; a replica that has drained stops.
    pub(crate) fn note(&mut self, index: Index, now: Micros) {
        let Some(replica) = self.replicas.get_mut(&index) else { return };
        let working = replica.engine.in_flight() > 0;
        match (working, replica.busy_since) {
            (true, None) => replica.busy_since = Some(now),
            (false, Some(since)) => {
                replica.busy += now - since;
                replica.busy_since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
        let opening = replica.opening();
        if replica.open_at != opening {
            let before = std::mem::replace(&mut replica.open_at, opening);
            if let Some(load) = before {
                self.open.remove(&(load, index));
            }
            if let Some(load) = opening {
                self.open.insert((load, index));
            }
        }
        if replica.draining && !working {
            self.remove(index, now);
        }
    }

    /// Does what a placement says, its starts apart. Returns the replicas that serve again.
    pub(crate) fn apply(&mut self, placement: &Placement, now: Micros) -> Vec<Index> {
        if placement.is_empty() {
            return Vec::new();
        }
        let named = |ids: &[ReplicaId], replicas: &Self| -> Vec<Index> {
            let by_id = |id: &ReplicaId| {
                replicas.replicas.iter().find(|(_, replica)| &replica.id == id).map(|(&index, _)| index)
            };
            ids.iter().filter_map(by_id).collect()
        };
        let revived = named(&placement.revive, self);
        for &index in &revived {
            self.set_draining(index, false, now);
        }
        for index in named(&placement.drain, self) {
            self.set_draining(index, true, now);
        }
        for index in named(&placement.stop, self) {
            if self.replicas.get(&index).is_some_and(|replica| !replica.ready) {
                self.failed += 1;
            }
            self.remove(index, now);
        }
        revived
    }

    fn set_draining(&mut self, index: Index, draining: bool, now: Micros) {
        if let Some(replica) = self.replicas.get_mut(&index) {
            replica.draining = draining;
        }
        self.note(index, now);
    }

    /// Takes away until `wanted` are left, and says how many are missing. Those that start go first, the
    /// youngest first; then those with the least work.
    pub(crate) fn shrink_to(&mut self, wanted: u32, now: Micros) -> u32 {
        let mut serving: Vec<_> = self
            .replicas
            .iter()
            .filter(|(_, replica)| !replica.draining)
            .map(|(&index, replica)| (replica.ready, replica.engine.in_flight(), u32::MAX - index))
            .collect();
        let count = serving.len() as u32;
        if count > wanted {
            serving.sort_unstable();
            for (ready, _, index) in serving.into_iter().take((count - wanted) as usize) {
                if ready {
                    self.set_draining(u32::MAX - index, true, now);
                } else {
                    self.remove(u32::MAX - index, now);
                }
            }
        }
        wanted.saturating_sub(count)
    }

    /// The replicas as an observation has them.
    pub(crate) fn observe(&self, now: Micros) -> Vec<Replica> {
        let at = timestamp(now);
        self.replicas
            .values()
            .map(|replica| Replica {
                age: at.since(timestamp(replica.requested_at)),
                in_flight: Some(replica.engine.in_flight()),
                ..Replica::new(replica.id.clone(), replica.phase(now))
            })
            .collect()
    }

    /// Starts that failed since the last look.
    pub(crate) fn take_failed_starts(&mut self) -> Vec<FailedStart> {
        std::mem::take(&mut self.failed_starts)
    }

    /// Of each ready replica: percent of the time since the last look in which it had work. That is what
    /// GPU utilisation says of an engine: whether, not how much.
    pub(crate) fn utilisation(&mut self, now: Micros, since: Micros) -> Vec<(ReplicaId, f64)> {
        let span = (now - since).max(1) as f64;
        self.replicas
            .values_mut()
            .filter(|replica| replica.ready && !replica.draining)
            .map(|replica| {
                let busy = replica.busy + replica.busy_since.map_or(0, |since| now - since);
                let share = (busy - replica.busy_at_last_look) as f64 / span;
                replica.busy_at_last_look = busy;
                (replica.id.clone(), (share * 100.0).min(100.0))
            })
            .collect()
    }

    /// Replicas that serve, and those on their way.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let serving = self.replicas.values().filter(|replica| !replica.draining);
        serving.fold((0, 0), |(ready, coming), replica| {
            (ready + u32::from(replica.ready), coming + u32::from(!replica.ready))
        })
    }

    /// The ready replicas.
    pub(crate) fn serving(&self) -> impl Iterator<Item = (Index, &ReplicaId)> {
        let serving = self.replicas.iter().filter(|(_, replica)| replica.ready && !replica.draining);
        serving.map(|(&index, replica)| (index, &replica.id))
    }

    /// Requests in each ready replica.
    pub(crate) fn loads(&self) -> impl Iterator<Item = (&ReplicaId, u32)> {
        let serving = self.replicas.values().filter(|replica| replica.ready && !replica.draining);
        serving.map(|replica| (&replica.id, replica.engine.in_flight()))
    }

    /// Time billed for every replica there was, up to `now`, and the part of it spent starting.
    pub(crate) fn bill(&self, now: Micros) -> (Micros, Micros) {
        self.replicas.values().fold((self.billed, self.starting), |(billed, starting), replica| {
            (billed + (now - replica.requested_at), starting + replica.starting(now))
        })
    }
}

impl<E> Modelled<E> {
    fn phase(&self, now: Micros) -> Phase {
        match (self.draining, self.ready) {
            (true, _) => Phase::Draining,
            (false, true) => Phase::Ready,
            (false, false) if now < self.provisioned_at => Phase::Provisioning,
            (false, false) => Phase::Loading,
        }
    }

    /// The part of its life in which it was not ready.
    fn starting(&self, now: Micros) -> Micros {
        let until = if self.ready { self.settled_at.unwrap_or(now) } else { now };
        until.min(now) - self.requested_at
    }
}
