//! One replica that batches continuously, at the granularity of requests.
//!
//! Between two changes of the batch, steps differ only by the context that grows; they are passed over in one
//! [`Phase`]. A phase ends when a prompt has been read, a request ends, KV memory runs out, or, cut short, after
//! the step in which a request arrives that may join.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use forewarm_workload::Request;

use super::{
    BatchingModel,
    blocks::{Blocks, blocks_for},
    phase::{Coefficients, Phase, Picos, ceil_micros, picos},
};
use crate::{
    engine::{Engine, Progress},
    time::Micros,
};

/// One replica with continuous batching.
#[derive(Debug)]
pub(crate) struct Batching {
    max_num_seqs: u64,
    max_num_batched_tokens: u64,
    kv_tokens: u64,
    time: Coefficients,
    in_flight: u32,
    /// Prompts and outputs of the requests in flight.
    outstanding_tokens: u64,
    waiting: VecDeque<Sequence>,
    /// In the order they joined.
    decoding: BTreeMap<u64, Decoding>,
    /// Of the decoding ones: the step after which each ends, and its key.
    ends: BTreeSet<(u64, u64)>,
    joined: u64,
    /// Tokens of the decoding ones in KV memory.
    context: u64,
    /// A prompt that takes more than this step. There is at most one, and it joined last, since it takes all that
    /// is left of a step.
    reading: Option<Reading>,
    /// Their prompts have been read when the phase ends.
    joining: Vec<Sequence>,
    blocks: Blocks,
    phase: Option<Phase>,
    wake_at: Option<Micros>,
}

/// A request and how far it is.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    index: u32,
    prompt: u64,
    output: u64,
    cached: u64,
    generated: u64,
}

impl Sequence {
    /// As a request that could never run cannot be refused here, it is cut down to the KV memory.
    fn new(index: u32, request: &Request, kv_tokens: u64) -> Self {
        let prompt = u64::from(request.input_tokens).clamp(1, kv_tokens.saturating_sub(1).max(1));
        let output = u64::from(request.output_tokens).clamp(1, (kv_tokens - prompt).max(1));
        // The last prompt token is computed in any case: the first token comes of it.
        let cached = u64::from(request.cached_tokens).min(prompt - 1);
        Self { index, prompt, output, cached, generated: 0 }
    }

    /// Tokens whose KV entries the next token needs.
    fn known(&self) -> u64 {
        self.prompt + self.generated
    }
}

#[derive(Clone, Copy, Debug)]
struct Decoding {
    sequence: Sequence,
    /// Steps passed when `sequence` was so far.
    since_step: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    sequence: Sequence,
    /// Tokens in KV memory.
    computed: u64,
    /// Tokens read in each step of the phase.
    chunk: u64,
}

impl Reading {
    fn left(&self) -> u64 {
        self.sequence.known() - self.computed
    }

    /// Blocks that this many more chunks take.
    fn need(&self, chunks: u64) -> u64 {
        blocks_for(self.computed + chunks * self.chunk) - blocks_for(self.computed)
    }
}

impl Batching {
    pub(crate) fn new(model: &BatchingModel) -> Self {
        Self {
            max_num_seqs: u64::from(model.max_num_seqs.max(1)),
            max_num_batched_tokens: u64::from(model.max_num_batched_tokens.max(model.max_num_seqs).max(1)),
            kv_tokens: u64::from(model.kv_tokens()),
            time: model.step_time.into(),
            in_flight: 0,
            outstanding_tokens: 0,
            waiting: VecDeque::new(),
            decoding: BTreeMap::new(),
            ends: BTreeSet::new(),
            joined: 0,
            context: 0,
            reading: None,
            joining: Vec::new(),
            blocks: Blocks::new(u64::from(model.kv_blocks.max(1))),
            phase: None,
            wake_at: None,
        }
    }

    /// Puts together the next step, and finds out how often it repeats.
    fn begin_phase(&mut self, start: Picos) {
        self.evict_for_next_step();
        let decoding = self.decoding.len() as u64;
        let mut budget = self.max_num_batched_tokens - decoding;
        let mut prefill_tokens = 0;
        self.read_on(&mut budget, &mut prefill_tokens);
        // Whoever was just evicted is now first in the queue and does not fit: the others need what it left. So, as
        // in vLLM, nobody is let in after an eviction.
        self.let_in(&mut budget, &mut prefill_tokens);
        if decoding == 0 && prefill_tokens == 0 {
            return;
        }
        let steps = if self.joining.is_empty() { self.repetitions() } else { 1 };
        // Each decoding request attends to its new token too.
        let context = self.context + decoding;
        self.phase = Some(Phase::new(start, &self.time, decoding, context, prefill_tokens, steps));
    }

    /// Sends the last ones back until the memory suffices for one more token of each that is left.
    fn evict_for_next_step(&mut self) {
        while self.blocks.need(1) > self.blocks.free {
            if let Some(reading) = self.reading.take() {
                self.evict_reading(&reading);
                continue;
            }
            let Some((key, last)) = self.decoding.pop_last() else { break };
            let mut sequence = last.sequence;
            self.ends.remove(&(last.since_step + sequence.output - sequence.generated, key));
            sequence.generated += self.blocks.steps - last.since_step;
            self.forget(&sequence);
            self.waiting.push_front(sequence);
        }
    }

    fn evict_reading(&mut self, reading: &Reading) {
        self.blocks.free += blocks_for(reading.computed);
        self.waiting.push_front(reading.sequence);
    }

    /// Frees the memory of a decoding request; its last token is not in it yet.
    fn forget(&mut self, sequence: &Sequence) {
        let computed = sequence.known() - 1;
        self.context -= computed;
        self.blocks.leave(computed);
    }

    /// Goes on with the prompt that is being read, or evicts it.
    fn read_on(&mut self, budget: &mut u64, prefill_tokens: &mut u64) {
        let Some(mut reading) = self.reading.take() else { return };
        reading.chunk = reading.left().min(*budget);
        if self.blocks.need(1) + reading.need(1) > self.blocks.free {
            self.evict_reading(&reading);
            return;
        }
        *budget -= reading.chunk;
        *prefill_tokens += reading.chunk;
        self.take_part(reading);
    }

    /// A prompt that ends with this step takes the rest of its memory now; another takes it chunk by chunk.
    fn take_part(&mut self, reading: Reading) {
        if reading.chunk == reading.left() {
            self.blocks.free -= reading.need(1);
            self.joining.push(reading.sequence);
        } else {
            self.reading = Some(reading);
        }
    }

    /// Lets requests in from the head of the queue while there are places, budget, and memory for all they have so
    /// far: a prompt let in by halves would evict others at once.
    fn let_in(&mut self, budget: &mut u64, prefill_tokens: &mut u64) {
        let running = |this: &Self| (this.decoding.len() + this.joining.len()) as u64;
        while *budget > 0
            && running(self) < self.max_num_seqs
            && let Some(&sequence) = self.waiting.front()
            && self.blocks.need(1) + blocks_for(sequence.known()) <= self.blocks.free
        {
            self.waiting.pop_front();
            let mut reading = Reading { sequence, computed: sequence.cached, chunk: 0 };
            reading.chunk = reading.left().min(*budget);
            *budget -= reading.chunk;
            *prefill_tokens += reading.chunk;
            self.blocks.free -= blocks_for(reading.computed);
            self.take_part(reading);
        }
    }

    /// How many steps there are like the next one.
    fn repetitions(&self) -> u64 {
        let until_end = self.ends.first().map_or(u64::MAX, |&(step, _)| step - self.blocks.steps);
        let Some(reading) = &self.reading else { return self.blocks.longest(until_end) };
        let chunks = (reading.left().div_ceil(reading.chunk) - 1).min(until_end);
        let fits = self.blocks.need(chunks) + reading.need(chunks) <= self.blocks.free;
        if fits { chunks } else { 1 }
    }

    /// Does all steps of the phase.
    fn end_phase(&mut self, phase: &Phase, progress: &mut Progress) {
        let at = ceil_micros(phase.end);
        self.blocks.pass(phase.steps);
        self.context += phase.steps * self.decoding.len() as u64;
        if let Some(reading) = &mut self.reading {
            self.blocks.free -= reading.need(phase.steps);
            reading.computed += phase.steps * reading.chunk;
        }
        while let Some(&(step, key)) = self.ends.first()
            && step <= self.blocks.steps
        {
            self.ends.pop_first();
            if let Some(Decoding { mut sequence, .. }) = self.decoding.remove(&key) {
                sequence.generated = sequence.output;
                self.forget(&sequence);
                self.finish(&sequence, at, progress);
            }
        }
        for mut sequence in std::mem::take(&mut self.joining) {
            if sequence.generated == 0 {
                progress.first_tokens.push((sequence.index, at));
            }
            let computed = sequence.known();
            sequence.generated += 1;
            if sequence.generated == sequence.output {
                self.blocks.free += blocks_for(computed);
                self.finish(&sequence, at, progress);
                continue;
            }
            let since_step = self.blocks.steps;
            self.blocks.join(computed);
            self.context += computed;
            self.ends.insert((since_step + sequence.output - sequence.generated, self.joined));
            self.decoding.insert(self.joined, Decoding { sequence, since_step });
            self.joined += 1;
        }
    }

    fn finish(&mut self, sequence: &Sequence, at: Micros, progress: &mut Progress) {
        self.in_flight -= 1;
        self.outstanding_tokens -= sequence.prompt + sequence.output;
        progress.finished.push((sequence.index, at));
    }

    /// Does the phases that end by `now`.
    fn catch_up(&mut self, now: Micros, progress: &mut Progress) {
        while let Some(phase) = self.phase.take_if(|phase| phase.end <= picos(now)) {
            self.end_phase(&phase, progress);
            self.begin_phase(phase.end);
        }
    }

    /// Asks to be called at the end of the phase, unless such a call is pending.
    fn ask(&mut self, now: Micros, progress: &mut Progress) {
        let Some(at) = self.phase.map(|phase| ceil_micros(phase.end)) else { return };
        if self.wake_at.is_none_or(|pending| pending <= now || at < pending) {
            self.wake_at = Some(at);
            progress.wake_at = Some(at);
        }
    }
}

impl Engine for Batching {
    /// As a gateway sees it that reserves KV memory for whole requests (a prompt and its `max_tokens`).
    fn has_room(&self) -> bool {
        u64::from(self.in_flight) < self.max_num_seqs && self.outstanding_tokens < self.kv_tokens
    }

    fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn load(&self) -> u64 {
        u64::from(self.in_flight)
    }

    fn admit(&mut self, now: Micros, index: u32, request: &Request, progress: &mut Progress) {
        self.catch_up(now, progress);
        let sequence = Sequence::new(index, request, self.kv_tokens);
        self.in_flight += 1;
        self.outstanding_tokens += sequence.prompt + sequence.output;
        let may_join = self.waiting.is_empty() && self.reading.is_none();
        self.waiting.push_back(sequence);
        match &mut self.phase {
            None => self.begin_phase(picos(now)),
            Some(phase) if may_join => phase.cut(picos(now)),
            // The first in the queue cannot join before the phase ends, so nobody can.
            Some(_) => {}
        }
        self.ask(now, progress);
    }

    fn advance(&mut self, now: Micros, progress: &mut Progress) {
        self.catch_up(now, progress);
        self.ask(now, progress);
    }

    fn ttft_alone(&self, request: &Request) -> Micros {
        let sequence = Sequence::new(0, request, self.kv_tokens);
        let tokens = sequence.prompt - sequence.cached;
        ceil_micros(self.time.prefill_alone(tokens, self.max_num_batched_tokens))
    }
}
