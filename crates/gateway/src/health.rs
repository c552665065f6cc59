//! What comes of how replicas answer: who is put aside, for how long, and whether a request may be sent again.
//!
//! The rules are in [`crate::outlier`], [`crate::retry`] and [`crate::pool`]; here they meet clocks and sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use forewarm_core::{ReplicaId, pool::Endpoint};
use tokio::time::Instant;

use crate::{
    outlier::Outliers,
    pool::Aside,
    retry::RetryBudget,
    scaler::{Link, Scaler, Slot},
    upstream::Connections,
};

/// Time on the wall before the first try to connect to a replica that was put aside; doubles each time.
const FIRST_PROBE: Duration = Duration::from_millis(100);
/// Longest time on the wall between two such tries: a replica that is well again is not missed for longer.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(3);
/// Modelled time between two looks at a replica that is silent, while nobody can say whether that is long.
const GLANCE: Duration = Duration::from_secs(1);
/// Shortest time on the wall between two looks.
const MIN_GLANCE: Duration = Duration::from_millis(50);
/// Modelled time until the first look: no silence is too long before.
const FIRST_GLANCE: Duration = Duration::from_secs(10);

/// What is known about the replicas beyond their slots.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) outliers: Outliers,
    pub(crate) retries: RetryBudget,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { outliers: Outliers::default(), retries: RetryBudget::new() }
    }

    pub(crate) fn apply(&mut self, endpoints: &[Endpoint]) {
        self.outliers.apply(endpoints);
        self.retries.apply(endpoints);
    }
}

/// When a replica last said anything at all, in milliseconds on the wall since its scaler began.
#[derive(Debug, Default)]
pub(crate) struct Heard(AtomicU64);

impl Heard {
    pub(crate) fn at(&self, since_began: Duration) {
        self.0.store(u64::try_from(since_began.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    fn when(&self) -> Duration {
        Duration::from_millis(self.0.load(Relaxed))
    }
}

impl Scaler {
    /// A request for a stream is on its way to the replica of this slot.
    pub(crate) fn owed(&self, slot: &mut Slot) {
        slot.is_owed = true;
        let now = self.modelled_now();
        self.lock().health.outliers.sent(&slot.link.replica, now);
    }

    /// The replica of this slot began an answer at this time. What was promised is judged by `waited` modelled seconds.
    pub(crate) fn answered(
        self: &Arc<Self>,
        slot: &mut Slot,
        is_stream: bool,
        is_error: bool,
        at: Instant,
        waited: f64,
    ) {
        slot.heard(at);
        let took = is_stream.then(|| at.duration_since(slot.granted));
        let first_byte = took.map(|took| self.of_wall(took));
        let ttft = first_byte.filter(|_| !is_error);
        let now = self.of_wall(self.since_began(at));
        let (objective, may_have_more, off) = {
            let mut state = self.lock();
            let may_have_more = state.pool.answered(&slot.link.replica, ttft);
            if let Some(took) = took.filter(|_| !is_error) {
                state.pool.first_token_took(&slot.grant, took);
            }
            let health = &mut state.health;
            health.retries.answered(&slot.link.replica);
            if std::mem::take(&mut slot.is_owed) {
                health.outliers.owes_no_more(&slot.link.replica);
            }
            health.outliers.answered(&slot.link.replica, first_byte, is_error, now);
            let off = health
                .outliers
                .look(now)
                .and_then(|(replica, why)| Some((Arc::clone(state.links.get(&replica)?), why)));
            (state.objective(), may_have_more, off)
        };
        if let Some(objective) = objective {
            self.account.judge(!is_error && waited <= objective);
        }
        if may_have_more {
            self.update(|_, _| ());
        }
        if let Some((link, why)) = off {
            self.eject(&link, why);
        }
    }

    /// Whether a request that this replica ended without an answer may be sent again.
    pub(crate) fn may_retry(&self, replica: &ReplicaId) -> bool {
        let now = self.now();
        let may = self.lock().health.retries.take(replica, now);
        if !may {
            self.account.deny_retry();
        }
        may
    }

    /// Returns when the replica of this slot has been silent for too long, and is put aside for it.
    pub(crate) async fn silence(self: &Arc<Self>, slot: &Slot) {
        let mut wait = FIRST_GLANCE;
        loop {
            tokio::time::sleep(self.on_the_wall(wait).max(MIN_GLANCE)).await;
            let left = {
                let heard = self.of_wall(slot.link.heard.when());
                let now = self.modelled_now();
                self.lock().health.outliers.may_be_silent(&slot.link.replica, heard, now)
            };
            wait = left.unwrap_or(GLANCE);
            if wait.is_zero() && self.gives_up_on(slot) {
                return;
            }
        }
    }

    fn gives_up_on(self: &Arc<Self>, slot: &Slot) -> bool {
        let is_aside =
            self.lock().pool.is_suspended(&slot.link.replica) || self.eject(&slot.link, Aside::Silent);
        is_aside && self.may_retry(&slot.link.replica)
    }

    /// Keeps trying to connect to a replica that was put aside, and lets requests come to it again.
    pub(crate) fn probe(self: &Arc<Self>, why: Aside, link: Arc<Link>, times: u32) {
        tracing::warn!(
            scaler = self.id.as_str(),
            replica = link.replica.as_str(),
            times,
            reason = why.code(),
            "a replica is put aside"
        );
        let scaler = Arc::clone(self);
        tokio::spawn(async move {
            let doubled = FIRST_PROBE.saturating_mul(1 << (times - 1).min(10));
            let mut interval = doubled.min(MAX_PROBE_INTERVAL);
            while scaler.lock().pool.is_suspended(&link.replica) {
                tokio::select! {
                    () = scaler.stopping.cancelled() => return,
                    () = tokio::time::sleep(interval) => {}
                }
                if link.connections.probe().await {
                    scaler.update(|state, now| state.pool.readmit(&link.replica, now));
                    return;
                }
                interval = interval.saturating_mul(2).min(MAX_PROBE_INTERVAL);
            }
        });
    }

    /// Puts a replica aside that does worse than its peers, unless too many are; whether it is.
    fn eject(self: &Arc<Self>, link: &Arc<Link>, why: Aside) -> bool {
        let lasts = self.update(|state, now| {
            let ejected = state.pool.eject(&link.replica, why, now);
            ejected.then(|| state.health.outliers.ejected(&link.replica))
        });
        let Some(lasts) = lasts else { return false };
        self.account.put_aside(why);
        let (scaler, replica) = (self.id.as_str(), link.replica.as_str());
        tracing::warn!(scaler, replica, reason = why.code(), "a replica is put aside");
        let (scaler, link) = (Arc::clone(self), Arc::clone(link));
        tokio::spawn(async move {
            let over = async {
                if why == Aside::Silent {
                    answers(&link.connections).await;
                } else {
                    tokio::time::sleep(scaler.on_the_wall(lasts)).await;
                }
            };
            tokio::select! {
                () = link.gone.cancelled() => {}
                () = over => scaler.update(|state, now| state.pool.readmit(&link.replica, now)),
            }
        });
        true
    }

    /// Modelled time since the scaler began.
    fn modelled_now(&self) -> Duration {
        self.of_wall(self.now())
    }

    /// The modelled span of one on the wall.
    fn of_wall(&self, wall: Duration) -> Duration {
        Duration::try_from_secs_f64(self.modelled(wall)).unwrap_or(Duration::MAX)
    }
}

/// Returns when a replica answers anything.
async fn answers(connections: &Connections) {
    let mut interval = FIRST_PROBE;
    loop {
        tokio::time::sleep(interval).await;
        if connections.answers().await {
            return;
        }
        interval = interval.saturating_mul(2).min(MAX_PROBE_INTERVAL);
    }
}
