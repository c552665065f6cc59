//! Continuous batching over paged KV memory, after vLLM's V1 scheduler: decode and chunked prefill share each step's
//! token budget, running requests come first, the queue is first come first served, and when KV memory runs out the
//! request that joined last goes back to the head of the queue and is computed again.

use std::collections::VecDeque;
use std::time::Duration;

use super::table::{RequestId, RequestTable};
use super::{Event, NewRequest, Occupancy, Timeline};
use crate::profile::{BatchingModel, KV_BLOCK_TOKENS};

/// A continuous-batching engine.
#[derive(Clone, Debug)]
pub struct BatchingScheduler {
    model: BatchingModel,
    requests: RequestTable<Request>,
    waiting: VecDeque<RequestId>,
    /// In the order they joined; the last one is preempted first.
    running: Vec<RequestId>,
    free_blocks: u32,
    /// What the step under way computes; empty between steps.
    step: Vec<Share>,
    step_ends: Option<Duration>,
    now: Duration,
    preempted: Vec<RequestId>,
}

/// One request's part of a step.
#[derive(Clone, Copy, Debug)]
struct Share {
    id: RequestId,
    tokens: u32,
}

#[derive(Clone, Debug)]
struct Request {
    size: NewRequest,
    arrived: Duration,
    scheduled: Option<Duration>,
    first_token: Option<Duration>,
    last_token: Duration,
    generated: u32,
    /// Tokens whose KV entries are in memory.
    computed: u32,
    blocks: u32,
    preemptions: u32,
}

impl Request {
    /// Tokens whose KV entries the next token needs.
    fn known(&self) -> u32 {
        self.size.prompt_tokens + self.generated
    }

    fn decodes(&self) -> bool {
        self.generated > 0 && self.known() - self.computed == 1
    }
}

fn blocks_for(tokens: u32) -> u32 {
    tokens.div_ceil(KV_BLOCK_TOKENS)
}

impl BatchingScheduler {
    /// Returns an idle scheduler.
    #[must_use]
    pub fn new(model: BatchingModel) -> Self {
        Self {
            model,
            requests: RequestTable::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            free_blocks: model.kv_blocks,
            step: Vec::new(),
            step_ends: None,
            now: Duration::ZERO,
            preempted: Vec::new(),
        }
    }

    /// See [`Scheduler::add`](super::Scheduler::add). A request longer than the whole KV memory is cut down to it,
    /// because it could never run; callers refuse such requests.
    pub fn add(&mut self, at: Duration, size: NewRequest) -> RequestId {
        self.now = self.now.max(at);
        let kv_tokens = self.model.kv_blocks.saturating_mul(KV_BLOCK_TOKENS);
        let prompt_tokens = size.prompt_tokens.clamp(1, kv_tokens.saturating_sub(1).max(1));
        let output_tokens = size.output_tokens.clamp(1, (kv_tokens - prompt_tokens).max(1));
        let id = self.requests.insert(Request {
            size: NewRequest { prompt_tokens, output_tokens },
            arrived: self.now,
            scheduled: None,
            first_token: None,
            last_token: Duration::ZERO,
            generated: 0,
            computed: 0,
            blocks: 0,
            preemptions: 0,
        });
        self.waiting.push_back(id);
        self.start_step_if_idle();
        id
    }

    /// See [`Scheduler::cancel`](super::Scheduler::cancel).
    pub fn cancel(&mut self, at: Duration, id: RequestId) -> bool {
        self.now = self.now.max(at);
        let Some(request) = self.requests.remove(id) else { return false };
        self.free_blocks += request.blocks;
        self.running.retain(|other| *other != id);
        self.waiting.retain(|other| *other != id);
        true
    }

    /// See [`Scheduler::advance`](super::Scheduler::advance).
    pub fn advance(&mut self, now: Duration, events: &mut Vec<Event>) {
        events.extend(self.preempted.drain(..).map(|id| Event::Preempted { id }));
        while let Some(ends) = self.step_ends.filter(|ends| *ends <= now) {
            self.now = ends;
            self.finish_step(ends, events);
            self.start_step_if_idle();
            events.extend(self.preempted.drain(..).map(|id| Event::Preempted { id }));
        }
        self.now = self.now.max(now);
    }

    /// See [`Scheduler::next_event`](super::Scheduler::next_event).
    #[must_use]
    pub fn next_event(&self) -> Option<Duration> {
        self.step_ends
    }

    /// See [`Scheduler::occupancy`](super::Scheduler::occupancy).
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let used = self.model.kv_blocks - self.free_blocks;
        Occupancy {
            running: self.running.len(),
            waiting: self.waiting.len(),
            kv_usage: f64::from(used) / f64::from(self.model.kv_blocks),
        }
    }

    fn finish_step(&mut self, at: Duration, events: &mut Vec<Event>) {
        self.step_ends = None;
        let mut shares = std::mem::take(&mut self.step);
        events.push(Event::Step { tokens: shares.iter().map(|share| share.tokens).sum() });
        let mut any_finished = false;
        for Share { id, tokens } in shares.drain(..) {
            // Cancelled while the step ran: its part of the step was wasted, as in a real engine.
            let Some(request) = self.requests.get_mut(id) else { continue };
            request.computed += tokens;
            if request.computed < request.known() {
                continue; // a chunk of a longer prompt
            }
            request.generated += 1;
            if request.first_token.is_none() {
                request.first_token = Some(at);
                events.push(Event::FirstToken {
                    id,
                    time_to_first_token: at - request.arrived,
                    prompt_tokens: request.size.prompt_tokens,
                });
            } else {
                events.push(Event::Tokens { id, tokens: 1, interval: at - request.last_token });
            }
            request.last_token = at;
            if request.generated == request.size.output_tokens {
                any_finished = true;
                self.finish_request(id, at, events);
            }
        }
        self.step = shares;
        if any_finished {
            let requests = &self.requests;
            self.running.retain(|id| requests.get(*id).is_some());
        }
    }

    fn finish_request(&mut self, id: RequestId, at: Duration, events: &mut Vec<Event>) {
        let Some(request) = self.requests.remove(id) else { return };
        self.free_blocks += request.blocks;
        let timeline = Timeline {
            arrived: request.arrived,
            scheduled: request.scheduled.unwrap_or(at),
            first_token: request.first_token.unwrap_or(at),
            finished: at,
            prompt_tokens: request.size.prompt_tokens,
            output_tokens: request.size.output_tokens,
            preemptions: request.preemptions,
        };
        events.push(Event::Finished { id, timeline });
    }

    fn start_step_if_idle(&mut self) {
        if self.step_ends.is_some() {
            return;
        }
        let mut budget = self.model.max_num_batched_tokens;
        let preempted_any = self.continue_running(&mut budget);
        // Memory just ran out, so letting others in would only evict somebody again.
        if !preempted_any {
            self.admit_waiting(&mut budget);
        }
        if !self.step.is_empty() {
            self.step_ends = Some(self.now + self.step_time());
        }
    }

    /// Gives every running request its part of the step, evicting the last ones when memory runs out. Returns
    /// whether any was evicted. The first always gets its part, since it may evict all others: so work goes on.
    fn continue_running(&mut self, budget: &mut u32) -> bool {
        let mut preempted_any = false;
        let mut position = 0;
        while position < self.running.len() && *budget > 0 {
            let id = self.running[position];
            let Some(request) = self.requests.get(id) else { break };
            let tokens = (request.known() - request.computed).min(*budget);
            let missing = blocks_for(request.computed + tokens).saturating_sub(request.blocks);
            let mut evicted_itself = false;
            while missing > self.free_blocks && !evicted_itself {
                preempted_any = true;
                evicted_itself = self.preempt_last() == Some(id);
            }
            if evicted_itself {
                break;
            }
            self.take_blocks(id, missing);
            self.step.push(Share { id, tokens });
            *budget -= tokens;
            position += 1;
        }
        preempted_any
    }

    fn preempt_last(&mut self) -> Option<RequestId> {
        let victim = self.running.pop()?;
        if let Some(request) = self.requests.get_mut(victim) {
            self.free_blocks += request.blocks;
            request.blocks = 0;
            request.computed = 0;
            request.preemptions += 1;
        }
        self.waiting.push_front(victim);
        self.preempted.push(victim);
        Some(victim)
    }

    /// Lets requests in from the head of the queue while there are places, budget, and memory for all they have so
    /// far (not just for the first chunk: a prompt let in by halves would evict others at once).
    fn admit_waiting(&mut self, budget: &mut u32) {
        while self.running.len() < self.model.max_num_seqs as usize && *budget > 0 {
            let Some(&id) = self.waiting.front() else { return };
            let Some(request) = self.requests.get_mut(id) else { return };
            if blocks_for(request.known()) > self.free_blocks {
                return;
            }
            let tokens = request.known().min(*budget);
            request.scheduled.get_or_insert(self.now);
            self.waiting.pop_front();
            self.running.push(id);
            self.take_blocks(id, blocks_for(tokens));
            self.step.push(Share { id, tokens });
            *budget -= tokens;
        }
    }

    fn take_blocks(&mut self, id: RequestId, blocks: u32) {
        if let Some(request) = self.requests.get_mut(id) {
            request.blocks += blocks;
            self.free_blocks -= blocks;
        }
    }

    fn step_time(&self) -> Duration {
        let (mut decoding, mut context_tokens, mut prefill_tokens) = (0_u32, 0_u64, 0_u64);
        for share in &self.step {
            let Some(request) = self.requests.get(share.id) else { continue };
            if request.decodes() {
                decoding += 1;
                context_tokens += u64::from(request.known());
            } else {
                prefill_tokens += u64::from(share.tokens);
            }
        }
        self.model.step_time.step(decoding, context_tokens, prefill_tokens)
    }
}
