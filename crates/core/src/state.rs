//! The memory between two decisions: explicit, bounded and serialisable, so that a restart forgets nothing.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{
    ColdStarts, ReplicaId, Replicas, Timestamp,
    forecast::Trend,
    pipeline::{anticipate::Anticipation, peer::PeerState, queue::JobMemory},
};

/// Raised whenever an older program could not read the state any more.
pub const STATE_VERSION: u32 = 4;

/// One scaler's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalerState {
    /// The format. A state that was read is one of this program's from the next decision on.
    pub version: u32,
    /// The target of the last decision; `None` before the first.
    pub target: Option<Replicas>,
    /// Wishes, for the window on the way up.
    pub(crate) lowest_wishes: ExtremeWindow,
    /// Wishes, for the window on the way down.
    pub(crate) highest_wishes: ExtremeWindow,
    /// Changes of the target, oldest first, as far back as a rate limit looks.
    pub(crate) changes: VecDeque<Change>,
    /// Replicas seen before they were ready.
    pub(crate) starting: BTreeMap<ReplicaId, Timestamp>,
    /// Since when replicas drain.
    pub(crate) draining: BTreeMap<ReplicaId, Timestamp>,
    /// When replicas were told to stop: they take a while, and are not told again at every look.
    pub(crate) stopping: BTreeMap<ReplicaId, Timestamp>,
    /// Starts that failed in a row, and when the last one did.
    pub(crate) start_failures: Option<StartFailures>,
    /// How long starts took.
    pub cold_starts: ColdStarts,
    /// The queue's trend.
    pub(crate) trend: Trend,
    /// The arrivals counter as last seen.
    pub(crate) arrivals_total: Option<f64>,
    /// No fewer replicas before this moment: part of the past is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_until: Option<Timestamp>,
    /// What forewarm's own policy has learned, where the policy is that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) anticipation: Option<Box<Anticipation>>,
    /// What a peer's rules remember, where the policy is a peer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<Box<PeerState>>,
    /// Which jobs there were, where replicas are jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) jobs: Option<Box<JobMemory>>,
}

impl Default for ScalerState {
    fn default() -> Self {
        Self {
            version: STATE_VERSION,
            target: None,
            lowest_wishes: ExtremeWindow::default(),
            highest_wishes: ExtremeWindow::default(),
            changes: VecDeque::new(),
            starting: BTreeMap::new(),
            draining: BTreeMap::new(),
            stopping: BTreeMap::new(),
            start_failures: None,
            cold_starts: ColdStarts::default(),
            trend: Trend::default(),
            arrivals_total: None,
            held_until: None,
            anticipation: None,
            peer: None,
            jobs: None,
        }
    }
}

impl ScalerState {
    /// Takes this state up again after a time that nobody looked: until `until` no replica is taken away, since what
    /// was wished for in the meantime is not known.
    pub fn hold_until(&mut self, until: Timestamp) {
        self.held_until = Some(until);
    }

    /// Forgets the bulkiest detail that is left, for a store of bounded size: what costs the least to learn again
    /// first. `false` when nothing more can be forgotten.
    pub fn forget_detail(&mut self) -> bool {
        if let Some(anticipation) = &mut self.anticipation {
            if !anticipation.forget_detail() {
                self.anticipation = None;
            }
            return true;
        }
        self.peer.take().is_some()
    }
}

/// A change of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Change {
    pub(crate) at: Timestamp,
    pub(crate) by: i64,
}

/// Starts that failed in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StartFailures {
    pub(crate) count: u32,
    pub(crate) last_at: Timestamp,
}

/// Values of a sliding window reduced to those that can still become its extreme: its length is bounded
/// by the number of distinct values, however often it is fed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ExtremeWindow(VecDeque<(Timestamp, u32)>);

impl ExtremeWindow {
    /// Adds a value; `dominates(new, old)` says that `old` can no longer be the extreme.
    pub(crate) fn push(&mut self, at: Timestamp, value: u32, dominates: fn(u32, u32) -> bool) {
        while self.0.back().is_some_and(|&(_, old)| dominates(value, old)) {
            self.0.pop_back();
        }
        self.0.push_back((at, value));
    }

    /// The extreme of the values younger than `since`, and when it was seen.
    pub(crate) fn extreme(&mut self, since: Timestamp) -> Option<(Timestamp, u32)> {
        // The newest value always stays: a window of zero is the newest value.
        while self.0.len() > 1 && self.0.front().is_some_and(|&(at, _)| at <= since) {
            self.0.pop_front();
        }
        self.0.front().copied()
    }
}
