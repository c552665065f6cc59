//! Which request goes to which replica, and which waits: no clock, no sockets, no threads, so that a
//! simulator can follow the very same rule.
//!
//! # Who is next
//!
//! Of those that wait:
//!
//! 1. Whoever was sent back from a replica, the last one first: it had its turn.
//! 2. Of the three priorities, the highest in which somebody waits; but a lower one is next once nine times the tokens
//!    of its first request went to higher ones while it waited. So it gets at least one token of ten.
//! 3. Of the tenants of that priority, the one whose turn it is by start-time fair queueing: while several wait, tokens
//!    are shared by their weights, up to one request of each. Requests that nobody is known to have sent are one
//!    tenant's. What a tenant took while nobody had to wait is not held against it, and what it did not take is not
//!    kept for it. A request is charged what it is expected to cost when it gets its slot, and the difference to what it
//!    did cost when it ends.
//! 4. Of the tenant's requests, with [`Yielding`]:
//!    1. whoever has waited for [`Yielding::until`] or longer, in the order of arrival;
//!    2. whoever is not late, which is to have waited for less than [`Yielding::from`], less the time that its first
//!       token is expected to take once it has a slot, but not less than that time;
//!    3. the late ones.
//!
//!    Without [`Yielding`] nobody is late. The second and the third stand in the order of arrival, or, if the tenant is
//!    known by name, the earliest deadline first.
//!
//! Who is next is next: if no replica has room for it, nobody goes before it because it is smaller, or large requests
//! would wait for ever. With one priority and one tenant this is first come, first served, but for the late.
//!
//! Why late requests yield: when more comes than can be served, the order of arrival makes everybody late. Those in
//! front are late already, and serving them makes those behind late too. A late request loses nothing more by waiting,
//! a timely one does. The first rule of them is for the late ones: what would wait until it is given up is served
//! before that.
//!
//! The wait is counted since the arrival, whether replicas served in that time or not.
//!
//! Deadlines: the longest wait that a client asks for itself moves it ahead of requests of its own tenant only, which
//! may order its own work as it likes. It takes nothing from another tenant, and among strangers, who are all those
//! without a name, the order of arrival holds: nobody gets ahead by being impatient. A request whose deadline has passed
//! is never given a slot ([`Turn::TooLate`]).
//!
//! # Who gets a place
//!
//! The queue is bounded by requests and by bytes. When it is full an arrival takes the places of others if they count
//! less than it: of lower priorities, the lowest first; then, in its own, of the tenant that takes the most room, as long
//! as that keeps no less than the arrival's tenant then has, by their weights. Of each the last to come lose their
//! places. If that does not suffice the arrival is refused, and nobody loses anything. So one tenant may fill the queue
//! for as long as nobody else needs it.
//!
//! # Who takes it
//!
//! Late binding: a replica is given at most its concurrency, everything else waits here. A replica that becomes ready
//! takes as many as it has slots, no more. Where the size of its KV cache is known, the tokens that its requests are
//! expected to need fit into it; one alone always does. The open replica with the least work relative to what it can
//! take is next: by tokens where all say how many they hold, by requests otherwise; of several with the same, the one
//! whose last turn is the longest ago. A request that [prefers](Prefers)
//! to be where others were goes there, within a bound on that replica's share of the work; when its turn comes does not
//! depend on it.

mod clocks;
mod limit;
mod slots;

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::{
    ReplicaId,
    affinity::{Candidate, preferred},
    pool::{Concurrency, Endpoint, Priority},
};

use crate::queue::{Admission, Queue};
pub use crate::queue::{Arrival, QueueFull, QueueRules, Ticket, Yielding};
pub use clocks::Clocks;
use clocks::Work;
use slots::Slots;

/// Tokens of an answer of which nothing is known.
const ANSWER_TOKENS: u64 = 256;
/// Weight of one answer's length in their mean.
const ANSWER_WEIGHT: f64 = 1.0 / 64.0;

/// The queue and the slots of one scaler. `W` is whatever waits: a channel, or a number in a simulation.
///
/// After every call that changes something, [`Pool::grant`] is to be called until it returns `None`.
/// Times are durations since any fixed moment of the caller's choice, and do not run backwards.
#[derive(Debug)]
pub struct Pool<W> {
    replicas: BTreeMap<ReplicaId, Slots>,
    queue: Queue<Waiting<W>>,
    clocks: Clocks,
    work: Work,
    /// Mean tokens of an answer.
    answer: Option<f64>,
    /// Slots granted so far.
    turns: u64,
}

#[derive(Debug)]
struct Waiting<W> {
    avoid: Option<ReplicaId>,
    prefers: Option<Prefers>,
    waiter: W,
}

/// What became of the one whose turn it was.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<W> {
    /// It gets a slot.
    Slot(W, Grant),
    /// Its deadline has passed.
    TooLate(W),
}

/// A slot at a replica, to be given back with [`Pool::release`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The replica.
    pub replica: ReplicaId,
    admission: Admission,
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

impl<W> Pool<W> {
    /// A pool without replicas.
    pub fn new(rules: QueueRules) -> Self {
        let (clocks, work) = (Clocks::default(), Work::default());
        Self { replicas: BTreeMap::new(), queue: Queue::new(rules), clocks, work, answer: None, turns: 0 }
    }

    /// Replaces replicas and rules. Returns the replicas that left.
    pub fn apply(
        &mut self,
        endpoints: &[Endpoint],
        concurrency: Concurrency,
        rules: QueueRules,
        now: Duration,
    ) -> Vec<ReplicaId> {
        self.queue.set_rules(rules);
        let mut left = Vec::new();
        for (id, slots) in &mut self.replicas {
            if slots.planned && !endpoints.iter().any(|endpoint| &endpoint.replica == id) {
                slots.planned = false;
                left.push(id.clone());
            }
        }
        for endpoint in endpoints {
            let slots = self.replicas.entry(endpoint.replica.clone());
            slots
                .and_modify(|slots| slots.apply(endpoint, concurrency))
                .or_insert_with(|| Slots::new(endpoint, concurrency));
        }
        self.replicas.retain(|_, slots| slots.planned || slots.in_flight > 0);
        self.tick(now);
        left
    }

    /// Gives a request a place in the queue, and returns who lost theirs for it.
    ///
    /// # Errors
    /// When the queue is full, unless a slot is free: then nobody has to wait.
    pub fn enqueue(
        &mut self,
        arrival: &Arrival,
        now: Duration,
        waiter: W,
    ) -> Result<(Ticket, Vec<W>), QueueFull> {
        let waits = self.queue.len() > 0 || self.best(None, arrival.tokens()).is_none();
        let deadline = self.clocks.at(now).warm_total().saturating_add(arrival.patience);
        let waiting = Waiting { avoid: None, prefers: arrival.prefers, waiter };
        let (ticket, shed) = self.queue.push(arrival, (now, deadline), waits, waiting)?;
        Ok((ticket, shed.into_iter().map(|waiting| waiting.waiter).collect()))
    }

    /// A slot at once for a request, if there is one and nobody waits: what [`Pool::enqueue`] and [`Pool::grant`] would
    /// come to, without a place in between.
    pub fn enter(&mut self, arrival: &Arrival, now: Duration) -> Option<Grant> {
        if self.queue.len() > 0 {
            return None;
        }
        let tokens = arrival.tokens();
        let replica = self.choose(None, arrival.prefers, tokens)?.clone();
        let slots = self.replicas.get_mut(&replica)?;
        self.turns += 1;
        slots.take(tokens, self.turns);
        self.work.set(self.work.taken + 1, now);
        let deadline = self.clocks.at(now).warm_total().saturating_add(arrival.patience);
        Some(Grant { replica, admission: self.queue.pass(arrival, (now, deadline)) })
    }

    /// Puts a request back that a replica failed, in front of all others, for as long as its patience lasts; it prefers
    /// any other replica. It had its place, so no bound applies. The slot is to be released as well.
    pub fn enqueue_again(&mut self, grant: &Grant, patience: Duration, now: Duration, waiter: W) -> Ticket {
        let deadline = self.clocks.at(now).warm_total().saturating_add(patience);
        self.queue.push_front(
            grant.admission.until(deadline),
            Waiting { avoid: Some(grant.replica.clone()), prefers: None, waiter },
        )
    }

    /// Takes a request out of the queue; `None` when it has been granted a slot already.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<W> {
        self.queue.remove(ticket).map(|entry| entry.waiter.waiter)
    }

    /// Grants the request that is next a slot, at the replica that it prefers or at the one with the least work.
    /// To be called until it returns `None`, whenever anything changed.
    pub fn grant(&mut self, now: Duration) -> Option<Turn<W>> {
        let (ticket, entry) = self.queue.next(now)?;
        let (tokens, deadline) = (entry.admission.tokens, entry.admission.deadline);
        if self.clocks.at(now).warm_total() > deadline {
            return self.queue.remove(ticket).map(|entry| Turn::TooLate(entry.waiter.waiter));
        }
        let (avoid, prefers) = (entry.waiter.avoid.clone(), entry.waiter.prefers);
        let replica = self.choose(avoid.as_ref(), prefers, tokens)?.clone();
        let slots = self.replicas.get_mut(&replica)?;
        let entry = self.queue.grant(ticket)?;
        self.turns += 1;
        slots.take(tokens, self.turns);
        self.work.set(self.work.taken + 1, now);
        Some(Turn::Slot(entry.waiter.waiter, Grant { replica, admission: entry.admission }))
    }

    /// Where a request goes: to an open replica that it prefers, or to the one with the least work.
    fn choose(&self, avoid: Option<&ReplicaId>, prefers: Option<Prefers>, tokens: u64) -> Option<&ReplicaId> {
        prefers.and_then(|prefers| self.preferred(prefers, tokens)).or_else(|| self.best(avoid, tokens))
    }

    fn preferred(&self, Prefers { prefix, load_factor }: Prefers, tokens: u64) -> Option<&ReplicaId> {
        let serving = self.replicas.iter().filter(|(_, slots)| slots.is_serving());
        let candidates: Vec<Candidate<'_>> = serving
            .map(|(replica, slots)| Candidate {
                replica,
                in_flight: slots.in_flight,
                most: slots.most(),
                is_open: slots.is_open_for(tokens),
            })
            .collect();
        preferred(prefix, load_factor, &candidates)
    }

    /// The open replica with the least work, relative to what it can take, and of those the one whose last turn is the
    /// longest ago; `avoid` only if there is no other.
    fn best(&self, avoid: Option<&ReplicaId>, tokens: u64) -> Option<&ReplicaId> {
        let open = || self.replicas.iter().filter(|(_, slots)| slots.is_open_for(tokens));
        let by_tokens = open().all(|(_, slots)| slots.tokens_of_kv().is_some());
        let mut best: Option<(bool, (u64, u64), u64, &ReplicaId)> = None;
        for (id, slots) in open() {
            let avoided = avoid == Some(id);
            let (work, most) = match slots.tokens_of_kv() {
                Some(tokens) if by_tokens => tokens,
                Some(_) | None => slots.requests_of_limit(),
            };
            let is_better = best.is_none_or(|(other_avoided, (other, other_most), other_turn, _)| {
                let (own, others) =
                    (u128::from(work) * u128::from(other_most), u128::from(other) * u128::from(most));
                (avoided, own, slots.last_turn()) < (other_avoided, others, other_turn)
            });
            if is_better {
                best = Some((avoided, (work, most), slots.last_turn(), id));
            }
        }
        best.map(|(_, _, _, id)| id)
    }

    /// Gives a slot back.
    pub fn release(&mut self, grant: &Grant, now: Duration) {
        let replica = &grant.replica;
        if let Some(slots) = self.replicas.get_mut(replica).filter(|slots| slots.in_flight > 0) {
            slots.give_back(grant.admission.tokens);
            self.work.set(self.work.taken.saturating_sub(1), now);
            if !slots.planned && slots.in_flight == 0 {
                self.replicas.remove(replica);
            }
        }
    }

    /// About how many tokens an answer will have that may have `most`: the mean of those before it.
    pub fn expected_answer(&self, most: Option<u64>) -> u64 {
        match (self.answer, most) {
            (Some(mean), most) => (mean.ceil() as u64).min(most.unwrap_or(u64::MAX)),
            (None, most) => most.unwrap_or(ANSWER_TOKENS),
        }
    }

    /// An answer was so long: its tenant is charged what it was, and those to come are expected to be like it.
    pub fn answer_was(&mut self, grant: &Grant, tokens: u64) {
        let mean = self.answer.unwrap_or(tokens as f64);
        self.answer = Some(mean + (tokens as f64 - mean) * ANSWER_WEIGHT);
        self.queue.settle(&grant.admission, grant.admission.prompt_tokens.saturating_add(tokens));
    }

    /// A replica began an answer: it is well. `ttft` is how long it took to its first token, where that can be seen.
    /// Whether it may have more requests at a time now.
    pub fn answered(&mut self, replica: &ReplicaId, ttft: Option<Duration>) -> bool {
        self.replicas.get_mut(replica).is_some_and(|slots| slots.answered(ttft))
    }

    /// The first token of an answer came so long after its request had got the slot: those to come are expected to be
    /// like it, by the length of their prompts.
    pub fn first_token_took(&mut self, grant: &Grant, took: Duration) {
        self.queue.first_token_took(&grant.admission, took);
    }

    /// A replica failed a request. Returns how often it was put aside since its last answer when it is put
    /// aside now; then the caller sees to it that [`Pool::readmit`] is called some time.
    pub fn failed(&mut self, replica: &ReplicaId, fault: Fault, now: Duration) -> Option<u32> {
        // One that left is not asked again anyway.
        let slots = self.replicas.get_mut(replica).filter(|slots| slots.planned)?;
        let times = slots.failed(fault)?;
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
        slots.eject(why);
        self.tick(now);
        true
    }

    /// Lets requests come to a replica again that was put aside: where others serve, one at first, and with each
    /// answer twice as many. One that only said that it is not there yet has nothing to prove.
    pub fn readmit(&mut self, replica: &ReplicaId, now: Duration) {
        let warm = self.is_warm();
        if let Some(slots) = self.replicas.get_mut(replica) {
            slots.readmit(warm);
            self.tick(now);
        }
    }

    /// Replicas that are put aside, and why.
    pub fn aside(&self) -> impl Iterator<Item = (&ReplicaId, Aside)> {
        self.replicas.iter().filter_map(|(id, slots)| Some((id, slots.aside()?)))
    }

    /// Whether a replica is put aside.
    pub fn is_suspended(&self, replica: &ReplicaId) -> bool {
        self.replicas.get(replica).is_some_and(|slots| slots.aside().is_some())
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

    /// Waiting requests in front of one, by the order of arrival within priorities. Tenants' shares may move it.
    pub fn ahead(&self, ticket: Ticket) -> usize {
        self.queue.ahead(ticket)
    }

    /// Waiting requests of this priority or a higher one.
    pub fn in_line(&self, priority: Priority) -> usize {
        self.queue.len_from(priority)
    }

    /// Waiting requests.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of their bodies.
    pub fn queued_bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// When the request was accepted that waits longest. Those that were sent back are in no order, so all of them
    /// are looked at.
    pub fn oldest(&self) -> Option<Duration> {
        let waits = Priority::ALL.into_iter().filter_map(|priority| self.queue.oldest(priority));
        self.queue.sent_back().chain(waits).min()
    }

    /// How many of one priority wait, and since when the oldest does; those that were sent back aside.
    pub fn queued_of(&self, priority: Priority) -> (usize, Option<Duration>) {
        (self.queue.len_of(priority), self.queue.oldest(priority))
    }

    /// Time of requests at replicas so far: two there for 3 s are 6 s.
    pub fn busy(&self, now: Duration) -> Duration {
        self.work.at(now)
    }

    /// Requests at replicas, by replica.
    pub fn in_flight(&self) -> BTreeMap<ReplicaId, u32> {
        self.replicas.iter().map(|(id, slots)| (id.clone(), slots.in_flight)).collect()
    }

    /// Requests that replicas are given at a time, of those for which that need not be what the plan says.
    pub fn limits(&self) -> BTreeMap<ReplicaId, u32> {
        self.replicas.iter().filter_map(|(id, slots)| Some((id.clone(), slots.own_limit()?))).collect()
    }

    /// Tokens that the requests at replicas are expected to need, of those whose capacity is known.
    pub fn tokens_in_flight(&self) -> BTreeMap<ReplicaId, u64> {
        let tokens = |slots: &Slots| slots.tokens_of_kv().map(|(tokens, _)| tokens);
        self.replicas.iter().filter_map(|(id, slots)| Some((id.clone(), tokens(slots)?))).collect()
    }
}
