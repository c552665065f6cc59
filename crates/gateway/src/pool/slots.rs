//! One replica's slots: what it has, what it may have, and whether it is well.

use std::time::Duration;

use forewarm_core::pool::{Concurrency, Endpoint};

use super::{Aside, Fault, limit::Limit};

/// Connections in a row that may end before an answer began until a replica is put aside. One alone may
/// be the request's fault, and must not keep everybody from the replica.
const STRIKES: u32 = 3;

/// One replica's slots.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    address: String,
    limit: Limit,
    most: u32,
    kv_tokens: Option<u64>,
    pub(super) in_flight: u32,
    /// Tokens that those are expected to need.
    tokens: u64,
    /// The pool's count when it was last granted; 0: never.
    last_turn: u64,
    draining: bool,
    /// In the plan; a replica that left it is kept until its last slot is given back.
    pub(super) planned: bool,
    /// Put aside, and why: gets nothing until it is readmitted.
    aside: Option<Aside>,
    /// Requests at a time while it has to prove itself after it was put aside.
    trial: Option<u32>,
    /// Unanswered tries since the last answer.
    strikes: u32,
    /// Times it was put aside since the last answer.
    suspensions: u32,
}

impl Slots {
    pub(super) fn new(endpoint: &Endpoint, rules: Concurrency) -> Self {
        Self {
            address: endpoint.address.clone(),
            limit: Limit::new(endpoint.max_concurrency, rules),
            most: endpoint.max_concurrency,
            kv_tokens: endpoint.kv_tokens,
            in_flight: 0,
            tokens: 0,
            last_turn: 0,
            draining: endpoint.draining,
            planned: true,
            aside: None,
            trial: None,
            strikes: 0,
            suspensions: 0,
        }
    }

    /// Another plan.
    pub(super) fn apply(&mut self, endpoint: &Endpoint, rules: Concurrency) {
        // Somewhere else, or back again: what it did before says nothing.
        if self.address != endpoint.address || !self.planned {
            *self = Self { in_flight: self.in_flight, tokens: self.tokens, ..Self::new(endpoint, rules) };
            return;
        }
        self.limit.set(endpoint.max_concurrency, rules);
        (self.most, self.kv_tokens) = (endpoint.max_concurrency, endpoint.kv_tokens);
        self.draining = endpoint.draining;
    }

    /// Whether it would serve if it were well.
    pub(super) fn is_wanted(&self) -> bool {
        self.planned && !self.draining && self.most > 0
    }

    pub(super) fn is_serving(&self) -> bool {
        self.is_wanted() && self.aside.is_none()
    }

    /// Requests that the plan gives it at a time.
    pub(super) fn most(&self) -> u32 {
        self.most
    }

    /// Why it is put aside, if it is.
    pub(super) fn aside(&self) -> Option<Aside> {
        self.aside.filter(|_| self.planned)
    }

    /// Whether it takes a request of so many tokens now. What is too large for it goes there alone.
    pub(super) fn is_open_for(&self, tokens: u64) -> bool {
        let fits = |kv_tokens| self.in_flight == 0 || self.tokens.saturating_add(tokens) <= kv_tokens;
        self.is_serving() && self.in_flight < self.at_a_time() && self.kv_tokens.is_none_or(fits)
    }

    /// Work at it and what it takes at most, in tokens.
    pub(super) fn tokens_of_kv(&self) -> Option<(u64, u64)> {
        Some((self.tokens, self.kv_tokens?))
    }

    /// Work at it and what it takes at most, in requests.
    pub(super) fn requests_of_limit(&self) -> (u64, u64) {
        (self.in_flight.into(), self.limit.get().into())
    }

    /// Requests that it is given at a time, where that need not be what the plan says.
    pub(super) fn own_limit(&self) -> Option<u32> {
        Some(self.limit.get()).filter(|_| self.planned && self.limit.may_be_less())
    }

    /// When it was last granted, in turns of the pool.
    pub(super) fn last_turn(&self) -> u64 {
        self.last_turn
    }

    pub(super) fn take(&mut self, tokens: u64, turn: u64) {
        self.last_turn = turn;
        self.in_flight += 1;
        self.tokens = self.tokens.saturating_add(tokens);
    }

    pub(super) fn give_back(&mut self, tokens: u64) {
        self.in_flight -= 1;
        self.tokens = self.tokens.saturating_sub(tokens);
    }

    /// It began an answer: it is well. One that has to prove itself may have twice as many requests. Whether it may
    /// have more of them now.
    pub(super) fn answered(&mut self, ttft: Option<Duration>) -> bool {
        let before = self.at_a_time();
        (self.strikes, self.suspensions) = (0, 0);
        let doubled = self.trial.map(|trial| trial.saturating_mul(2));
        self.trial = doubled.filter(|trial| *trial < self.most);
        self.limit.answered(ttft, self.in_flight);
        self.at_a_time() > before
    }

    /// Requests that it is given at a time.
    fn at_a_time(&self) -> u32 {
        self.trial.map_or(self.limit.get(), |trial| trial.min(self.limit.get()))
    }

    /// Returns how often it was put aside since its last answer when it is put aside now.
    pub(super) fn failed(&mut self, fault: Fault) -> Option<u32> {
        self.strikes = match fault {
            Fault::NotServing => STRIKES,
            Fault::Ended => self.strikes + 1,
        };
        if self.aside.is_some() || self.strikes < STRIKES {
            return None;
        }
        self.aside = Some(fault.into());
        self.suspensions += 1;
        Some(self.suspensions)
    }

    pub(super) fn eject(&mut self, why: Aside) {
        self.aside = Some(why);
    }

    /// Gets requests again; where others serve, `warm`, one at first, if it has to prove itself.
    pub(super) fn readmit(&mut self, warm: bool) {
        let why = self.aside.take();
        let proves = warm && why.is_some_and(|why| why != Aside::NotServing);
        self.trial = proves.then_some(self.in_flight + 1);
        self.strikes = 0;
    }
}
