//! One scaler at this gateway: its pool, its account, its plan, and who wants to know of changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forewarm_core::{
    ReplicaId, ScalerId,
    pool::{ClassReport, PoolPlan, PoolReport, Priority, QueueLimits, Tenants},
};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    account::{Account, Cause},
    changes::Changes,
    clock,
    demand::Demand,
    dial::Dialer,
    forward,
    headers::Headers,
    health::{Health, Heard},
    pool::{Aside, Clocks, Fault, Grant, Pool, QueueFull, QueueRules, Ticket, Turn, Yielding},
    served::Served,
    upstream::Connections,
};

/// Told to a client, in modelled time, when nothing better is known about when to come again.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);
/// One scaler at this gateway.
#[derive(Debug)]
pub(crate) struct Scaler {
    pub(crate) id: ScalerId,
    pub(crate) account: Account,
    /// Cancelled when what is in flight or waits has to end.
    pub(crate) stopping: CancellationToken,
    speed: f64,
    dialer: Arc<Dialer>,
    began: Instant,
    state: Mutex<State>,
    /// Of the queue and of the work in flight.
    changes: Changes,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) plan: PoolPlan,
    pub(crate) planned_at: Instant,
    pub(crate) served: Served,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) pool: Pool<Waiter>,
    pub(crate) links: BTreeMap<ReplicaId, Arc<Link>>,
    pub(crate) health: Health,
    /// The pool's time when it was last changed.
    changed_at: Duration,
}

impl State {
    /// This time, unless another thread has gone on by then: the pool's time does not go back.
    fn latest(&mut self, now: Duration) -> Duration {
        self.changed_at = self.changed_at.max(now);
        self.changed_at
    }

    /// Most modelled seconds to the first byte that attain what is promised, if anything is.
    pub(crate) fn objective(&self) -> Option<f64> {
        self.plan.queue.ttft_objective.map(|objective| objective.as_secs_f64())
    }
}

pub(crate) type Waiter = oneshot::Sender<Result<Box<Slot>, Lost>>;

/// Why a place is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// To others that count more.
    Shed,
    /// Its deadline had passed when it was its turn.
    TooLate,
}

/// What belongs to one replica of the plan.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) replica: ReplicaId,
    /// What its answers are labelled with.
    pub(crate) label: Headers,
    pub(crate) connections: Connections,
    /// Cancelled when the replica leaves the plan: what it has not finished is not waited for.
    pub(crate) gone: CancellationToken,
    pub(crate) heard: Heard,
}

/// A place in the queue, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    scaler: Arc<Scaler>,
    pub(crate) ticket: Ticket,
    /// Its number in the line when it came.
    pub(crate) position: usize,
    granted: oneshot::Receiver<Result<Box<Slot>, Lost>>,
    /// The pool's clocks when the place was taken.
    pub(crate) clocks: Clocks,
    left: bool,
}

/// A slot at a replica. Dropping it gives it back, and the next waiting request gets it.
#[derive(Debug)]
pub(crate) struct Slot {
    scaler: Option<Arc<Scaler>>,
    pub(crate) link: Arc<Link>,
    pub(crate) grant: Grant,
    /// Tokens that were passed on.
    tokens: u64,
    /// The pool's clocks when the slot was granted.
    pub(crate) clocks: Clocks,
    pub(crate) granted: Instant,
    /// Whether a stream was asked for there and has not begun.
    pub(crate) is_owed: bool,
}

/// Who shares the queue, with the name of their header as it is looked for.
fn tenants(queue: &QueueLimits) -> Arc<Tenants> {
    let mut tenants = queue.tenants.clone();
    tenants.header.iter_mut().for_each(|name| name.make_ascii_lowercase());
    Arc::new(tenants)
}

impl Scaler {
    pub(crate) fn new(plan: PoolPlan, speed: f64, stopping: CancellationToken, dialer: Arc<Dialer>) -> Self {
        let pool = Pool::new(rules(&plan.queue, speed));
        let (began, tenants) = (Instant::now(), tenants(&plan.queue));
        Self {
            id: plan.scaler.clone(),
            account: Account::default(),
            stopping,
            speed,
            dialer,
            began,
            state: Mutex::new(State {
                plan: PoolPlan { endpoints: Vec::new(), ..plan },
                planned_at: began,
                tenants,
                pool,
                links: BTreeMap::new(),
                served: Served::default(),
                health: Health::new(),
                changed_at: Duration::ZERO,
            }),
            changes: Changes::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves counters at worst one off; refusing to serve would be worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time on the wall since the scaler was first planned: the pool's time.
    pub(crate) fn now(&self) -> Duration {
        self.since_began(clock::now())
    }

    /// The same, at this moment.
    pub(crate) fn since_began(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.began)
    }

    /// Changes the state, hands out the slots that became free, and tells whoever wants to know.
    pub(crate) fn update<R>(self: &Arc<Self>, change: impl FnOnce(&mut State, Duration) -> R) -> R {
        let (result, _) = self.settle(change);
        self.tell();
        result
    }

    fn tell(&self) {
        self.changes.add();
    }

    /// Changes the state and hands out the slots that became free; says whether there were any to hand out.
    fn settle<R>(self: &Arc<Self>, change: impl FnOnce(&mut State, Duration) -> R) -> (R, bool) {
        let mut granted = Vec::new();
        let result = {
            let mut state = self.lock();
            let now = state.latest(self.now());
            let result = change(&mut state, now);
            self.grant(&mut state, now, &mut granted);
            result
        };
        let any = !granted.is_empty();
        // A client that has left in this very moment leaves its slot to the next one.
        loop {
            let returned: Vec<_> = granted
                .drain(..)
                .filter_map(|(waiter, slot): (Waiter, Box<Slot>)| waiter.send(Ok(slot)).err()?.ok())
                .collect();
            if returned.is_empty() {
                break;
            }
            let mut state = self.lock();
            let now = state.latest(self.now());
            for mut slot in returned {
                slot.scaler = None;
                state.pool.release(&slot.grant, now);
            }
            self.grant(&mut state, now, &mut granted);
        }
        (result, any)
    }

    fn grant(self: &Arc<Self>, state: &mut State, now: Duration, granted: &mut Vec<(Waiter, Box<Slot>)>) {
        while let Some(turn) = state.pool.grant(now) {
            let (waiter, grant) = match turn {
                Turn::Slot(waiter, grant) => (waiter, grant),
                Turn::TooLate(waiter) => {
                    // Whoever waited may have gone.
                    drop(waiter.send(Err(Lost::TooLate)));
                    continue;
                }
            };
            if let Some(slot) = self.slot(state, grant, now) {
                granted.push((waiter, slot));
            }
        }
    }

    /// The slot of a grant, in a box, for it goes from hand to hand. The pool grants planned replicas only, and each of them
    /// has a link.
    fn slot(self: &Arc<Self>, state: &State, grant: Grant, now: Duration) -> Option<Box<Slot>> {
        Some(Box::new(Slot {
            scaler: Some(Arc::clone(self)),
            link: Arc::clone(state.links.get(&grant.replica)?),
            grant,
            tokens: 0,
            clocks: state.pool.clocks(now),
            granted: self.began + now,
            is_owed: false,
        }))
    }

    /// Serves this plan from now on. On return no request goes to a draining or missing replica.
    pub(crate) fn apply(self: &Arc<Self>, plan: &PoolPlan) {
        let ((), granted) = self.settle(|state, now| {
            let rules = rules(&plan.queue, self.speed);
            for replica in state.pool.apply(&plan.endpoints, plan.concurrency, rules, now) {
                if let Some(link) = state.links.remove(&replica) {
                    link.gone.cancel();
                }
            }
            for endpoint in &plan.endpoints {
                let link = state.links.get(&endpoint.replica);
                if link.is_some_and(|link| link.connections.address() == endpoint.address) {
                    continue;
                }
                let link = Link {
                    replica: endpoint.replica.clone(),
                    label: forward::named(&endpoint.replica),
                    connections: Connections::new(endpoint.address.clone(), Arc::clone(&self.dialer)),
                    gone: self.stopping.child_token(),
                    heard: Heard::default(),
                };
                if let Some(old) = state.links.insert(endpoint.replica.clone(), Arc::new(link)) {
                    old.gone.cancel();
                }
            }
            state.health.apply(&plan.endpoints);
            state.plan = plan.clone();
            state.tenants = tenants(&plan.queue);
            state.planned_at = Instant::now();
        });
        // The plan itself is no news to the controller that made it.
        if granted {
            self.tell();
        }
    }

    /// A slot at once, if one is free and nobody waits.
    pub(crate) fn enter(self: &Arc<Self>, demand: &Demand, patience: Duration) -> Option<Box<Slot>> {
        let slot = {
            let mut state = self.lock();
            let now = state.latest(self.now());
            let arrival = demand.arrival(state.pool.expected_answer(demand.max_answer), patience);
            let grant = state.pool.enter(&arrival, now)?;
            state.health.retries.arrived();
            self.slot(&state, grant, now)
        };
        self.tell();
        slot
    }

    /// Gives a request a place, for as long as it waits while a replica serves; others may lose theirs.
    pub(crate) fn enqueue(self: &Arc<Self>, demand: &Demand, patience: Duration) -> Result<Place, QueueFull> {
        let (slot, granted) = oneshot::channel();
        let (ticket, position, shed, clocks) = self.update(|state, now| {
            let arrival = demand.arrival(state.pool.expected_answer(demand.max_answer), patience);
            let (ticket, shed) = state.pool.enqueue(&arrival, now, slot)?;
            state.health.retries.arrived();
            let position = state.pool.in_line(demand.priority);
            Ok((ticket, position, shed, state.pool.clocks(now)))
        })?;
        for waiter in shed {
            // Whoever waited may have gone.
            drop(waiter.send(Err(Lost::Shed)));
        }
        Ok(Place { scaler: Arc::clone(self), ticket, position, granted, clocks, left: false })
    }

    /// Gives a request that a replica failed its place in front, and the replica's slot to another.
    pub(crate) fn enqueue_again(
        self: &Arc<Self>,
        mut failed: Slot,
        fault: Option<Fault>,
        patience: Duration,
    ) -> Place {
        let (slot, granted) = oneshot::channel();
        failed.scaler = None;
        let (ticket, clocks, put_aside) = self.update(|state, now| {
            let put_aside = fault.and_then(|fault| {
                let times = state.pool.failed(&failed.link.replica, fault, now)?;
                Some((fault, times))
            });
            if fault == Some(Fault::Ended) {
                let at = Duration::try_from_secs_f64(self.modelled(now)).unwrap_or(Duration::MAX);
                state.health.outliers.failed(&failed.link.replica, at);
            }
            if std::mem::take(&mut failed.is_owed) {
                state.health.outliers.owes_no_more(&failed.link.replica);
            }
            state.pool.release(&failed.grant, now);
            let ticket = state.pool.enqueue_again(&failed.grant, patience, now, slot);
            (ticket, state.pool.clocks(now), put_aside)
        });
        if let Some((fault, times)) = put_aside {
            let why = Aside::from(fault);
            self.account.put_aside(why);
            self.probe(why, Arc::clone(&failed.link), times);
        }
        Place { scaler: Arc::clone(self), ticket, position: 1, granted, clocks, left: false }
    }

    /// When a refused client should come again, in modelled time: when the next replica is expected, as far
    /// as it is known.
    pub(crate) fn retry_after(&self) -> Duration {
        self.ready_in().unwrap_or(DEFAULT_RETRY_AFTER)
    }

    /// Requests that wait in front of one.
    pub(crate) fn ahead(&self, ticket: Ticket) -> usize {
        self.lock().pool.ahead(ticket)
    }

    /// Modelled seconds of a span on the wall.
    pub(crate) fn modelled(&self, wall: Duration) -> f64 {
        wall.as_secs_f64() * self.speed
    }

    /// The span on the wall of a modelled one.
    pub(crate) fn on_the_wall(&self, modelled: Duration) -> Duration {
        on_the_wall(modelled, self.speed)
    }

    /// The pool's clocks.
    pub(crate) fn clocks(&self) -> Clocks {
        let state = self.lock();
        state.pool.clocks(self.now())
    }

    /// Counts what changed.
    pub(crate) fn version(&self) -> u64 {
        self.changes.count()
    }

    /// What is seen now, and the version of it.
    pub(crate) fn report(&self) -> (PoolReport, u64) {
        // Before the state is read: a change in between is reported once too often, never missed.
        let version = self.changes.count();
        let mut report = PoolReport::default();
        {
            let state = self.lock();
            let now = self.now();
            report.queued = state.pool.queued() as u64;
            report.queued_bytes = state.pool.queued_bytes();
            report.oldest_wait_seconds =
                state.pool.oldest().map_or(0.0, |since| self.modelled(now.saturating_sub(since)));
            report.in_flight = state.pool.in_flight();
            report.busy_seconds_total = self.modelled(state.pool.busy(now));
            report.concurrency = state.pool.limits();
            report.tokens_in_flight = state.pool.tokens_in_flight();
            for priority in Priority::ALL {
                let (queued, Some(oldest)) = state.pool.queued_of(priority) else { continue };
                let oldest_wait_seconds = self.modelled(now.saturating_sub(oldest));
                let class =
                    ClassReport { queued: queued as u64, oldest_wait_seconds, ..ClassReport::default() };
                report.classes.insert(priority, class);
            }
            let aside = state.pool.aside().map(|(id, why)| (id.clone(), why.code().to_owned()));
            report.put_aside = aside.collect();
        }
        self.account.fill(&mut report);
        (report, version)
    }

    /// Returns when the report has another version than the one that was seen.
    pub(crate) async fn changed(&self, seen: Option<u64>) {
        self.changes.since(seen).await;
    }

    /// A request was turned away. It wanted to be served: the controller has to know.
    pub(crate) fn refuse(&self, demand: &Demand) {
        self.account.refuse(demand);
        if self.lock().objective().is_some() {
            self.account.judge(false);
        }
        self.tell();
    }

    /// A request that was accepted then ended in an honest error before its first byte. One that its client gave
    /// up while there was time missed nothing.
    pub(crate) fn fail_unanswered(&self, cause: Cause, accepted: Instant) {
        let waited = self.modelled(accepted.elapsed());
        let objective = self.lock().objective();
        if objective.is_some_and(|objective| cause != Cause::ClientLeft || waited > objective) {
            self.account.judge(false);
        }
        self.fail(cause);
    }

    /// An accepted request ended in an honest error.
    pub(crate) fn fail(&self, cause: Cause) {
        self.account.fail(cause);
        self.tell();
    }
}

/// The limits of a plan in the pool's time.
fn rules(queue: &QueueLimits, speed: f64) -> QueueRules {
    let yielding = queue.ttft_objective.map(|objective| Yielding {
        from: on_the_wall(objective, speed),
        until: on_the_wall(queue.timeout, speed) / 2,
    });
    QueueRules { max_requests: queue.max_requests, max_bytes: queue.max_bytes, yielding }
}

fn on_the_wall(modelled: Duration, speed: f64) -> Duration {
    // As it nearly always is.
    if speed == 1.0 {
        return modelled;
    }
    Duration::try_from_secs_f64(modelled.as_secs_f64() / speed).unwrap_or(Duration::MAX)
}

impl Place {
    /// Waits for the slot; safe to be called again after it was dropped.
    pub(crate) async fn slot(&mut self) -> Result<Box<Slot>, Lost> {
        match (&mut self.granted).await {
            Ok(outcome) => {
                self.left = true;
                outcome
            }
            // The other end is dropped only by `Drop` below.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let ticket = self.ticket;
        self.scaler.update(|state, _| state.pool.cancel(ticket));
        // Granted in this very moment: a slot in the channel is given back when the receiver is dropped.
    }
}

impl Slot {
    /// The replica said something at this time.
    pub(crate) fn heard(&self, at: Instant) {
        if let Some(scaler) = &self.scaler {
            self.link.heard.at(scaler.since_began(at));
        }
    }

    /// So many tokens of the answer were passed on.
    pub(crate) fn passed_on(&mut self, tokens: u64) {
        self.tokens += tokens;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(scaler) = self.scaler.take() {
            scaler.update(|state, now| {
                if self.tokens > 0 {
                    state.pool.answer_was(&self.grant, self.tokens);
                }
                state.pool.release(&self.grant, now);
                if self.is_owed {
                    state.health.outliers.owes_no_more(&self.link.replica);
                }
                scaler.account.complete();
            });
        }
    }
}
