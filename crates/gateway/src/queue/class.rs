//! The waiting requests of one priority: each tenant's line, and whose turn it is.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996). Every line has a start tag: the virtual time at which
//! its next request begins. The line with the lowest tag is next, and its tag then grows by the request's tokens over
//! the tenant's weight. Virtual time is the tag of the last one granted; a line that comes, or comes back, starts
//! there at the earliest: nobody saves up for later. When nothing waits any more all tags are forgotten, for then
//! nobody has taken anything from anybody.
//!
//! While two tenants wait, what they get by their weights differs by one request's tokens of each at most, whatever
//! the others do, and no estimate of the future is needed: the tag of a request does not depend on its size.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
    time::Duration,
};

use super::{Arrival, Entry, Number, Yielding, line::Line};
use crate::tenant::TenantId;

/// Virtual time: tokens by weight 1, in units of 2⁻³².
type Tag = u128;
/// One tenant's line; never given twice.
pub(super) type LineId = u64;

/// Tenants without a waiting request whose tags are remembered. Beyond it those are forgotten that have taken the
/// least: whoever invents tenants must not fill the memory with them.
const MAX_ABSENT: usize = 4096;

#[derive(Debug)]
pub(super) struct Class<W> {
    lines: HashMap<LineId, Tenanted<W>>,
    by_tenant: HashMap<Option<TenantId>, LineId>,
    next_line: LineId,
    /// Lines in which somebody waits, by whose turn it is.
    turns: BTreeSet<(Tag, Number, LineId)>,
    /// Lines in which nobody waits and that have had more than others, by their tags.
    absent: BTreeSet<(Tag, LineId)>,
    /// Lines in which somebody waits, by how much room they take.
    rooms: BTreeSet<(u128, LineId)>,
    arrivals: BTreeMap<Number, LineId>,
    virtual_time: Tag,
    bytes: u64,
    /// What a place counts as in bytes.
    bytes_per_place: u64,
}

#[derive(Debug)]
struct Tenanted<W> {
    tenant: Option<TenantId>,
    weight: NonZeroU32,
    start: Tag,
    line: Line<W>,
    /// Where it stands in [`Class::turns`] and [`Class::rooms`].
    turn: Option<(Tag, Number)>,
    room: u128,
}

fn by_weight(amount: u128, weight: NonZeroU32) -> u128 {
    // A division of so many bits is not cheap, and most weights are 1.
    if weight == NonZeroU32::MIN { amount << 32 } else { (amount << 32) / u128::from(weight.get()) }
}

impl<W> Class<W> {
    pub(super) fn new(bytes_per_place: u64) -> Self {
        Self {
            lines: HashMap::new(),
            by_tenant: HashMap::new(),
            next_line: 0,
            turns: BTreeSet::new(),
            absent: BTreeSet::new(),
            rooms: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            virtual_time: 0,
            bytes: 0,
            bytes_per_place,
        }
    }

    /// Those that came before one.
    pub(super) fn before(&self, number: Number) -> usize {
        self.arrivals.range(..number).count()
    }

    pub(super) fn len(&self) -> usize {
        self.arrivals.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The line of a tenant, with this weight from now on.
    pub(super) fn line_of(&mut self, tenant: Option<&TenantId>, weight: NonZeroU32) -> LineId {
        let id = match self.by_tenant.get(&tenant.cloned()) {
            Some(&id) => id,
            None => {
                let id = self.next_line;
                self.next_line += 1;
                self.by_tenant.insert(tenant.cloned(), id);
                // Strangers have nothing to say about each other's order, a tenant has about its own.
                let line = Line::new(tenant.is_some());
                let start = self.virtual_time;
                let tenanted = Tenanted { tenant: tenant.cloned(), weight, start, line, turn: None, room: 0 };
                self.lines.insert(id, tenanted);
                id
            }
        };
        if let Some(line) = self.lines.get_mut(&id) {
            line.weight = weight;
        }
        id
    }

    /// A line that is nobody's, and empty for ever.
    pub(super) fn no_line(&mut self) -> LineId {
        let id = self.next_line;
        self.next_line += 1;
        id
    }

    pub(super) fn push(&mut self, id: LineId, number: Number, entry: Entry<W>) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        if line.line.is_empty() {
            self.absent.remove(&(line.start, id));
            line.start = line.start.max(self.virtual_time);
        }
        self.bytes += entry.admission.bytes;
        line.line.push(number, entry);
        self.arrivals.insert(number, id);
        self.place(id);
    }

    pub(super) fn remove(&mut self, id: LineId, number: Number) -> Option<Entry<W>> {
        self.take(id, number, 0)
    }

    /// Takes out a request whose turn it is, and charges its tenant for it.
    pub(super) fn grant(&mut self, id: LineId, number: Number) -> Option<Entry<W>> {
        let line = self.lines.get(&id)?;
        let tokens = line.line.get(number)?.admission.tokens;
        self.virtual_time = self.virtual_time.max(line.start);
        self.take(id, number, tokens)
    }

    fn take(&mut self, id: LineId, number: Number, tokens: u64) -> Option<Entry<W>> {
        let line = self.lines.get_mut(&id)?;
        let entry = line.line.remove(number)?;
        line.start += by_weight(tokens.into(), line.weight);
        self.bytes -= entry.admission.bytes;
        self.arrivals.remove(&number);
        self.place(id);
        self.forget();
        Some(entry)
    }

    /// Corrects what a tenant was charged for a request, once it is known.
    pub(super) fn settle(&mut self, id: LineId, expected: u64, real: u64) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        if line.line.is_empty() {
            self.absent.remove(&(line.start, id));
        }
        let more = by_weight(real.saturating_sub(expected).into(), line.weight);
        let less = by_weight(expected.saturating_sub(real).into(), line.weight);
        // Not below the virtual time: nobody saves up.
        line.start = (line.start + more).saturating_sub(less).max(self.virtual_time);
        self.place(id);
        self.forget();
    }

    /// Puts a line where it belongs, after it has changed.
    fn place(&mut self, id: LineId) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        let turn = line.line.oldest().map(|oldest| (line.start, oldest));
        if turn != line.turn {
            if let Some((tag, number)) = line.turn {
                self.turns.remove(&(tag, number, id));
            }
            if let Some((tag, number)) = turn {
                self.turns.insert((tag, number, id));
            }
            line.turn = turn;
        }
        let (places, bytes) =
            (u128::from(self.bytes_per_place) * line.line.len() as u128, u128::from(line.line.bytes()));
        let room = by_weight(places + bytes, line.weight);
        if room != line.room {
            self.rooms.remove(&(line.room, id));
            line.room = room;
            if room > 0 {
                self.rooms.insert((room, id));
            }
        }
        if turn.is_none() {
            self.absent.insert((line.start, id));
        }
    }

    /// Forgets lines in which nobody waits and that could start at once.
    fn forget(&mut self) {
        let nobody_waits = self.arrivals.is_empty();
        while let Some(&(tag, id)) = self.absent.first()
            && (nobody_waits || tag <= self.virtual_time || self.absent.len() > MAX_ABSENT)
        {
            self.absent.pop_first();
            if let Some(line) = self.lines.remove(&id) {
                self.by_tenant.remove(&line.tenant);
            }
        }
        if nobody_waits {
            self.virtual_time = 0;
        }
    }

    /// Whose turn it is.
    pub(super) fn next(
        &mut self,
        yielding: Option<Yielding>,
        now: Duration,
    ) -> Option<(LineId, Number, u64)> {
        let &(_, _, id) = self.turns.first()?;
        let line = &mut self.lines.get_mut(&id)?.line;
        let number = line.next(yielding, now)?;
        Some((id, number, line.get(number)?.admission.tokens))
    }

    pub(super) fn get(&self, id: LineId, number: Number) -> Option<&Entry<W>> {
        self.lines.get(&id)?.line.get(number)
    }

    /// Who came last, of all tenants, with the bytes of each.
    pub(super) fn newest(&self) -> impl Iterator<Item = (LineId, Number, u64)> {
        self.arrivals.iter().rev().filter_map(|(&number, &id)| {
            let entry = self.get(id, number)?;
            Some((id, number, entry.admission.bytes))
        })
    }

    /// Who came last of the tenant that takes the most room, one after the other for as long as it keeps as much as
    /// the tenant of `arrival` would have with it.
    pub(super) fn newest_of_the_largest(
        &self,
        arrival: &Arrival,
    ) -> impl Iterator<Item = (LineId, Number, u64)> {
        let own = self.by_tenant.get(&arrival.tenant).and_then(|id| self.lines.get(id));
        let (requests, bytes) = own.map_or((0, 0), |own| (own.line.len(), own.line.bytes()));
        let wanted = self.room(arrival.weight, requests + 1, bytes.saturating_add(arrival.bytes));
        let mut others = self.rooms.iter().rev().filter_map(|&(_, id)| Some((id, self.lines.get(&id)?)));
        let largest = others.find(|(_, other)| other.tenant != arrival.tenant);
        largest.into_iter().flat_map(move |(id, largest)| {
            let (mut requests, mut left) = (largest.line.len(), largest.line.bytes());
            largest.line.newest().map_while(move |(number, bytes)| {
                requests -= 1;
                left -= bytes;
                (self.room(largest.weight, requests, left) >= wanted).then_some((id, number, bytes))
            })
        })
    }

    /// What so many requests with so many bytes take of the queue, by a tenant's weight.
    fn room(&self, weight: NonZeroU32, requests: usize, bytes: u64) -> u128 {
        by_weight(u128::from(self.bytes_per_place) * requests as u128 + u128::from(bytes), weight)
    }

    /// When the one that waits longest was accepted.
    pub(super) fn oldest(&self) -> Option<Duration> {
        let (&number, &id) = self.arrivals.first_key_value()?;
        self.get(id, number).map(|entry| entry.admission.since)
    }

    /// Other rules hold.
    pub(super) fn rules_changed(&mut self, bytes_per_place: u64) {
        self.bytes_per_place = bytes_per_place;
        let mut ids: Vec<LineId> = self.lines.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(line) = self.lines.get_mut(&id) {
                line.line.forget_late();
            }
            self.place(id);
        }
    }
}
