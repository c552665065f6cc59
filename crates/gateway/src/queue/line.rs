//! The waiting requests of one tenant, and which of them is next.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Included, Unbounded},
    time::Duration,
};

use super::{Entry, Number, Yielding};

/// Waiting requests, numbered in the order of arrival.
#[derive(Debug)]
pub(super) struct Line<W> {
    waiting: BTreeMap<Number, Entry<W>>,
    /// Those that are not known to be late, by what orders them.
    timely: BTreeSet<(Duration, Number)>,
    late: BTreeSet<(Duration, Number)>,
    /// Whoever came before it is in `late`.
    first_timely: Number,
    bytes: u64,
    by_deadline: bool,
}

impl<W> Line<W> {
    /// `by_deadline`: the earliest deadline is first, and not the earliest arrival.
    pub(super) fn new(by_deadline: bool) -> Self {
        let waiting = BTreeMap::new();
        Self {
            waiting,
            timely: BTreeSet::new(),
            late: BTreeSet::new(),
            first_timely: 0,
            bytes: 0,
            by_deadline,
        }
    }

    /// What orders a request among its like; at the same moment, who came first is first.
    fn moment(&self, entry: &Entry<W>) -> Duration {
        if self.by_deadline { entry.admission.deadline } else { Duration::ZERO }
    }

    pub(super) fn push(&mut self, number: Number, entry: Entry<W>) {
        self.timely.insert((self.moment(&entry), number));
        self.bytes += entry.admission.bytes;
        self.waiting.insert(number, entry);
    }

    pub(super) fn remove(&mut self, number: Number) -> Option<Entry<W>> {
        let entry = self.waiting.remove(&number)?;
        let place = (self.moment(&entry), number);
        if !self.timely.remove(&place) {
            self.late.remove(&place);
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
            for (&number, entry) in self.waiting.range((Included(self.first_timely), Unbounded)) {
                if !has_waited(entry, from) {
                    break;
                }
                let place = (self.moment(entry), number);
                self.timely.remove(&place);
                self.late.insert(place);
                self.first_timely = number + 1;
            }
        }
        self.timely.first().or_else(|| self.late.first()).map(|&(_, number)| number)
    }

    /// Forgets who is late: another objective holds.
    pub(super) fn forget_late(&mut self) {
        self.timely.append(&mut self.late);
        self.first_timely = 0;
    }

    pub(super) fn get(&self, number: Number) -> Option<&Entry<W>> {
        self.waiting.get(&number)
    }

    /// Who came last.
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
