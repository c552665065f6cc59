//! Who waits at the gateway, and who is next: the live gateway's rule.

use std::collections::VecDeque;

use serde::Serialize;

use crate::time::Micros;

/// In which order waiting requests get their slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueOrder {
    /// As they came.
    Arrival,
    /// A request that can no longer attain the objective yields to those that can, until it has waited for half of the
    /// gateway's time-out. Under overload, order of arrival makes every request late; this keeps those in time that
    /// capacity is there for. Late is who has waited for the objective less the time that its first token takes once it
    /// has a slot: the gateway learns that time, the simulator takes it from an idle replica.
    LateYields,
}

/// From this wait on a late request yields no more: half of the gateway's default time-out of 15 minutes.
const YIELDS_UNTIL: Micros = 450_000_000;

/// Waiting requests by their index.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    order: QueueOrder,
    timely: VecDeque<Waits>,
    late: VecDeque<Waits>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waits {
    since: Micros,
    index: u32,
    /// The longest wait with which it is in time.
    patience: Micros,
}

impl Line {
    pub(crate) fn new(order: QueueOrder) -> Self {
        Self { order, timely: VecDeque::new(), late: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.timely.len() + self.late.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.timely.is_empty() && self.late.is_empty()
    }

    /// Whether nobody waits who is not late yet.
    pub(crate) fn is_calm(&self) -> bool {
        self.timely.is_empty()
    }

    /// Those who wait and are late.
    pub(crate) fn late(&self) -> usize {
        self.late.len()
    }

    /// Whether the same requests wait. (Which of them are late is only noted when somebody is called.)
    pub(crate) fn goes_on_like(&self, other: &Self) -> bool {
        self.len() == other.len() && self.waiting().eq(other.waiting())
    }

    fn waiting(&self) -> impl Iterator<Item = &Waits> {
        self.late.iter().chain(&self.timely)
    }

    /// Takes a request that arrives now, and is in time if it waits no longer than `patience`.
    pub(crate) fn push(&mut self, now: Micros, index: u32, patience: Micros) {
        self.timely.push_back(Waits { since: now, index, patience });
    }

    /// The next one. To be called only when there is a place for it.
    pub(crate) fn pop(&mut self, now: Micros) -> Option<u32> {
        if self.order == QueueOrder::LateYields {
            while let Some(first) = self.timely.pop_front_if(|first| now - first.since > first.patience) {
                self.late.push_back(first);
            }
            if let Some(first) = self.late.pop_front_if(|first| now - first.since >= YIELDS_UNTIL) {
                return Some(first.index);
            }
        }
        self.timely.pop_front().or_else(|| self.late.pop_front()).map(|waits| waits.index)
    }
}
