//! Continuous batching one step and one token at a time: slow, and simple enough to be checked by reading.

use std::collections::VecDeque;

use forewarm_sim::engine::{BatchingModel, KV_BLOCK_TOKENS, Served};
use forewarm_workload::Request;

struct Work {
    index: usize,
    prompt: u64,
    output: u64,
    cached: u64,
    generated: u64,
    /// Tokens in KV memory.
    computed: u64,
    /// Its prompt has been read (again), so that each step gives a token.
    decodes: bool,
    /// Tokens in the step under way.
    share: u64,
}

impl Work {
    fn known(&self) -> u64 {
        self.prompt + self.generated
    }
}

fn blocks(tokens: u64) -> u64 {
    tokens.div_ceil(u64::from(KV_BLOCK_TOKENS))
}

fn used(running: &[Work]) -> u64 {
    running.iter().map(|work| blocks(work.computed + work.share)).sum()
}

/// What [`BatchingModel::replay`] returns.
pub(crate) fn token_steps(model: &BatchingModel, requests: &[Request]) -> Vec<Served> {
    let picos = |ms: f64| (ms * 1e9).round() as u128;
    let time = &model.step_time;
    let [a, b, c, p0, p1] = [
        picos(time.decode_base_ms),
        picos(time.decode_per_request_ms),
        picos(time.decode_per_context_token_ms),
        picos(time.prefill_base_ms),
        picos(time.prefill_per_token_ms),
    ];
    let arrival = |request: &Request| request.arrival.as_micros() * 1_000_000;
    let memory = u64::from(model.kv_blocks);
    let kv_tokens = memory * u64::from(KV_BLOCK_TOKENS);
    let mut served = vec![Served::default(); requests.len()];
    let mut coming = requests.iter().enumerate().peekable();
    let mut waiting: VecDeque<Work> = VecDeque::new();
    let mut running: Vec<Work> = Vec::new();
    let mut clock = 0_u128;
    loop {
        // A step takes in who came before it began; an idle engine begins as soon as somebody comes.
        let idle = |waiting: &VecDeque<Work>, running: &[Work]| waiting.is_empty() && running.is_empty();
        while let Some((index, request)) =
            coming.next_if(|(_, request)| arrival(request) < clock || idle(&waiting, &running))
        {
            clock = clock.max(arrival(request));
            let prompt = u64::from(request.input_tokens).clamp(1, kv_tokens - 1);
            let output = u64::from(request.output_tokens).clamp(1, kv_tokens - prompt);
            let cached = u64::from(request.cached_tokens).min(prompt - 1);
            let work =
                Work { index, prompt, output, cached, generated: 0, computed: 0, decodes: false, share: 0 };
            waiting.push_back(work);
        }
        if idle(&waiting, &running) {
            return served;
        }

        // Who runs goes on; the last ones are evicted when memory runs out.
        let mut budget = u64::from(model.max_num_batched_tokens);
        let mut evicted = false;
        let mut position = 0;
        while position < running.len() {
            let share = (running[position].known() - running[position].computed).min(budget);
            running[position].share = share;
            while used(&running) > memory {
                evicted = true;
                let mut last = running.pop().expect("somebody uses the memory");
                (last.computed, last.share, last.decodes) = (0, 0, false);
                waiting.push_front(last);
            }
            if position < running.len() {
                budget -= share;
            }
            position += 1;
        }
        // Others join at the end, unless memory has just run out.
        while !evicted
            && budget > 0
            && running.len() < model.max_num_seqs as usize
            && waiting.front().is_some_and(|first| used(&running) + blocks(first.known()) <= memory)
        {
            let mut first = waiting.pop_front().expect("there is a first one");
            first.computed = first.cached;
            first.share = (first.known() - first.computed).min(budget);
            budget -= first.share;
            running.push(first);
        }

        let decoding: u128 = running.iter().filter(|work| work.decodes).count() as u128;
        let context: u64 = running.iter().filter(|work| work.decodes).map(Work::known).sum();
        let read: u64 = running.iter().filter(|work| !work.decodes).map(|work| work.share).sum();
        let fixed = if decoding > 0 { a + b * decoding + c * u128::from(context) } else { p0 };
        clock += fixed + p1 * u128::from(read);

        let at = u64::try_from(clock.div_ceil(1_000_000)).expect("the test is over before that");
        for work in &mut running {
            work.computed += work.share;
            work.share = 0;
            if work.computed == work.known() {
                work.decodes = true;
                work.generated += 1;
                if work.generated == 1 {
                    served[work.index].first_token = at;
                }
                if work.generated == work.output {
                    served[work.index].finished = at;
                }
            }
        }
        running.retain(|work| work.generated < work.output);
    }
}
