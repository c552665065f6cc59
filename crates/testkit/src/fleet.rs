//! A fleet that a test moves through its phases by hand.

use std::sync::Mutex;

use forewarm_control::ports::{Fleet, FleetError, FleetReplica, FleetView};
use forewarm_core::{FailedStart, Phase, Placement, ReplicaId};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::{sync::Notify, time::Instant};

/// A fleet in memory. Ages follow tokio's clock, so paused time works.
#[derive(Debug, Default)]
pub struct FakeFleet {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    replicas: Vec<(FleetReplica, Instant)>,
    failed_starts: Vec<FailedStart>,
    applied: Vec<Placement>,
    started: u32,
    unreachable: bool,
}

impl FakeFleet {
    /// A fleet with `count` ready replicas.
    pub fn ready(count: u32) -> Self {
        let fleet = Self::default();
        fleet.with(|inner| {
            for _ in 0..count {
                inner.request(Phase::Ready);
            }
        });
        fleet
    }

    /// Moves a replica to another phase.
    pub fn set_phase(&self, id: &str, phase: Phase) {
        self.with(|inner| {
            for (replica, _) in inner.replicas.iter_mut().filter(|(replica, _)| replica.id.as_str() == id) {
                replica.phase = phase;
            }
        });
    }

    /// Takes a replica away as if its process had ended.
    pub fn kill(&self, id: &str) {
        self.with(|inner| inner.replicas.retain(|(replica, _)| replica.id.as_str() != id));
    }

    /// Makes the fleet answer with an error, or answer again.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.with(|inner| inner.unreachable = unreachable);
    }

    /// What it was asked to do so far.
    pub fn applied(&self) -> Vec<Placement> {
        self.with(|inner| inner.applied.clone())
    }

    /// Names and phases.
    pub fn phases(&self) -> Vec<(ReplicaId, Phase)> {
        self.with(|inner| {
            inner.replicas.iter().map(|(replica, _)| (replica.id.clone(), replica.phase)).collect()
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let result = change(&mut self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        self.changed.notify_one();
        result
    }
}

impl Inner {
    fn request(&mut self, phase: Phase) {
        let id = ReplicaId::from(format!("r-{}", self.started));
        self.started += 1;
        let address = Some(format!("{id}.test:8000"));
        let replica = FleetReplica { address, ..FleetReplica::new(id, phase) };
        self.replicas.push((replica, Instant::now()));
    }
}

impl Fleet for FakeFleet {
    fn observe(&self) -> BoxFuture<'_, Result<FleetView, FleetError>> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if inner.unreachable {
            let error = std::io::Error::other("the fake fleet is unreachable");
            return std::future::ready(Err(FleetError::Unreachable(Box::new(error)))).boxed();
        }
        let replicas = inner
            .replicas
            .iter()
            .map(|(replica, since)| FleetReplica { age: since.elapsed(), ..replica.clone() })
            .collect();
        let failed_starts = std::mem::take(&mut inner.failed_starts);
        std::future::ready(Ok(FleetView { replicas, failed_starts, ..FleetView::default() })).boxed()
    }

    fn apply<'a>(&'a self, placement: &'a Placement) -> BoxFuture<'a, Result<(), FleetError>> {
        self.with(|inner| {
            inner.applied.push(placement.clone());
            for _ in 0..placement.start {
                inner.request(Phase::Requested);
            }
            for (replica, _) in &mut inner.replicas {
                if placement.revive.contains(&replica.id) {
                    replica.phase = Phase::Ready;
                }
                if placement.drain.contains(&replica.id) {
                    replica.phase = Phase::Draining;
                }
            }
            inner.replicas.retain(|(replica, _)| !placement.stop.contains(&replica.id));
        });
        std::future::ready(Ok(())).boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.changed.notified().boxed()
    }
}
