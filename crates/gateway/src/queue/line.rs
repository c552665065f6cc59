//! The waiting requests of one tenant, and which of them is next.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Entry, Number, Yielding};

/// Waiting requests, numbered in the order of arrival.
#[derive(Debug)]
pub(super) struct Line<W> {
    waiting: BTreeMap<Number, Entry<W>>,
    /// The same by deadline, where that orders them.
    by_deadline: Option<ByDeadline>,
    /// Whoever came before it is late.
    first_timely: Number,
    bytes: u64,
}

/// Waiting requests, the earliest deadline first; of the same deadline, who came first.
#[derive(Debug, Default)]
struct ByDeadline {
    /// Those that are not known to be late.
    timely: BTreeSet<(Duration, Number)>,
    late: BTreeSet<(Duration, Number)>,
}

impl<W> Line<W> {
    /// `by_deadline`: the earliest deadline is first, and not the earliest arrival.
    pub(super) fn new(by_deadline: bool) -> Self {
        let by_deadline = by_deadline.then(ByDeadline::default);
        Self { waiting: BTreeMap::new(), by_deadline, first_timely: 0, bytes: 0 }
    }

    pub(super) fn push(&mut self, number: Number, entry: Entry<W>) {
        if let Some(ByDeadline { timely, .. }) = &mut self.by_deadline {
            timely.insert((entry.admission.deadline, number));
        }
        self.bytes += entry.admission.bytes;
        self.waiting.insert(number, entry);
    }

    pub(super) fn remove(&mut self, number: Number) -> Option<Entry<W>> {
        let entry = self.waiting.remove(&number)?;
        if let Some(ByDeadline { timely, late }) = &mut self.by_deadline {
            let set = if number < self.first_timely { late } else { timely };
            set.remove(&(entry.admission.deadline, number));
        }
        self.bytes -= entry.admission.bytes;
        Some(entry)
    }

    /// Who is next; [`crate::pool`] has the rule.
    pub(super) fn next(&mut self, yielding: Option<Yielding>, now: Duration) -> Option<Number> {
        if let Some(Yielding { from, until }) = yielding {
            let has_waited = |entry: &Entry<W>, span| now.saturating_sub(entry.admission.since) >= span;
            let (&oldest, entry) = self.waiting.first_key_value()?;
            if has_waited(entry, until) {
                return Some(oldest);
            }
            for (&number, entry) in self.waiting.range(self.first_timely..) {
                if !has_waited(entry, from) {
                    break;
                }
                if let Some(ByDeadline { timely, late }) = &mut self.by_deadline {
                    let place = (entry.admission.deadline, number);
                    timely.remove(&place);
                    late.insert(place);
                }
                self.first_timely = number + 1;
            }
        }
        match &self.by_deadline {
            Some(ByDeadline { timely, late }) => {
                timely.first().or_else(|| late.first()).map(|&(_, number)| number)
            }
            None => {
                let timely = self.waiting.range(self.first_timely..).next();
                timely.or_else(|| self.waiting.first_key_value()).map(|(&number, _)| number)
            }
        }
    }

    /// Forgets who is late: another objective holds.
    pub(super) fn forget_late(&mut self) {
        if let Some(ByDeadline { timely, late }) = &mut self.by_deadline {
            timely.append(late);
        }
        self.first_timely = 0;
    }

    pub(super) fn get(&self, number: Number) -> Option<&Entry<W>> {
        self.waiting.get(&number)
    }

    /// Who came last, and so on, with the bytes of each.
    pub(super) fn newest(&self) -> impl Iterator<Item = (Number, u64)> {
        self.waiting.iter().rev().map(|(&number, entry)| (number, entry.admission.bytes))
    }

    pub(super) fn oldest(&self) -> Option<Number> {
        self.waiting.first_key_value().map(|(&number, _)| number)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
