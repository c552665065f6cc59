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
    by_deadline: bool,
    /// Those that are not known to be late, and those that are, in their order.
    timely: BTreeSet<Place>,
    late: BTreeSet<Place>,
    bytes: u64,
}

/// Where a request stands: by its deadline, if that orders them; of the same, by its arrival.
type Place = (Duration, Number);

impl<W> Line<W> {
    /// `by_deadline`: the earliest deadline is first, and not the earliest arrival.
    pub(super) fn new(by_deadline: bool) -> Self {
        let (timely, late) = Default::default();
        Self { waiting: BTreeMap::new(), by_deadline, timely, late, bytes: 0 }
    }

    fn place(&self, number: Number, entry: &Entry<W>) -> Place {
        (if self.by_deadline { entry.admission.deadline } else { Duration::ZERO }, number)
    }

    pub(super) fn push(&mut self, number: Number, entry: Entry<W>) {
        self.timely.insert(self.place(number, &entry));
        self.bytes += entry.admission.bytes;
        self.waiting.insert(number, entry);
    }

    pub(super) fn remove(&mut self, number: Number) -> Option<Entry<W>> {
        let entry = self.waiting.remove(&number)?;
        let place = self.place(number, &entry);
        if !self.timely.remove(&place) {
            self.late.remove(&place);
        }
        self.bytes -= entry.admission.bytes;
        Some(entry)
    }

    /// Who is next; [`crate::pool`] has the rule.
    pub(super) fn next(&mut self, yielding: Option<Yielding>, now: Duration) -> Option<Number> {
        if let Some(yielding) = yielding {
            let has_waited = |entry: &Entry<W>, span| now.saturating_sub(entry.admission.since) >= span;
            let (&oldest, entry) = self.waiting.first_key_value()?;
            if has_waited(entry, yielding.until) {
                return Some(oldest);
            }
            while let Some(&first) = self.timely.first()
                && let Some(entry) = self.waiting.get(&first.1)
                && has_waited(entry, yielding.late_from(entry.admission.first_token))
            {
                self.timely.remove(&first);
                self.late.insert(first);
            }
        }
        self.timely.first().or_else(|| self.late.first()).map(|&(_, number)| number)
    }

    /// Forgets who is late: another objective holds.
    pub(super) fn forget_late(&mut self) {
        self.timely.append(&mut self.late);
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
