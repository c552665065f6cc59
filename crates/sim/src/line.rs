//! Who waits at the gateway, and who is next: the live gateway's rule.

use std::collections::VecDeque;

use serde::Serialize;

use crate::time::{Micros, micros};

/// In which order waiting requests get their slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueOrder {
    /// As they came.
    Arrival,
    /// A request that has waited as long as the objective allows yields to those that can still attain it, until it
    /// has waited for half of the gateway's time-out. Under overload, order of arrival makes every request late;
    /// this keeps those in time that capacity is there for.
    LateYields,
}

/// From this wait on a late request yields no more: half of the gateway's default time-out of 15 minutes.
const YIELDS_UNTIL: Micros = 450_000_000;

/// Waiting requests by their index.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Wait from which a request is late; `None`: nobody yields.
    late_from: Option<Micros>,
    timely: VecDeque<(Micros, u32)>,
    late: VecDeque<(Micros, u32)>,
}

impl Line {
    pub(crate) fn new(order: QueueOrder, ttft: std::time::Duration) -> Self {
        let late_from = match order {
            QueueOrder::Arrival => None,
            QueueOrder::LateYields => Some(micros(ttft)),
        };
        Self { late_from, timely: VecDeque::new(), late: VecDeque::new() }
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

    fn waiting(&self) -> impl Iterator<Item = &(Micros, u32)> {
        self.late.iter().chain(&self.timely)
    }

    /// Takes a request that arrives now.
    pub(crate) fn push(&mut self, now: Micros, index: u32) {
        self.timely.push_back((now, index));
    }

    /// The next one. To be called only when there is a place for it.
    pub(crate) fn pop(&mut self, now: Micros) -> Option<u32> {
        if let Some(late_from) = self.late_from {
            while let Some(&first) = self.timely.front()
                && now - first.0 >= late_from
            {
                self.timely.pop_front();
                self.late.push_back(first);
            }
            if self.late.front().is_some_and(|(since, _)| now - since >= YIELDS_UNTIL) {
                return self.late.pop_front().map(|(_, index)| index);
            }
        }
        self.timely.pop_front().or_else(|| self.late.pop_front()).map(|(_, index)| index)
    }
}
