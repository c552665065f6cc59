//! Which request goes to which replica, and which waits: no clock, no sockets, no threads, so that a
//! simulator can follow the very same rule.
//!
//! Late binding: a replica is given at most its concurrency, everything else waits here. A replica that becomes
//! ready takes as many as it has slots, no more.
//!
//! Who is next, of those that wait:
//!
//! 1. whoever was sent back from a replica, the last one first: it had its turn;
//! 2. with [`Yielding`], whoever has waited for [`Yielding::until`] or longer, in the order of arrival;
//! 3. whoever is not late, which is to have waited for less than [`Yielding::from`], in the order of arrival;
//! 4. the late ones, in the order of arrival.
//!
//! Without [`Yielding`] nobody is late: first come, first served.
//!
//! Why: when more comes than can be served, the order of arrival makes everybody late. Those in front are late
//! already, and serving them makes those behind late too. A late request loses nothing more by waiting, a timely
//! one does. The second rule is for the late ones: what would wait until it is given up is served before that.
//!
//! The wait is counted since the arrival, whether replicas served in that time or not. The longest wait that a client
//! asks for itself does not matter here: nobody gets ahead by being impatient.

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::{
    ReplicaId,
    affinity::{Candidate, preferred},
    pool::Endpoint,
};

use crate::queue::Queue;
pub use crate::queue::{QueueFull, QueueRules, Ticket, Yielding};

/// Connections in a row that may end before an answer began until a replica is put aside. One alone may
/// be the request's fault, and must not keep everybody from the replica.
const STRIKES: u32 = 3;

/// The queue and the slots of one scaler. `W` is whatever waits: a channel, or a number in a simulation.
///
/// After every call that changes something, [`Pool::grant`] is to be called until it returns `None`.
/// Times are durations since any fixed moment of the caller's choice.
#[derive(Debug)]
pub struct Pool<W> {
    replicas: BTreeMap<ReplicaId, Slots>,
    queue: Queue<Waiting<W>>,
    clocks: Clocks,
    work: Work,
}

#[derive(Debug)]
struct Waiting<W> {
    avoid: Option<ReplicaId>,
    prefers: Option<Prefers>,
    since: Duration,
    waiter: W,
}

/// One replica's slots.
#[derive(Clone, Debug)]
struct Slots {
    address: String,
    max_concurrency: u32,
    in_flight: u32,
    draining: bool,
    /// In the plan; a replica that left it is kept until its last slot is given back.
    planned: bool,
    /// Put aside, and why: gets nothing until [`Pool::readmit`].
    aside: Option<Aside>,
    /// Requests at a time while it has to prove itself after it was put aside.
    trial: Option<u32>,
    /// Unanswered tries since the last answer.
    strikes: u32,
    /// Times it was put aside since the last answer.
    suspensions: u32,
}

/// A slot at a replica, to be given back with [`Pool::release`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The replica.
    pub replica: ReplicaId,
}

/// That a request would rather be where others were that begin alike: [`forewarm_core::affinity`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prefers {
    /// How it begins.
    pub prefix: u64,
    /// How many times its share of the work a replica may have for it.
    pub load_factor: f64,
}

/// How a replica failed a request before the first byte of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes no connection, or says that it is starting or stopping: the next request would fare no better.
    NotServing,
    /// The connection ended without an answer.
    Ended,
}

/// Why a replica is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aside {
    /// [`Fault::NotServing`].
    NotServing,
    /// Connections in a row ended without an answer.
    Ended,
    /// It says nothing, while its peers answer.
    Silent,
    /// Its first bytes come far later than its peers'.
    Slow,
    /// Most of its requests fail, and few of its peers'.
    Failing,
}

impl From<Fault> for Aside {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotServing => Aside::NotServing,
            Fault::Ended => Aside::Ended,
        }
    }
}

impl Aside {
    /// Every reason.
    pub const ALL: [Aside; 5] = [Aside::NotServing, Aside::Ended, Aside::Silent, Aside::Slow, Aside::Failing];

    /// The label in metrics and reports.
    pub const fn code(self) -> &'static str {
        match self {
            Aside::NotServing => "not_serving",
            Aside::Ended => "ended",
            Aside::Silent => "silent",
            Aside::Slow => "slow",
            Aside::Failing => "failing",
        }
    }
}

/// How long a pool has had a serving replica, and how long it had none, since it began.
///
/// A request is charged by the difference of two of these, so that its cold start and its wait for a slot
/// are two clocks, and nobody needs to be woken when one stops and the other runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    warm: bool,
    since: Duration,
    warm_total: Duration,
    cold_total: Duration,
}

impl Clocks {
    fn advance(&mut self, now: Duration, warm: bool) {
        *self = Self { warm, ..self.at(now) };
    }

    /// The same clocks at `now`; time does not run backwards.
    pub fn at(mut self, now: Duration) -> Self {
        let passed = now.saturating_sub(self.since);
        if self.warm {
            self.warm_total += passed;
        } else {
            self.cold_total += passed;
        }
        self.since = self.since.max(now);
        self
    }

    /// Whether a replica serves.
    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// Time with, and time without a serving replica since `earlier`.
    pub fn since(&self, earlier: &Self) -> (Duration, Duration) {
        (
            self.warm_total.saturating_sub(earlier.warm_total),
            self.cold_total.saturating_sub(earlier.cold_total),
        )
    }
}

/// The integral over time of the slots that are taken.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    taken: u32,
    since: Duration,
    total: Duration,
}

impl Work {
    fn at(&self, now: Duration) -> Duration {
        self.total.saturating_add(now.saturating_sub(self.since).saturating_mul(self.taken))
    }

    fn set(&mut self, taken: u32, now: Duration) {
        *self = Self { taken, since: self.since.max(now), total: self.at(now) };
    }
}

impl<W> Pool<W> {
    /// A pool without replicas.
    pub fn new(rules: QueueRules) -> Self {
        let (clocks, work) = (Clocks::default(), Work::default());
        Self { replicas: BTreeMap::new(), queue: Queue::new(rules), clocks, work }
    }

    /// Replaces replicas and rules. Returns the replicas that left.
    pub fn apply(&mut self, endpoints: &[Endpoint], rules: QueueRules, now: Duration) -> Vec<ReplicaId> {
        self.queue.rules = rules;
        let mut left = Vec::new();
        for (id, slots) in &mut self.replicas {
            if slots.planned && !endpoints.iter().any(|endpoint| &endpoint.replica == id) {
                slots.planned = false;
                left.push(id.clone());
            }
        }
        for endpoint in endpoints {
            let slots = self.replicas.entry(endpoint.replica.clone()).or_insert_with(|| Slots {
                address: endpoint.address.clone(),
                max_concurrency: 0,
                in_flight: 0,
                draining: false,
                planned: true,
                aside: None,
                trial: None,
                strikes: 0,
                suspensions: 0,
            });
            // Somewhere else, or back again: what it did before says nothing.
            if slots.address != endpoint.address || !slots.planned {
                slots.address.clone_from(&endpoint.address);
                (slots.aside, slots.trial, slots.strikes, slots.suspensions) = (None, None, 0, 0);
            }
            slots.max_concurrency = endpoint.max_concurrency;
            slots.draining = endpoint.draining;
            slots.planned = true;
        }
        self.replicas.retain(|_, slots| slots.planned || slots.in_flight > 0);
        self.tick(now);
        left
    }

    /// Gives a request a place in the queue.
    ///
    /// # Errors
    /// When the queue is full, unless a slot is free: then nobody has to wait.
    pub fn enqueue(&mut self, bytes: u64, now: Duration, waiter: W) -> Result<Ticket, QueueFull> {
        let waits = self.queue.len() > 0 || self.best(None).is_none();
        if waits && self.queue.is_full_for(bytes) {
            return Err(QueueFull);
        }
        Ok(self.queue.push_back(bytes, now, Waiting { avoid: None, prefers: None, since: now, waiter }))
    }

    /// Puts a request that was accepted at `since` in front of all others; it prefers any other replica to
    /// the one that failed it. It had its place, so no bound applies.
    pub fn enqueue_again(&mut self, bytes: u64, since: Duration, avoid: ReplicaId, waiter: W) -> Ticket {
        self.queue.push_front(bytes, Waiting { avoid: Some(avoid), prefers: None, since, waiter })
    }

    /// What a request that waits prefers, when its turn comes: it changes where it goes, and never when.
    pub fn prefer(&mut self, ticket: Ticket, prefers: Prefers) {
        if let Some(waiting) = self.queue.get_mut(ticket) {
            waiting.prefers = Some(prefers);
        }
    }

    /// Takes a request out of the queue; `None` when it has been granted a slot already.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<W> {
        self.queue.remove(ticket).map(|waiting| waiting.waiter)
    }

    /// Grants the request that is next a slot, at the replica that it prefers or at the one with the least work. To be called until it
    /// returns `None`, whenever anything changed.
    pub fn grant(&mut self, now: Duration) -> Option<(W, Grant)> {
        let (ticket, waiting) = self.queue.next(now)?;
        let preferred = waiting.prefers.and_then(|prefers| self.preferred(prefers));
        let replica = preferred.or_else(|| self.best(waiting.avoid.as_ref()))?.clone();
        let slots = self.replicas.get_mut(&replica)?;
        let waiting = self.queue.remove(ticket)?;
        slots.in_flight += 1;
        self.work.set(self.work.taken + 1, now);
        Some((waiting.waiter, Grant { replica }))
    }

    fn preferred(&self, Prefers { prefix, load_factor }: Prefers) -> Option<&ReplicaId> {
        let serving = self.replicas.iter().filter(|(_, slots)| slots.is_serving());
        let candidates: Vec<Candidate<'_>> = serving
            .map(|(replica, slots)| Candidate {
                replica,
                in_flight: slots.in_flight,
                most: slots.max_concurrency,
                is_open: slots.is_open(),
            })
            .collect();
        preferred(prefix, load_factor, &candidates)
    }

    /// The open replica with the least work, relative to what it can take; `avoid` only if there is no other.
    fn best(&self, avoid: Option<&ReplicaId>) -> Option<&ReplicaId> {
        let open = self.replicas.iter().filter(|(_, slots)| slots.is_open());
        open.min_by(|(a_id, a), (b_id, b)| {
            let work =
                |slots: &Slots, other: &Slots| u64::from(slots.in_flight) * u64::from(other.max_concurrency);
            (avoid == Some(*a_id)).cmp(&(avoid == Some(*b_id))).then(work(a, b).cmp(&work(b, a)))
        })
        .map(|(id, _)| id)
    }

    /// Gives a slot back.
    pub fn release(&mut self, replica: &ReplicaId, now: Duration) {
        if let Some(slots) = self.replicas.get_mut(replica).filter(|slots| slots.in_flight > 0) {
            slots.in_flight -= 1;
            self.work.set(self.work.taken.saturating_sub(1), now);
            if !slots.planned && slots.in_flight == 0 {
                self.replicas.remove(replica);
            }
        }
    }

    /// A replica began an answer: it is well. One that has to prove itself may have twice as many requests.
    pub fn answered(&mut self, replica: &ReplicaId) {
        if let Some(slots) = self.replicas.get_mut(replica) {
            (slots.strikes, slots.suspensions) = (0, 0);
            let doubled = slots.trial.map(|trial| trial.saturating_mul(2));
            slots.trial = doubled.filter(|trial| *trial < slots.max_concurrency);
        }
    }

    /// A replica failed a request. Returns how often it was put aside since its last answer when it is put
    /// aside now; then the caller sees to it that [`Pool::readmit`] is called some time.
    pub fn failed(&mut self, replica: &ReplicaId, fault: Fault, now: Duration) -> Option<u32> {
        // One that left is not asked again anyway.
        let slots = self.replicas.get_mut(replica).filter(|slots| slots.planned)?;
        slots.strikes = match fault {
            Fault::NotServing => STRIKES,
            Fault::Ended => slots.strikes + 1,
        };
        if slots.aside.is_some() || slots.strikes < STRIKES {
            return None;
        }
        slots.aside = Some(fault.into());
        slots.suspensions += 1;
        let times = slots.suspensions;
        self.tick(now);
        Some(times)
    }

    /// Puts a replica aside that does worse than its peers, unless half of them are put aside already: never the
    /// last one. Whether it is put aside now; then the caller sees to it that [`Pool::readmit`] is called some time.
    pub fn eject(&mut self, replica: &ReplicaId, why: Aside, now: Duration) -> bool {
        let wanted = self.replicas.values().filter(|slots| slots.is_wanted());
        let (all, serving) =
            wanted.fold((0, 0), |(all, serving), slots| (all + 1, serving + u32::from(slots.is_serving())));
        let Some(slots) = self.replicas.get_mut(replica).filter(|slots| slots.is_serving()) else {
            return false;
        };
        if serving < 2 || 2 * (all - serving + 1) > all {
            return false;
        }
        slots.aside = Some(why);
        self.tick(now);
        true
    }

    /// Lets requests come to a replica again that was put aside: where others serve, one at first, and with each
    /// answer twice as many. One that only said that it is not there yet has nothing to prove.
    pub fn readmit(&mut self, replica: &ReplicaId, now: Duration) {
        let warm = self.is_warm();
        if let Some(slots) = self.replicas.get_mut(replica) {
            let why = slots.aside.take();
            let proves = warm && why.is_some_and(|why| why != Aside::NotServing);
            slots.trial = proves.then_some(slots.in_flight + 1);
            slots.strikes = 0;
            self.tick(now);
        }
    }

    /// Replicas that are put aside, and why.
    pub fn aside(&self) -> impl Iterator<Item = (&ReplicaId, Aside)> {
        self.replicas.iter().filter_map(|(id, slots)| Some((id, slots.aside.filter(|_| slots.planned)?)))
    }

    /// Whether a replica is put aside.
    pub fn is_suspended(&self, replica: &ReplicaId) -> bool {
        self.replicas.get(replica).is_some_and(|slots| slots.planned && slots.aside.is_some())
    }

    /// Whether any replica could take requests if it had a slot free.
    pub fn is_warm(&self) -> bool {
        self.replicas.values().any(Slots::is_serving)
    }

    /// The two clocks at `now`.
    pub fn clocks(&self, now: Duration) -> Clocks {
        self.clocks.at(now)
    }

    fn tick(&mut self, now: Duration) {
        let warm = self.is_warm();
        self.clocks.advance(now, warm);
    }

    /// Waiting requests in front of one, in the order in which they came.
    pub fn ahead(&self, ticket: Ticket) -> usize {
        self.queue.ahead(ticket)
    }

    /// Waiting requests.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of their bodies.
    pub fn queued_bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// When the request was accepted that waits longest. Those that were sent back stand in front in any
    /// order, so all of them are looked at, up to the first that was not.
    pub fn oldest(&self) -> Option<Duration> {
        let mut sent_back = true;
        self.queue
            .iter()
            .take_while(|waiting| std::mem::replace(&mut sent_back, waiting.avoid.is_some()))
            .map(|waiting| waiting.since)
            .min()
    }

    /// Time of requests at replicas so far: two there for 3 s are 6 s.
    pub fn busy(&self, now: Duration) -> Duration {
        self.work.at(now)
    }

    /// Requests at replicas, by replica.
    pub fn in_flight(&self) -> BTreeMap<ReplicaId, u32> {
        self.replicas.iter().map(|(id, slots)| (id.clone(), slots.in_flight)).collect()
    }
}

impl Slots {
    /// Whether it would serve if it were well.
    fn is_wanted(&self) -> bool {
        self.planned && !self.draining && self.max_concurrency > 0
    }

    fn is_serving(&self) -> bool {
        self.is_wanted() && self.aside.is_none()
    }

    fn is_open(&self) -> bool {
        let most = self.trial.map_or(self.max_concurrency, |trial| trial.min(self.max_concurrency));
        self.is_serving() && self.in_flight < most
    }
}
