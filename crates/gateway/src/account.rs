//! What became of every request. One place counts, so that the account balances.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::pool::Aside;

/// Why an accepted request ended in an honest error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// It waited longer than it may.
    Deadline,
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
    const ALL: [Cause; 6] = [
        Cause::Deadline,
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
    /// The last one counts what is beyond every bound.
    waits: [AtomicU64; WAIT_BUCKETS_SECONDS.len() + 1],
    wait_sum_micros: AtomicU64,
}

/// How long requests waited for a slot, in modelled seconds.
#[derive(Debug)]
pub(crate) struct Waits {
    /// By [`WAIT_BUCKETS_SECONDS`], each with those of the buckets before it; the last one is the count.
    pub(crate) cumulative: Vec<u64>,
    pub(crate) sum_seconds: f64,
}

impl Account {
    pub(crate) fn arrive(&self) {
        self.arrived.fetch_add(1, Relaxed);
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
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

    /// A request got a slot after so many modelled seconds.
    pub(crate) fn waited(&self, seconds: f64) {
        let bucket = WAIT_BUCKETS_SECONDS.partition_point(|&bound| bound < seconds);
        self.waits[bucket].fetch_add(1, Relaxed);
        let micros = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_micros();
        self.wait_sum_micros.fetch_add(u64::try_from(micros).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn waits(&self) -> Waits {
        let mut sum = 0;
        let cumulative = self.waits.iter().map(|bucket| {
            sum += bucket.load(Relaxed);
            sum
        });
        Waits {
            cumulative: cumulative.collect(),
            sum_seconds: Duration::from_micros(self.wait_sum_micros.load(Relaxed)).as_secs_f64(),
        }
    }

    /// Copies the totals into a report.
    pub(crate) fn fill(&self, report: &mut forewarm_core::pool::PoolReport) {
        report.arrived_total = self.arrived.load(Relaxed);
        report.refused_total = self.refused.load(Relaxed);
        report.succeeded_total = self.succeeded.load(Relaxed);
        report.retried_total = self.retried.load(Relaxed);
        report.streamed_events_total = self.streamed_events.load(Relaxed);
        report.completed_total = self.completed.load(Relaxed);
        report.attained_total = self.attained.load(Relaxed);
        report.missed_total = self.missed.load(Relaxed);
        let failed =
            Cause::ALL.map(|cause| (cause.code().to_owned(), self.failed[cause as usize].load(Relaxed)));
        report.failed_total = BTreeMap::from(failed).into_iter().filter(|(_, count)| *count > 0).collect();
    }
}
