//! Who waits, in which order, and how much of it there may be. Bounded by requests and by bytes.
//!
//! The one place that knows the order, which [`crate::pool`] tells. It knows nothing of replicas.

mod class;
mod first_token;
mod line;

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use forewarm_core::pool::Priority;

use crate::{pool::Prefers, tenant::TenantId};
use class::{Class, LineId};
use first_token::FirstToken;

/// Counts arrivals.
type Number = u64;

/// Tokens that go to classes above for each one that a waiting class gets at least.
const PASSED_OVER: u64 = 9;

/// A waiting request's place; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(Spot);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Spot {
    /// Counts down: the last one is first.
    SentBack(i64),
    Waits(Priority, LineId, Number),
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
    /// Whether late requests yield to timely ones; `None`: nobody is late.
    pub yielding: Option<Yielding>,
}

impl QueueRules {
    /// What a place counts as where requests and bytes are compared: its part of the bytes.
    fn bytes_per_place(&self) -> u64 {
        self.max_bytes / u64::from(self.max_requests.max(1))
    }
}

/// The waits for which a request yields to those that came after it and are not late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yielding {
    /// Its objective: from this wait on a request is late, or before, by as much as its first token takes once it has a
    /// slot.
    pub from: Duration,
    /// From this wait on it yields to nobody: half of the longest wait of all.
    pub until: Duration,
}

impl Yielding {
    /// From which wait on a request is late whose first token is expected so long after it got a slot. No replica is
    /// the remedy for a prompt that alone takes more than half of the objective: it may wait as long as it takes.
    fn late_from(self, first_token: Duration) -> Duration {
        self.from.saturating_sub(first_token).max(first_token.min(self.from))
    }
}

/// A request that wants a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// How urgent it is.
    pub priority: Priority,
    /// Whose it is; `None`: nobody knows.
    pub tenant: Option<TenantId>,
    /// The tenant's share against others'.
    pub weight: NonZeroU32,
    /// Bytes of its body.
    pub bytes: u64,
    /// Tokens of its prompt, as far as can be guessed.
    pub prompt_tokens: u64,
    /// Tokens that its answer is expected to have.
    pub answer_tokens: u64,
    /// How long it waits for a slot while a replica serves.
    pub patience: Duration,
    /// Where it would rather be.
    pub prefers: Option<Prefers>,
}

impl Arrival {
    /// A request like any other: of nobody, of normal priority, patient, for one token.
    pub fn of_bytes(bytes: u64) -> Self {
        Self {
            priority: Priority::Normal,
            tenant: None,
            weight: NonZeroU32::MIN,
            bytes,
            prompt_tokens: 1,
            answer_tokens: 0,
            patience: Duration::MAX,
            prefers: None,
        }
    }

    /// What it is expected to cost. Not nothing: that could be had without end.
    pub(crate) fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.answer_tokens).max(1)
    }
}

/// What is remembered of a request until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(crate) priority: Priority,
    line: LineId,
    pub(crate) bytes: u64,
    pub(crate) prompt_tokens: u64,
    /// Of prompt and answer.
    pub(crate) tokens: u64,
    /// How long its first token is expected to take once it has a slot.
    first_token: Duration,
    /// When it was accepted.
    pub(crate) since: Duration,
    /// Beyond it, by the clock that runs while a replica serves, it is not served any more.
    pub(crate) deadline: Duration,
}

impl Admission {
    /// The same until another moment.
    pub(crate) fn until(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// A waiting request. `W` is whatever waits.
#[derive(Debug)]
pub(crate) struct Entry<W> {
    pub(crate) admission: Admission,
    pub(crate) waiter: W,
}

/// The waiting requests.
#[derive(Debug)]
pub(crate) struct Queue<W> {
    sent_back: BTreeMap<i64, Entry<W>>,
    /// By [`Priority::ALL`].
    classes: [Class<W>; Priority::ALL.len()],
    /// Tokens that went to classes above while each class waited, less what it got for them.
    passed_over: [u64; Priority::ALL.len()],
    sent_back_bytes: u64,
    next_number: Number,
    next_front: i64,
    rules: QueueRules,
    first_token: FirstToken,
}

impl<W> Queue<W> {
    pub(crate) fn new(rules: QueueRules) -> Self {
        Self {
            sent_back: BTreeMap::new(),
            classes: std::array::from_fn(|_| Class::new(rules.bytes_per_place())),
            passed_over: [0; Priority::ALL.len()],
            sent_back_bytes: 0,
            next_number: 0,
            next_front: -1,
            rules,
            first_token: FirstToken::default(),
        }
    }

    pub(crate) fn set_rules(&mut self, rules: QueueRules) {
        if rules != self.rules {
            self.rules = rules;
            self.classes.iter_mut().for_each(|class| class.rules_changed(rules.bytes_per_place()));
        }
    }

    fn class(&mut self, priority: Priority) -> &mut Class<W> {
        &mut self.classes[priority as usize]
    }

    /// Whether a request of this size would be one too many.
    fn is_full_for(&self, bytes: u64) -> bool {
        self.lacks(bytes) != Lack::default()
    }

    fn lacks(&self, bytes: u64) -> Lack {
        Lack {
            requests: (self.len() + 1).saturating_sub(self.rules.max_requests as usize),
            bytes: self.bytes().saturating_add(bytes).saturating_sub(self.rules.max_bytes),
        }
    }

    /// Gives a request a place from `now` on; `deadline` is by the caller's other clock. `bounded`: where there
    /// is none, others that count less lose theirs.
    ///
    /// # Errors
    /// When there is no place, and none to be taken; then nothing has changed.
    pub(crate) fn push(
        &mut self,
        arrival: &Arrival,
        (now, deadline): (Duration, Duration),
        bounded: bool,
        waiter: W,
    ) -> Result<(Ticket, Vec<W>), QueueFull> {
        let &Arrival { priority, bytes, prompt_tokens, .. } = arrival;
        let shed = match bounded && self.is_full_for(bytes) {
            true => self.make_room(arrival)?,
            false => Vec::new(),
        };
        let number = self.next_number;
        self.next_number += 1;
        let first_token = match self.rules.yielding {
            Some(_) => self.first_token.expected(prompt_tokens),
            None => Duration::ZERO,
        };
        let class = self.class(priority);
        let line = class.line_of(arrival.tenant.as_ref(), arrival.weight);
        let tokens = arrival.tokens();
        let admission =
            Admission { priority, line, bytes, prompt_tokens, tokens, first_token, since: now, deadline };
        class.push(line, number, Entry { admission, waiter });
        Ok((Ticket(Spot::Waits(priority, line, number)), shed))
    }

    /// What is remembered of a request that takes no place, since nobody waits. Its tenant owes nobody anything then,
    /// so that it is in no line.
    pub(crate) fn pass(&mut self, arrival: &Arrival, (now, deadline): (Duration, Duration)) -> Admission {
        let &Arrival { priority, bytes, prompt_tokens, .. } = arrival;
        let (line, tokens) = (self.class(priority).no_line(), arrival.tokens());
        // It yields to nobody: it does not wait.
        let first_token = Duration::ZERO;
        Admission { priority, line, bytes, prompt_tokens, tokens, first_token, since: now, deadline }
    }

    /// Takes the places of those that count less: of lower classes, the lowest first, and then of the tenant in its
    /// own class that takes the most room; of each those that came last.
    fn make_room(&mut self, arrival: &Arrival) -> Result<Vec<W>, QueueFull> {
        let mut lack = self.lacks(arrival.bytes);
        let mut losers = Vec::new();
        let mut take = |priority, (line, number, bytes): (LineId, Number, u64)| {
            let enough = lack == Lack::default();
            if !enough {
                lack.requests = lack.requests.saturating_sub(1);
                lack.bytes = lack.bytes.saturating_sub(bytes);
                losers.push(Ticket(Spot::Waits(priority, line, number)));
            }
            !enough
        };
        for priority in Priority::ALL.into_iter().rev().filter(|&priority| priority > arrival.priority) {
            let mut newest = self.classes[priority as usize].newest();
            while newest.next().is_some_and(|one| take(priority, one)) {}
        }
        let mut newest = self.classes[arrival.priority as usize].newest_of_the_largest(arrival);
        while newest.next().is_some_and(|one| take(arrival.priority, one)) {}
        drop(newest);
        if lack != Lack::default() {
            return Err(QueueFull);
        }
        Ok(losers.into_iter().filter_map(|ticket| self.remove(ticket)).map(|entry| entry.waiter).collect())
    }

    /// In front of all others; it had its place before, so no bound applies.
    pub(crate) fn push_front(&mut self, admission: Admission, waiter: W) -> Ticket {
        let number = self.next_front;
        self.next_front -= 1;
        self.sent_back_bytes += admission.bytes;
        self.sent_back.insert(number, Entry { admission, waiter });
        Ticket(Spot::SentBack(number))
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Entry<W>> {
        match ticket.0 {
            Spot::SentBack(number) => self.remove_sent_back(number),
            Spot::Waits(priority, line, number) => {
                let entry = self.class(priority).remove(line, number);
                self.forget_passed_over(priority);
                entry
            }
        }
    }

    fn remove_sent_back(&mut self, number: i64) -> Option<Entry<W>> {
        let entry = self.sent_back.remove(&number)?;
        self.sent_back_bytes -= entry.admission.bytes;
        Some(entry)
    }

    /// Takes out a request that gets a slot, and charges its tenant and its class. What was sent back has been
    /// charged already.
    pub(crate) fn grant(&mut self, ticket: Ticket) -> Option<Entry<W>> {
        let (priority, line, number) = match ticket.0 {
            Spot::SentBack(number) => return self.remove_sent_back(number),
            Spot::Waits(priority, line, number) => (priority, line, number),
        };
        let entry = self.class(priority).grant(line, number)?;
        let tokens = entry.admission.tokens;
        let own = &mut self.passed_over[priority as usize];
        *own = own.saturating_sub(tokens.saturating_mul(PASSED_OVER));
        self.forget_passed_over(priority);
        for (class, passed_over) in self.classes.iter().zip(&mut self.passed_over).skip(priority as usize + 1)
        {
            if class.len() > 0 {
                *passed_over = passed_over.saturating_add(tokens);
            }
        }
        Some(entry)
    }

    fn forget_passed_over(&mut self, priority: Priority) {
        if self.class(priority).len() == 0 {
            self.passed_over[priority as usize] = 0;
        }
    }

    /// Corrects what a request was charged.
    pub(crate) fn settle(&mut self, admission: &Admission, real: u64) {
        self.class(admission.priority).settle(admission.line, admission.tokens, real);
    }

    /// A request's first token came so long after it had got a slot.
    pub(crate) fn first_token_took(&mut self, admission: &Admission, took: Duration) {
        self.first_token.saw(admission.prompt_tokens, took);
    }

    /// Who is next at `now`.
    pub(crate) fn next(&mut self, now: Duration) -> Option<(Ticket, &Entry<W>)> {
        if let Some((&number, entry)) = self.sent_back.first_key_value() {
            return Some((Ticket(Spot::SentBack(number)), entry));
        }
        let mut next = None;
        for (index, class) in self.classes.iter_mut().enumerate() {
            let Some((line, number, tokens)) = class.next(self.rules.yielding, now) else { continue };
            if self.passed_over[index] >= tokens.saturating_mul(PASSED_OVER) {
                next = Some((index, line, number));
                break;
            }
            next = next.or(Some((index, line, number)));
        }
        let (index, line, number) = next?;
        let entry = self.classes[index].get(line, number)?;
        Some((Ticket(Spot::Waits(Priority::ALL[index], line, number)), entry))
    }

    /// When the one of this priority that waits longest was accepted; those that were sent back aside.
    pub(crate) fn oldest(&self, priority: Priority) -> Option<Duration> {
        self.classes[priority as usize].oldest()
    }

    /// When each of those that were sent back was accepted.
    pub(crate) fn sent_back(&self) -> impl Iterator<Item = Duration> {
        self.sent_back.values().map(|entry| entry.admission.since)
    }

    pub(crate) fn len(&self) -> usize {
        self.sent_back.len() + self.classes.iter().map(Class::len).sum::<usize>()
    }

    /// Waiting requests of a priority; those that were sent back aside.
    pub(crate) fn len_of(&self, priority: Priority) -> usize {
        self.classes[priority as usize].len()
    }

    /// Those that wait in front of one by the order of arrival: those that were sent back, and earlier ones of its
    /// priority or a higher one.
    pub(crate) fn ahead(&self, ticket: Ticket) -> usize {
        match ticket.0 {
            Spot::SentBack(number) => self.sent_back.range(..number).count(),
            Spot::Waits(priority, _, number) => {
                let classes = self.classes.iter().take(priority as usize + 1);
                self.sent_back.len() + classes.map(|class| class.before(number)).sum::<usize>()
            }
        }
    }

    /// Those that wait and have this priority or a higher one, or were sent back.
    pub(crate) fn len_from(&self, priority: Priority) -> usize {
        self.sent_back.len() + self.classes.iter().take(priority as usize + 1).map(Class::len).sum::<usize>()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.sent_back_bytes + self.classes.iter().map(Class::bytes).sum::<u64>()
    }
}

/// What is missing for one more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lack {
    requests: usize,
    bytes: u64,
}
