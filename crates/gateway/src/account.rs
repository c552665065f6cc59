//! What became of every request. One place counts, so that the account balances.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Why an accepted request ended in an honest error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// It waited longer than it may.
    Deadline,
    /// Its replica died after the first byte.
    ReplicaDiedMidStream,
    /// No replica could answer it.
    UpstreamError,
    /// The gateway stops.
    GatewayStopping,
    /// The client went away.
    ClientLeft,
}

impl Cause {
    const ALL: [Cause; 5] = [
        Cause::Deadline,
        Cause::ReplicaDiedMidStream,
        Cause::UpstreamError,
        Cause::GatewayStopping,
        Cause::ClientLeft,
    ];

    /// The `code` in errors and the label in metrics.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Cause::Deadline => "deadline",
            Cause::ReplicaDiedMidStream => "replica_died_mid_stream",
            Cause::UpstreamError => "upstream_error",
            Cause::GatewayStopping => "gateway_died",
            Cause::ClientLeft => "client_left",
        }
    }
}

/// Totals of one scaler.
#[derive(Debug, Default)]
pub(crate) struct Account {
    arrived: AtomicU64,
    refused: AtomicU64,
    succeeded: AtomicU64,
    failed: [AtomicU64; 5],
    retried: AtomicU64,
    streamed_frames: AtomicU64,
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

    pub(crate) fn frame(&self) {
        self.streamed_frames.fetch_add(1, Relaxed);
    }

    /// Copies the totals into a report.
    pub(crate) fn fill(&self, report: &mut forewarm_core::pool::PoolReport) {
        report.arrived_total = self.arrived.load(Relaxed);
        report.refused_total = self.refused.load(Relaxed);
        report.succeeded_total = self.succeeded.load(Relaxed);
        report.retried_total = self.retried.load(Relaxed);
        report.streamed_events_total = self.streamed_frames.load(Relaxed);
        let failed =
            Cause::ALL.map(|cause| (cause.code().to_owned(), self.failed[cause as usize].load(Relaxed)));
        report.failed_total = BTreeMap::from(failed).into_iter().filter(|(_, count)| *count > 0).collect();
    }
}
