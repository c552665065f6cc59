//! What was last seen of a fleet, and what of it has been told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forewarm_control::ports::{FleetReplica, FleetView};
use forewarm_core::{FailedStart, Phase, Reading, ReplicaId, Signal};
use tokio::time::Instant;

use crate::{
    count::Count,
    protocol::{Observed, SeenFleet},
};

/// Failed starts that are remembered as told. A hook that names more of them at once repeats itself.
const TOLD: usize = 10_000;

/// One replica as it was seen. Ages are time on the wall.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) id: ReplicaId,
    pub(crate) phase: Phase,
    pub(crate) address: Option<String>,
    pub(crate) age: Duration,
    pub(crate) in_flight: Option<u32>,
}

/// The newest answer.
#[derive(Debug)]
pub(crate) struct View {
    at: Instant,
    replicas: Vec<Seen>,
}

/// What is remembered between two answers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// For endpoints that know a number only; `None` for others.
    pub(crate) count: Option<Count>,
    first_seen: BTreeMap<ReplicaId, Instant>,
    told: BTreeSet<ReplicaId>,
    failed: Vec<FailedStart>,
}

impl Memory {
    /// Takes an answer in.
    pub(crate) fn view(&mut self, observed: Observed) -> View {
        let at = Instant::now();
        let Observed { fleet, failed_starts } = observed;
        let replicas = match fleet {
            SeenFleet::Number { desired, ready } => {
                self.count.get_or_insert_default().replicas(desired, ready)
            }
            SeenFleet::Replicas(replicas) => {
                self.count = None;
                self.first_seen.retain(|id, _| replicas.iter().any(|replica| replica.id == *id));
                let seen = |replica: crate::protocol::SeenReplica| {
                    let first = *self.first_seen.entry(replica.id.clone()).or_insert(at);
                    Seen {
                        id: replica.id,
                        phase: replica.phase,
                        address: replica.address,
                        age: replica.age.unwrap_or_else(|| at.duration_since(first)),
                        in_flight: replica.in_flight,
                    }
                };
                replicas.into_iter().map(seen).collect()
            }
        };
        let names: BTreeSet<_> = failed_starts.iter().map(|failed| failed.id.clone()).collect();
        self.told.retain(|id| names.contains(id));
        for failed in failed_starts {
            if self.told.len() < TOLD && self.told.insert(failed.id.clone()) {
                self.failed.push(failed);
            }
        }
        View { at, replicas }
    }

    /// A start that failed before the hook had a name for it.
    pub(crate) fn start_failed(&mut self, key: &str, error: String) {
        let id = ReplicaId::from(format!("start-{key}"));
        self.failed.push(FailedStart { id, phase: Phase::Requested, error });
    }

    /// What is told once.
    pub(crate) fn take_failed(&mut self) -> Vec<FailedStart> {
        std::mem::take(&mut self.failed)
    }
}

impl View {
    /// Time on the wall since the answer.
    pub(crate) fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// Whether something is under way that will look different soon.
    pub(crate) fn moves(&self) -> bool {
        self.replicas.iter().any(|replica| replica.phase != Phase::Ready)
    }

    /// As the loop sees it, in time that runs so fast.
    pub(crate) fn fleet(&self, failed_starts: Vec<FailedStart>, speed: f64) -> FleetView {
        let replica = |seen: &Seen| FleetReplica {
            age: (seen.age + self.age()).mul_f64(speed),
            address: seen.address.clone(),
            ..FleetReplica::new(seen.id.clone(), seen.phase)
        };
        FleetView {
            replicas: self.replicas.iter().map(replica).collect(),
            failed_starts,
            ..FleetView::default()
        }
    }

    /// What the replicas that run say that they work on; `None` where none of them says anything.
    pub(crate) fn work(&self, speed: f64) -> Option<Signal> {
        let runs = |replica: &&Seen| replica.phase == Phase::Ready || replica.phase.drains();
        let running = || self.replicas.iter().filter(runs);
        let told = |seen: &Seen| Some((seen.id.clone(), f64::from(seen.in_flight?)));
        let per_replica: BTreeMap<ReplicaId, f64> = running().filter_map(told).collect();
        let (reporting, expected) = (per_replica.len(), running().count());
        let total = per_replica.values().sum();
        let reading = if reporting == 0 && expected > 0 {
            return None;
        } else if reporting == expected {
            Reading::Value { total, per_replica }
        } else {
            let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            Reading::Partial { total, per_replica, reporting: count(reporting), expected: count(expected) }
        };
        Some(Signal { reading, age: self.age().mul_f64(speed) })
    }
}
