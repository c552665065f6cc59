//! One scaler at this gateway: its pool, its account, its plan, and who wants to know of changes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use forewarm_core::{
    ReplicaId, ScalerId,
    pool::{PoolPlan, PoolReport},
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    account::Account,
    pool::{Pool, QueueFull, Ticket},
    upstream::Connections,
};

/// Told to a client when nothing better is known about when to come again.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Time on the wall between two tries to connect to a suspended replica.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// One scaler at this gateway.
#[derive(Debug)]
pub(crate) struct Scaler {
    pub(crate) id: ScalerId,
    pub(crate) account: Account,
    speed: f64,
    state: Mutex<State>,
    /// Whether a replica could serve: a cold start has a clock of its own.
    warm: watch::Sender<bool>,
    /// Counts changes of the queue and of the work in flight.
    version: watch::Sender<u64>,
    /// The version that the last report showed.
    reported: AtomicU64,
}

#[derive(Debug)]
struct State {
    plan: PoolPlan,
    planned_at: Instant,
    pool: Pool<Waiter>,
    links: HashMap<ReplicaId, Link>,
}

/// What belongs to one replica of the plan.
#[derive(Clone, Debug)]
struct Link {
    connections: Arc<Connections>,
    /// Cancelled when the replica leaves the plan: what it has not finished is not waited for.
    gone: CancellationToken,
}

#[derive(Debug)]
pub(crate) struct Waiter {
    since: Instant,
    slot: oneshot::Sender<Slot>,
}

/// A slot at a replica. Dropping it gives it back, and the next waiting request gets it.
#[derive(Debug)]
pub(crate) struct Slot {
    scaler: Arc<Scaler>,
    pub(crate) replica: ReplicaId,
    pub(crate) connections: Arc<Connections>,
    pub(crate) gone: CancellationToken,
}

impl Scaler {
    pub(crate) fn new(plan: PoolPlan, speed: f64) -> Self {
        let queue = plan.queue;
        Self {
            id: plan.scaler.clone(),
            account: Account::default(),
            speed,
            state: Mutex::new(State {
                plan: PoolPlan { endpoints: Vec::new(), ..plan },
                planned_at: Instant::now(),
                pool: Pool::new(queue.max_requests, queue.max_bytes),
                links: HashMap::new(),
            }),
            warm: watch::channel(false).0,
            version: watch::channel(1).0,
            reported: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves counters at worst one off; refusing to serve would be worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves this plan from now on. On return no request goes to a draining or missing replica.
    pub(crate) fn apply(self: &Arc<Self>, plan: &PoolPlan) {
        {
            let mut state = self.lock();
            let queue = plan.queue;
            let left = state.pool.apply(&plan.endpoints, queue.max_requests, queue.max_bytes);
            for replica in left {
                if let Some(link) = state.links.remove(&replica) {
                    link.gone.cancel();
                }
            }
            for endpoint in &plan.endpoints {
                let stale = state
                    .links
                    .get(&endpoint.replica)
                    .is_none_or(|link| link.connections.address() != endpoint.address);
                if stale {
                    let link = Link {
                        connections: Arc::new(Connections::new(endpoint.address.clone())),
                        gone: CancellationToken::new(),
                    };
                    if let Some(old) = state.links.insert(endpoint.replica.clone(), link) {
                        old.gone.cancel();
                    }
                }
            }
            state.plan = plan.clone();
            state.planned_at = Instant::now();
        }
        self.changed();
    }

    /// Gives a request a place; the slot comes through the channel.
    pub(crate) fn enqueue(
        self: &Arc<Self>,
        bytes: usize,
    ) -> Result<(Ticket, oneshot::Receiver<Slot>), QueueFull> {
        let (slot, granted) = oneshot::channel();
        let waiter = Waiter { since: Instant::now(), slot };
        let ticket = self.lock().pool.enqueue(bytes as u64, waiter)?;
        self.changed();
        Ok((ticket, granted))
    }

    /// Gives a request that was failed by `avoid` its place in front.
    pub(crate) fn enqueue_again(
        self: &Arc<Self>,
        bytes: usize,
        avoid: ReplicaId,
        since: Instant,
    ) -> (Ticket, oneshot::Receiver<Slot>) {
        let (slot, granted) = oneshot::channel();
        let ticket = self.lock().pool.enqueue_again(bytes as u64, avoid, Waiter { since, slot });
        self.changed();
        (ticket, granted)
    }

    /// Takes a request out of the queue.
    pub(crate) fn cancel(self: &Arc<Self>, ticket: Ticket) {
        let cancelled = self.lock().pool.cancel(ticket).is_some();
        if cancelled {
            self.changed();
        }
    }

    /// Keeps requests from a replica that does not take connections, until it does again.
    pub(crate) fn suspend(self: &Arc<Self>, replica: &ReplicaId, connections: &Arc<Connections>) {
        if !self.lock().pool.suspend(replica, true) {
            return;
        }
        self.changed();
        let (scaler, replica, connections) = (Arc::clone(self), replica.clone(), Arc::clone(connections));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PROBE_INTERVAL).await;
                let planned = scaler.lock().pool.has(&replica);
                if !planned || connections.probe().await {
                    break;
                }
            }
            scaler.lock().pool.suspend(&replica, false);
            scaler.changed();
        });
    }

    /// Something changed: hands out free slots and tells whoever wants to know.
    fn changed(self: &Arc<Self>) {
        let mut granted = Vec::new();
        let warm = {
            let mut state = self.lock();
            while let Some((waiter, grant)) = state.pool.grant() {
                let Some(link) = state.links.get(&grant.replica).cloned() else {
                    state.pool.release(&grant.replica);
                    continue;
                };
                let scaler = Arc::clone(self);
                let Link { connections, gone } = link;
                granted.push((waiter.slot, Slot { scaler, replica: grant.replica, connections, gone }));
            }
            state.pool.is_warm()
        };
        self.warm.send_if_modified(|was| std::mem::replace(was, warm) != warm);
        self.version.send_modify(|version| *version += 1);
        for (waiter, slot) in granted {
            // A client that left drops the receiver: the slot comes back here, and goes to the next.
            drop(waiter.send(slot));
        }
    }

    /// Follows whether a replica could serve.
    pub(crate) fn warm(&self) -> watch::Receiver<bool> {
        self.warm.subscribe()
    }

    /// Longest waits on the wall: while warm, and while cold.
    pub(crate) fn timeouts(&self) -> (Duration, Duration) {
        let queue = self.lock().plan.queue;
        (queue.timeout.div_f64(self.speed), queue.cold_start_timeout.div_f64(self.speed))
    }

    /// When a refused client should come again: when the next replica is expected, as far as it is known.
    pub(crate) fn retry_after(&self) -> Duration {
        let state = self.lock();
        let Some(ready_in) = state.plan.ready_in_seconds.filter(|_| !state.pool.is_warm()) else {
            return DEFAULT_RETRY_AFTER;
        };
        let since = state.planned_at.elapsed().as_secs_f64() * self.speed;
        Duration::try_from_secs_f64(ready_in - since).unwrap_or_default()
    }

    /// Modelled seconds of a span on the wall.
    pub(crate) fn modelled(&self, wall: Duration) -> f64 {
        wall.as_secs_f64() * self.speed
    }

    /// Whether requests for this model belong here, and its models.
    pub(crate) fn models(&self) -> Vec<String> {
        self.lock().plan.models.clone()
    }

    /// What is seen now.
    pub(crate) fn report(&self) -> PoolReport {
        self.reported.store(*self.version.borrow(), Relaxed);
        let mut report = PoolReport::default();
        {
            let state = self.lock();
            report.queued = state.pool.queued() as u64;
            report.queued_bytes = state.pool.queued_bytes();
            report.oldest_wait_seconds =
                state.pool.oldest().map_or(0.0, |waiter| self.modelled(waiter.since.elapsed()));
            report.in_flight = state.pool.in_flight();
        }
        self.account.fill(&mut report);
        report
    }

    /// Returns when something changed since the last report.
    pub(crate) async fn changed_since_report(&self) {
        let reported = self.reported.load(Relaxed);
        let mut version = self.version.subscribe();
        // The sender lives as long as `self`, so this ends only with a change.
        drop(version.wait_for(|version| *version != reported).await);
    }
}

impl Slot {
    /// Keeps requests from this slot's replica until it takes connections again.
    pub(crate) fn suspend(&self) {
        self.scaler.suspend(&self.replica, &self.connections);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.scaler.lock().pool.release(&self.replica);
        self.scaler.changed();
    }
}
