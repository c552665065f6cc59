//! Which request goes to which replica, and which waits: no clock, no sockets, no threads, so that a
//! simulator can follow the very same rule.
//!
//! Late binding: a replica is given at most its concurrency, everything else waits here in the order it
//! came. A replica that becomes ready takes as many as it has slots, no more.

use std::collections::BTreeMap;

use forewarm_core::{ReplicaId, pool::Endpoint};

/// A waiting request's place. Smaller tickets go first.
pub type Ticket = i64;

/// The queue and the slots of one scaler. `W` is whatever waits: a channel, or a number in a simulation.
#[derive(Debug)]
pub struct Pool<W> {
    replicas: BTreeMap<ReplicaId, Slots>,
    waiting: BTreeMap<Ticket, Waiting<W>>,
    bytes: u64,
    next_back: Ticket,
    next_front: Ticket,
    max_requests: u32,
    max_bytes: u64,
}

#[derive(Debug)]
struct Waiting<W> {
    bytes: u64,
    avoid: Option<ReplicaId>,
    waiter: W,
}

/// One replica's slots.
#[derive(Clone, Debug)]
struct Slots {
    address: String,
    max_concurrency: u32,
    in_flight: u32,
    draining: bool,
    /// In the plan; a replica that left it is kept until its last slot is given back.
    planned: bool,
    /// Refused a connection; gets nothing until a plan or a probe says that it is well.
    suspended: bool,
}

/// A slot at a replica, to be given back with [`Pool::release`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The replica.
    pub replica: ReplicaId,
    /// Its address.
    pub address: String,
}

/// There is no place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

impl<W> Pool<W> {
    /// An empty pool with these limits of the queue.
    pub fn new(max_requests: u32, max_bytes: u64) -> Self {
        Self {
            replicas: BTreeMap::new(),
            waiting: BTreeMap::new(),
            bytes: 0,
            next_back: 0,
            next_front: -1,
            max_requests,
            max_bytes,
        }
    }

    /// Replaces replicas and limits. Returns the replicas that left.
    pub fn apply(&mut self, endpoints: &[Endpoint], max_requests: u32, max_bytes: u64) -> Vec<ReplicaId> {
        (self.max_requests, self.max_bytes) = (max_requests, max_bytes);
        let mut left = Vec::new();
        for (id, slots) in &mut self.replicas {
            if slots.planned && !endpoints.iter().any(|endpoint| &endpoint.replica == id) {
                slots.planned = false;
                left.push(id.clone());
            }
        }
        for endpoint in endpoints {
            let slots = self.replicas.entry(endpoint.replica.clone()).or_insert_with(|| Slots {
                address: String::new(),
                max_concurrency: 0,
                in_flight: 0,
                draining: false,
                planned: true,
                suspended: false,
            });
            if slots.address != endpoint.address {
                slots.address.clone_from(&endpoint.address);
                slots.suspended = false;
            }
            slots.max_concurrency = endpoint.max_concurrency;
            slots.draining = endpoint.draining;
            slots.planned = true;
        }
        self.replicas.retain(|_, slots| slots.planned || slots.in_flight > 0);
        left
    }

    /// Gives a request a place in the queue.
    ///
    /// # Errors
    /// When the queue is full, unless a slot is free: then nobody has to wait.
    pub fn enqueue(&mut self, bytes: u64, waiter: W) -> Result<Ticket, QueueFull> {
        let full = self.waiting.len() >= self.max_requests as usize
            || self.bytes.saturating_add(bytes) > self.max_bytes;
        if full && !(self.waiting.is_empty() && self.best(None).is_some()) {
            return Err(QueueFull);
        }
        let ticket = self.next_back;
        self.next_back += 1;
        self.insert(ticket, bytes, None, waiter);
        Ok(ticket)
    }

    /// Puts a request that was accepted before in front of all others; it prefers any other replica to
    /// the one that failed it. It had its place, so no limit applies.
    pub fn enqueue_again(&mut self, bytes: u64, avoid: ReplicaId, waiter: W) -> Ticket {
        let ticket = self.next_front;
        self.next_front -= 1;
        self.insert(ticket, bytes, Some(avoid), waiter);
        ticket
    }

    fn insert(&mut self, ticket: Ticket, bytes: u64, avoid: Option<ReplicaId>, waiter: W) {
        self.bytes += bytes;
        self.waiting.insert(ticket, Waiting { bytes, avoid, waiter });
    }

    /// Takes a request out of the queue; `None` when it has been granted a slot already.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<W> {
        let waiting = self.waiting.remove(&ticket)?;
        self.bytes -= waiting.bytes;
        Some(waiting.waiter)
    }

    /// Grants the oldest waiting request a slot at the replica with the least work. To be called until it
    /// returns `None`, whenever anything changed.
    pub fn grant(&mut self) -> Option<(W, Grant)> {
        let (&ticket, waiting) = self.waiting.first_key_value()?;
        let replica = self.best(waiting.avoid.as_ref())?;
        let waiter = self.cancel(ticket)?;
        let slots = self.replicas.get_mut(&replica)?;
        slots.in_flight += 1;
        Some((waiter, Grant { address: slots.address.clone(), replica }))
    }

    /// The open replica with the least work, relative to what it can take; `avoid` only if there is no other.
    fn best(&self, avoid: Option<&ReplicaId>) -> Option<ReplicaId> {
        let open = self.replicas.iter().filter(|(_, slots)| slots.is_open());
        open.min_by(|(a_id, a), (b_id, b)| {
            let work =
                |slots: &Slots, other: &Slots| u64::from(slots.in_flight) * u64::from(other.max_concurrency);
            (avoid == Some(*a_id)).cmp(&(avoid == Some(*b_id))).then(work(a, b).cmp(&work(b, a)))
        })
        .map(|(id, _)| id.clone())
    }

    /// Gives a slot back.
    pub fn release(&mut self, replica: &ReplicaId) {
        if let Some(slots) = self.replicas.get_mut(replica) {
            slots.in_flight = slots.in_flight.saturating_sub(1);
            if !slots.planned && slots.in_flight == 0 {
                self.replicas.remove(replica);
            }
        }
    }

    /// Keeps requests from a replica that refused a connection, or lets them come again. Returns whether
    /// that is news.
    pub fn suspend(&mut self, replica: &ReplicaId, suspended: bool) -> bool {
        self.replicas
            .get_mut(replica)
            .is_some_and(|slots| std::mem::replace(&mut slots.suspended, suspended) != suspended)
    }

    /// Whether a replica is in the plan.
    pub fn has(&self, replica: &ReplicaId) -> bool {
        self.replicas.get(replica).is_some_and(|slots| slots.planned)
    }

    /// Whether any replica could take requests if it had a slot free.
    pub fn is_warm(&self) -> bool {
        self.replicas.values().any(|slots| slots.planned && !slots.draining && !slots.suspended)
    }

    /// Waiting requests.
    pub fn queued(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of their bodies.
    pub fn queued_bytes(&self) -> u64 {
        self.bytes
    }

    /// What waits longest.
    pub fn oldest(&self) -> Option<&W> {
        self.waiting.first_key_value().map(|(_, waiting)| &waiting.waiter)
    }

    /// Requests at replicas, by replica.
    pub fn in_flight(&self) -> BTreeMap<ReplicaId, u32> {
        self.replicas.iter().map(|(id, slots)| (id.clone(), slots.in_flight)).collect()
    }
}

impl Slots {
    fn is_open(&self) -> bool {
        self.planned && !self.draining && !self.suspended && self.in_flight < self.max_concurrency
    }
}
