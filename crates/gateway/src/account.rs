//! What became of every request. One place counts, so that the account balances.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use forewarm_core::pool::{PoolReport, Priority};

use crate::{demand::Demand, pool::Aside, tenant::TenantId};

/// Why an accepted request ended in an honest error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// It waited longer than it may.
    Deadline,
    /// Others took its place in a full queue.
    Shed,
    /// Its replica died after the first byte.
    ReplicaDiedMidStream,
    /// No replica could answer it, or one answered that it failed.
    UpstreamError,
    /// The gateway stops.
    GatewayStopping,
    /// The client went away.
    ClientLeft,
    /// The client did not take its answer.
    ClientTooSlow,
}

impl Cause {
    const ALL: [Cause; 7] = [
        Cause::Deadline,
        Cause::Shed,
        Cause::ReplicaDiedMidStream,
        Cause::UpstreamError,
        Cause::GatewayStopping,
        Cause::ClientLeft,
        Cause::ClientTooSlow,
    ];

    /// The `code` in errors and the label in metrics.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Cause::Deadline => "deadline",
            Cause::Shed => "shed",
            Cause::ReplicaDiedMidStream => "replica_died_mid_stream",
            Cause::UpstreamError => "upstream_error",
            Cause::GatewayStopping => "gateway_died",
            Cause::ClientLeft => "client_left",
            Cause::ClientTooSlow => "client_too_slow",
        }
    }
}

/// Upper bounds of the queue wait's histogram, in modelled seconds: from a free slot to a cold start of minutes.
pub(crate) const WAIT_BUCKETS_SECONDS: [f64; 14] =
    [0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 180.0, 600.0, 1800.0];

/// Totals of one scaler.
#[derive(Debug, Default)]
pub(crate) struct Account {
    arrived: AtomicU64,
    refused: AtomicU64,
    succeeded: AtomicU64,
    failed: [AtomicU64; Cause::ALL.len()],
    retried: AtomicU64,
    retries_denied: AtomicU64,
    put_aside: [AtomicU64; Aside::ALL.len()],
    streamed_events: AtomicU64,
    completed: AtomicU64,
    attained: AtomicU64,
    missed: AtomicU64,
    /// By [`Priority::ALL`].
    classes: [ClassTotals; Priority::ALL.len()],
    tenants: Mutex<BTreeMap<TenantId, TenantTotals>>,
}

/// Totals of one priority.
#[derive(Debug, Default)]
struct ClassTotals {
    arrived: AtomicU64,
    refused: AtomicU64,
    shed: AtomicU64,
    /// The last one counts what is beyond every bound.
    waits: [AtomicU64; WAIT_BUCKETS_SECONDS.len() + 1],
    wait_sum_micros: AtomicU64,
}

/// Totals of one tenant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TenantTotals {
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
    pub(crate) shed: u64,
    /// How long those admitted waited, in modelled seconds.
    pub(crate) wait_seconds: f64,
}

/// Tenants that are told apart; their names may come from clients, and must not fill memory or metrics.
const MAX_TENANTS: usize = 100;
/// The tenant that those beyond [`MAX_TENANTS`] are added up under.
const OTHER_TENANTS: &str = "_other";

/// How long requests waited for a slot, in modelled seconds.
#[derive(Debug)]
pub(crate) struct Waits {
    /// By [`WAIT_BUCKETS_SECONDS`], each with those of the buckets before it; the last one is the count.
    pub(crate) cumulative: Vec<u64>,
    pub(crate) sum_seconds: f64,
}

impl Account {
    fn class(&self, priority: Priority) -> &ClassTotals {
        &self.classes[priority as usize]
    }

    pub(crate) fn arrive(&self, priority: Priority) {
        self.arrived.fetch_add(1, Relaxed);
        self.class(priority).arrived.fetch_add(1, Relaxed);
    }

    pub(crate) fn refuse(&self, demand: &Demand) {
        self.refused.fetch_add(1, Relaxed);
        self.class(demand.priority).refused.fetch_add(1, Relaxed);
        self.of_tenant(demand, |totals| totals.refused += 1);
    }

    /// A request lost its place to others; it has failed as well.
    pub(crate) fn shed(&self, demand: &Demand) {
        self.class(demand.priority).shed.fetch_add(1, Relaxed);
        self.of_tenant(demand, |totals| totals.shed += 1);
    }

    /// A replica began to answer a request that had waited for so many modelled seconds.
    pub(crate) fn admit(&self, demand: &Demand, waited_seconds: f64) {
        let class = self.class(demand.priority);
        let bucket = WAIT_BUCKETS_SECONDS.partition_point(|&bound| bound < waited_seconds);
        class.waits[bucket].fetch_add(1, Relaxed);
        let micros = Duration::try_from_secs_f64(waited_seconds).unwrap_or_default().as_micros();
        class.wait_sum_micros.fetch_add(u64::try_from(micros).unwrap_or(u64::MAX), Relaxed);
        self.of_tenant(demand, |totals| {
            totals.admitted += 1;
            totals.wait_seconds += waited_seconds;
        });
    }

    fn of_tenant(&self, demand: &Demand, count: impl FnOnce(&mut TenantTotals)) {
        let Some(tenant) = &demand.tenant else { return };
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tenants.len() < MAX_TENANTS || tenants.contains_key(tenant);
        let name = if known { tenant.clone() } else { TenantId::from(OTHER_TENANTS) };
        count(tenants.entry(name).or_default());
    }

    /// What became of the requests of the tenants with a name.
    pub(crate) fn tenants(&self) -> BTreeMap<TenantId, TenantTotals> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn succeed(&self) {
        self.succeeded.fetch_add(1, Relaxed);
    }

    pub(crate) fn fail(&self, cause: Cause) {
        self.failed[cause as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn retry(&self) {
        self.retried.fetch_add(1, Relaxed);
    }

    /// A request was not sent again, for the retry budget was used up.
    pub(crate) fn deny_retry(&self) {
        self.retries_denied.fetch_add(1, Relaxed);
    }

    pub(crate) fn retries_denied(&self) -> u64 {
        self.retries_denied.load(Relaxed)
    }

    /// A replica was put aside.
    pub(crate) fn put_aside(&self, why: Aside) {
        self.put_aside[why as usize].fetch_add(1, Relaxed);
    }

    /// How often replicas were put aside, by reason.
    pub(crate) fn times_aside(&self) -> impl Iterator<Item = (Aside, u64)> {
        Aside::ALL.into_iter().map(|why| (why, self.put_aside[why as usize].load(Relaxed)))
    }

    /// A request gave its slot back for good.
    pub(crate) fn complete(&self) {
        self.completed.fetch_add(1, Relaxed);
    }

    /// A request attained the objective, or missed it.
    pub(crate) fn judge(&self, attained: bool) {
        if attained { &self.attained } else { &self.missed }.fetch_add(1, Relaxed);
    }

    pub(crate) fn events(&self, count: u64) {
        if count > 0 {
            self.streamed_events.fetch_add(count, Relaxed);
        }
    }

    pub(crate) fn waits(&self, priority: Priority) -> Waits {
        let class = self.class(priority);
        let mut sum = 0;
        let cumulative = class.waits.iter().map(|bucket| {
            sum += bucket.load(Relaxed);
            sum
        });
        Waits {
            cumulative: cumulative.collect(),
            sum_seconds: Duration::from_micros(class.wait_sum_micros.load(Relaxed)).as_secs_f64(),
        }
    }

    /// Copies the totals into a report.
    pub(crate) fn fill(&self, report: &mut PoolReport) {
        report.arrived_total = self.arrived.load(Relaxed);
        report.refused_total = self.refused.load(Relaxed);
        report.succeeded_total = self.succeeded.load(Relaxed);
        report.retried_total = self.retried.load(Relaxed);
        report.streamed_events_total = self.streamed_events.load(Relaxed);
        report.completed_total = self.completed.load(Relaxed);
        report.attained_total = self.attained.load(Relaxed);
        report.missed_total = self.missed.load(Relaxed);
        for priority in Priority::ALL {
            let totals = self.class(priority);
            let arrived_total = totals.arrived.load(Relaxed);
            if arrived_total > 0 {
                let class = report.classes.entry(priority).or_default();
                class.arrived_total = arrived_total;
                class.refused_total = totals.refused.load(Relaxed);
                class.shed_total = totals.shed.load(Relaxed);
                class.admitted_total = totals.waits.iter().map(|bucket| bucket.load(Relaxed)).sum();
            }
        }
        let failed =
            Cause::ALL.map(|cause| (cause.code().to_owned(), self.failed[cause as usize].load(Relaxed)));
        report.failed_total = BTreeMap::from(failed).into_iter().filter(|(_, count)| *count > 0).collect();
    }
}
