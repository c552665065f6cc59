//! The simple engine: N requests at a time, each at its own fixed pace, whatever the others do.

use std::collections::VecDeque;
use std::time::Duration;

use super::table::{RequestId, RequestTable};
use super::{Event, NewRequest, Occupancy, Timeline};
use crate::profile::SlotModel;

/// N independent slots, first come first served.
///
/// A request started at `s` has its first token at `s + input / prefill rate`, token `k` at `(k - 1) × token time`
/// after that, and ends `output × token time` after its first token.
#[derive(Clone, Debug)]
pub struct SlotScheduler {
    model: SlotModel,
    token_time: Duration,
    requests: RequestTable<Request>,
    waiting: VecDeque<RequestId>,
    running: Vec<RequestId>,
    now: Duration,
}

#[derive(Clone, Debug)]
struct Request {
    size: NewRequest,
    arrived: Duration,
    started: Duration,
    first_token: Duration,
    finish: Duration,
    emitted: u32,
}

impl Request {
    /// Tokens that are out by `now`.
    fn due(&self, now: Duration, token_time: Duration) -> u32 {
        if now < self.first_token {
            return 0;
        }
        let later = (now - self.first_token).as_nanos() / token_time.as_nanos().max(1);
        let due = u32::try_from(later).unwrap_or(u32::MAX).saturating_add(1);
        due.min(self.size.output_tokens)
    }

    fn next_event(&self, token_time: Duration) -> Duration {
        if self.emitted < self.size.output_tokens {
            self.first_token + token_time * self.emitted
        } else {
            self.finish
        }
    }
}

impl SlotScheduler {
    /// Returns an idle scheduler.
    #[must_use]
    pub fn new(model: SlotModel) -> Self {
        Self {
            model,
            token_time: Duration::from_secs_f64(model.seconds_per_output_token),
            requests: RequestTable::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            now: Duration::ZERO,
        }
    }

    /// See [`Scheduler::add`](super::Scheduler::add).
    pub fn add(&mut self, at: Duration, size: NewRequest) -> RequestId {
        self.now = self.now.max(at);
        let zero = Duration::ZERO;
        let request =
            Request { size, arrived: self.now, started: zero, first_token: zero, finish: zero, emitted: 0 };
        let id = self.requests.insert(request);
        self.waiting.push_back(id);
        self.fill_slots(self.now);
        id
    }

    /// See [`Scheduler::cancel`](super::Scheduler::cancel).
    pub fn cancel(&mut self, at: Duration, id: RequestId) -> bool {
        self.now = self.now.max(at);
        if self.requests.remove(id).is_none() {
            return false;
        }
        self.waiting.retain(|other| *other != id);
        self.running.retain(|other| *other != id);
        self.fill_slots(self.now);
        true
    }

    /// See [`Scheduler::advance`](super::Scheduler::advance).
    pub fn advance(&mut self, now: Duration, events: &mut Vec<Event>) {
        while let Some((position, finish)) = self.earliest_finish().filter(|(_, finish)| *finish <= now) {
            let id = self.running.remove(position);
            self.emit_due(id, finish, events);
            if let Some(request) = self.requests.remove(id) {
                let timeline = Timeline {
                    arrived: request.arrived,
                    scheduled: request.started,
                    first_token: request.first_token,
                    finished: finish,
                    prompt_tokens: request.size.prompt_tokens,
                    output_tokens: request.size.output_tokens,
                    preemptions: 0,
                };
                events.push(Event::Finished { id, timeline });
            }
            self.fill_slots(finish);
        }
        for position in 0..self.running.len() {
            self.emit_due(self.running[position], now, events);
        }
        self.now = self.now.max(now);
    }

    /// See [`Scheduler::next_event`](super::Scheduler::next_event).
    #[must_use]
    pub fn next_event(&self) -> Option<Duration> {
        self.running.iter().filter_map(|id| Some(self.requests.get(*id)?.next_event(self.token_time))).min()
    }

    /// See [`Scheduler::occupancy`](super::Scheduler::occupancy).
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            running: self.running.len(),
            waiting: self.waiting.len(),
            kv_usage: self.running.len() as f64 / f64::from(self.model.slots),
        }
    }

    fn earliest_finish(&self) -> Option<(usize, Duration)> {
        self.running
            .iter()
            .enumerate()
            .filter_map(|(position, id)| Some((position, self.requests.get(*id)?.finish)))
            .min_by_key(|(_, finish)| *finish)
    }

    fn fill_slots(&mut self, at: Duration) {
        while self.running.len() < self.model.slots as usize {
            let Some(id) = self.waiting.pop_front() else { return };
            if let Some(request) = self.requests.get_mut(id) {
                request.started = at;
                request.first_token = at + self.model.prefill_time(request.size.prompt_tokens);
                request.finish = request.first_token + self.token_time * request.size.output_tokens;
                self.running.push(id);
            }
        }
    }

    fn emit_due(&mut self, id: RequestId, now: Duration, events: &mut Vec<Event>) {
        let token_time = self.token_time;
        let Some(request) = self.requests.get_mut(id) else { return };
        let due = request.due(now, token_time);
        let mut fresh = due - request.emitted;
        if fresh > 0 && request.emitted == 0 {
            events.push(Event::FirstToken {
                id,
                time_to_first_token: request.first_token - request.arrived,
                prompt_tokens: request.size.prompt_tokens,
            });
            fresh -= 1;
        }
        if fresh > 0 {
            events.push(Event::Tokens { id, tokens: fresh, interval: token_time });
        }
        request.emitted = due;
    }
}
