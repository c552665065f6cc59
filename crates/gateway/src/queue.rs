//! Who waits, in which order, and how much of it there may be. Bounded by requests and by bytes.
//!
//! The one place that knows the order: first come, first served, with those that were sent back from a
//! replica in front. It knows nothing of replicas.

use std::collections::BTreeMap;

/// A waiting request's place. Smaller tickets go first; a ticket is never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(i64);

/// There is no place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct QueueFull;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    /// Requests.
    pub max_requests: u32,
    /// Bytes of their bodies together.
    pub max_bytes: u64,
}

/// The waiting requests. `W` is whatever waits.
#[derive(Debug)]
pub(crate) struct Queue<W> {
    waiting: BTreeMap<Ticket, Entry<W>>,
    bytes: u64,
    next_back: i64,
    next_front: i64,
    pub(crate) bounds: QueueBounds,
}

#[derive(Debug)]
struct Entry<W> {
    bytes: u64,
    waiter: W,
}

impl<W> Queue<W> {
    pub(crate) fn new(bounds: QueueBounds) -> Self {
        Self { waiting: BTreeMap::new(), bytes: 0, next_back: 0, next_front: -1, bounds }
    }

    /// Whether a request of this size would be one too many.
    pub(crate) fn is_full_for(&self, bytes: u64) -> bool {
        self.waiting.len() >= self.bounds.max_requests as usize
            || self.bytes.saturating_add(bytes) > self.bounds.max_bytes
    }

    /// Behind all others; the caller has asked [`Queue::is_full_for`].
    pub(crate) fn push_back(&mut self, bytes: u64, waiter: W) -> Ticket {
        let ticket = Ticket(self.next_back);
        self.next_back += 1;
        self.insert(ticket, bytes, waiter)
    }

    /// In front of all others; it had its place before, so no bound applies.
    pub(crate) fn push_front(&mut self, bytes: u64, waiter: W) -> Ticket {
        let ticket = Ticket(self.next_front);
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

    /// Who is next.
    pub(crate) fn first(&self) -> Option<(Ticket, &W)> {
        self.waiting.first_key_value().map(|(&ticket, entry)| (ticket, &entry.waiter))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &W> {
        self.waiting.values().map(|entry| &entry.waiter)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
