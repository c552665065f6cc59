//! Who waits, in which order, and how much of it there may be. Bounded by requests and by bytes.
//!
//! The one place that knows the order, which [`crate::pool`] tells. It knows nothing of replicas.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

/// A waiting request's place. Smaller tickets came first; a ticket is never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    line: Line,
    /// Counts up in the line, and down among those that were sent back.
    number: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    SentBack,
    /// Since when.
    Waits(Duration),
}

/// There is no place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct QueueFull;

/// How much may wait, and who yields to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueRules {
    /// Requests.
    pub max_requests: u32,
    /// Bytes of their bodies together.
    pub max_bytes: u64,
    /// Whether late requests yield to timely ones; `None`: strictly the order of arrival.
    pub yielding: Option<Yielding>,
}

/// The waits for which a request yields to those that came after it and are not late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yielding {
    /// From this wait on a request is late: its objective.
    pub from: Duration,
    /// From this wait on it yields to nobody: half of the longest wait of all.
    pub until: Duration,
}

/// The waiting requests. `W` is whatever waits.
#[derive(Debug)]
pub(crate) struct Queue<W> {
    waiting: BTreeMap<Ticket, Entry<W>>,
    bytes: u64,
    next_back: i64,
    next_front: i64,
    pub(crate) rules: QueueRules,
}

#[derive(Debug)]
struct Entry<W> {
    bytes: u64,
    waiter: W,
}

impl<W> Queue<W> {
    pub(crate) fn new(rules: QueueRules) -> Self {
        Self { waiting: BTreeMap::new(), bytes: 0, next_back: 0, next_front: -1, rules }
    }

    /// Whether a request of this size would be one too many.
    pub(crate) fn is_full_for(&self, bytes: u64) -> bool {
        self.waiting.len() >= self.rules.max_requests as usize
            || self.bytes.saturating_add(bytes) > self.rules.max_bytes
    }

    /// At the end of the line, from `now` on; the caller has asked [`Queue::is_full_for`].
    pub(crate) fn push_back(&mut self, bytes: u64, now: Duration, waiter: W) -> Ticket {
        let ticket = Ticket { line: Line::Waits(now), number: self.next_back };
        self.next_back += 1;
        self.insert(ticket, bytes, waiter)
    }

    /// In front of all others; it had its place before, so no bound applies.
    pub(crate) fn push_front(&mut self, bytes: u64, waiter: W) -> Ticket {
        let ticket = Ticket { line: Line::SentBack, number: self.next_front };
        self.next_front -= 1;
        self.insert(ticket, bytes, waiter)
    }

    fn insert(&mut self, ticket: Ticket, bytes: u64, waiter: W) -> Ticket {
        self.bytes += bytes;
        self.waiting.insert(ticket, Entry { bytes, waiter });
        ticket
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<W> {
        let entry = self.waiting.remove(&ticket)?;
        self.bytes -= entry.bytes;
        Some(entry.waiter)
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        self.waiting.get_mut(&ticket).map(|entry| &mut entry.waiter)
    }

    /// Who is next at `now`. In the line who came first has waited the longest, so those who yield to nobody are
    /// in front, then come the late ones, then the others.
    pub(crate) fn next(&self, now: Duration) -> Option<(Ticket, &W)> {
        let (&first, entry) = self.waiting.first_key_value()?;
        let timely = self.rules.yielding.and_then(|Yielding { from, until }| match first.line {
            Line::Waits(since) if now.saturating_sub(since) < until => {
                let late = Ticket { line: Line::Waits(now.checked_sub(from)?), number: i64::MAX };
                self.waiting.range((Excluded(late), Unbounded)).next()
            }
            Line::Waits(_) | Line::SentBack => None,
        });
        let (&ticket, entry) = timely.unwrap_or((&first, entry));
        Some((ticket, &entry.waiter))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &W> {
        self.waiting.values().map(|entry| &entry.waiter)
    }

    pub(crate) fn ahead(&self, ticket: Ticket) -> usize {
        self.waiting.range(..ticket).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
