//! A fixed fleet of replicas that cache prefixes: what a rule of choosing among them is worth.
//!
//! The waiting room is the gateway's: first come, first served, and a replica has at most its concurrency. Each
//! replica caches the blocks of the prompts that it has read, the least recently used leaves first. A prompt's leading
//! blocks that are there need not be read.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
};

use forewarm_core::{
    ReplicaId,
    affinity::{Candidate, extended, hash, preferred},
};
use forewarm_workload::Request;

use crate::{
    engine::{Batching, BatchingModel, Engine, Progress},
    time::{Micros, micros},
};

/// Tokens in a block of a prompt, as Mooncake's traces have them.
pub const BLOCK_TOKENS: u32 = 512;

/// A request with what its prompt is made of.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// When, and how long.
    pub request: Request,
    /// Its blocks; equal numbers are equal blocks with equal blocks before them.
    pub blocks: Vec<u64>,
}

/// How a replica is chosen among those with a slot free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests.
    LeastOutstanding,
    /// [`preferred`], by the first blocks of the prompt.
    Affinity {
        /// How many of them.
        blocks: usize,
        /// The bound.
        load_factor: f64,
    },
}

/// What is chosen among.
#[derive(Clone, Copy, Debug)]
pub struct Replicas {
    /// How many.
    pub count: usize,
    /// The engine of each.
    pub model: BatchingModel,
    /// Requests that each is given at a time.
    pub max_concurrency: u32,
    /// Blocks of prompts that each caches.
    pub cache_blocks: usize,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Share of the prompts' tokens that need not be read.
    pub hit_share: f64,
    /// Time from each request's arrival to its first token, in seconds, in order.
    pub ttft_seconds: Vec<f64>,
    /// The most requests that one replica served, relative to their mean.
    pub imbalance: f64,
}

impl Outcome {
    /// A quantile of the time to the first token.
    pub fn ttft(&self, quantile: f64) -> f64 {
        let last = self.ttft_seconds.len().saturating_sub(1);
        self.ttft_seconds.get((last as f64 * quantile).round() as usize).copied().unwrap_or(0.0)
    }
}

/// Sends all prompts, which are in the order of their arrival, through the fleet.
pub fn route(prompts: &[Prompt], replicas: &Replicas, rule: Rule) -> Outcome {
    let mut fleet = Fleet {
        prompts,
        rule,
        max_concurrency: replicas.max_concurrency,
        replicas: (0..replicas.count)
            .map(|number| Replica {
                id: ReplicaId::from(format!("replica-{number}")),
                engine: Batching::new(&replicas.model),
                cache: Cache { most: replicas.cache_blocks, ..Cache::default() },
                served: 0,
                last_turn: 0,
            })
            .collect(),
        waiting: VecDeque::new(),
        calls: BinaryHeap::new(),
        last: 0,
        turns: 0,
        first_tokens: vec![None; prompts.len()],
        hit_tokens: 0,
    };
    for (index, prompt) in prompts.iter().enumerate() {
        let now = micros(prompt.request.arrival);
        fleet.run_until(now);
        fleet.waiting.push_back(index);
        fleet.grant(now);
    }
    fleet.run_until(Micros::MAX);
    fleet.outcome()
}

struct Fleet<'a> {
    prompts: &'a [Prompt],
    rule: Rule,
    max_concurrency: u32,
    replicas: Vec<Replica>,
    waiting: VecDeque<usize>,
    /// When which replica wants to be called.
    calls: BinaryHeap<Reverse<(Micros, usize)>>,
    /// The replica that was chosen last.
    last: usize,
    turns: u64,
    first_tokens: Vec<Option<Micros>>,
    hit_tokens: u64,
}

struct Replica {
    id: ReplicaId,
    engine: Batching,
    cache: Cache,
    served: u64,
    /// How many turns there had been when it had its last.
    last_turn: u64,
}

impl Fleet<'_> {
    fn run_until(&mut self, until: Micros) {
        while let Some(Reverse((at, replica))) =
            self.calls.peek().copied().filter(|Reverse((at, _))| *at <= until)
        {
            self.calls.pop();
            let mut progress = Progress::default();
            self.replicas[replica].engine.advance(at, &mut progress);
            self.note(replica, progress);
            self.grant(at);
        }
    }

    fn note(&mut self, replica: usize, progress: Progress) {
        for (index, at) in progress.first_tokens {
            let index = index as usize;
            self.first_tokens[index].get_or_insert(at);
            // What it has read is there for others from now on.
            self.replicas[replica].cache.insert(&self.prompts[index].blocks);
        }
        self.calls.extend(progress.wake_at.map(|at| Reverse((at, replica))));
    }

    /// Gives slots to those that wait.
    fn grant(&mut self, now: Micros) {
        while let Some(&index) = self.waiting.front() {
            let Some(chosen) = self.choose(&self.prompts[index]) else { return };
            self.waiting.pop_front();
            self.last = chosen;
            let prompt = &self.prompts[index];
            let replica = &mut self.replicas[chosen];
            let hit = replica.cache.hit(&prompt.blocks) as u32 * BLOCK_TOKENS;
            let cached_tokens = hit.min(prompt.request.input_tokens);
            self.hit_tokens += u64::from(cached_tokens);
            replica.served += 1;
            self.turns += 1;
            replica.last_turn = self.turns;
            let mut progress = Progress::default();
            let request = Request { cached_tokens, ..prompt.request };
            replica.engine.admit(now, index as u32, &request, &mut progress);
            self.note(chosen, progress);
        }
    }

    fn choose(&self, prompt: &Prompt) -> Option<usize> {
        let is_open = |replica: &Replica| replica.engine.in_flight() < self.max_concurrency;
        let count = self.replicas.len();
        match self.rule {
            Rule::RoundRobin => {
                (1..=count).map(|step| (self.last + step) % count).find(|&next| is_open(&self.replicas[next]))
            }
            Rule::LeastOutstanding => (0..count)
                .filter(|&next| is_open(&self.replicas[next]))
                .min_by_key(|&next| (self.replicas[next].engine.in_flight(), self.replicas[next].last_turn)),
            Rule::Affinity { blocks, load_factor } => {
                let first = prompt.blocks.iter().take(blocks);
                let prefix = first.fold(hash(&[]), |hash, block| extended(hash, &block.to_le_bytes()));
                let candidates: Vec<_> = self
                    .replicas
                    .iter()
                    .map(|replica| Candidate {
                        replica: &replica.id,
                        in_flight: replica.engine.in_flight(),
                        most: self.max_concurrency,
                        is_open: is_open(replica),
                    })
                    .collect();
                let chosen = preferred(prefix, load_factor, &candidates)?;
                self.replicas.iter().position(|replica| replica.id == *chosen)
            }
        }
    }

    fn outcome(self) -> Outcome {
        let tokens: u64 = self.prompts.iter().map(|prompt| u64::from(prompt.request.input_tokens)).sum();
        let arrivals = self.prompts.iter().map(|prompt| micros(prompt.request.arrival));
        let mut ttft_seconds: Vec<f64> = arrivals
            .zip(&self.first_tokens)
            .filter_map(|(arrival, first)| Some(first.as_ref()?.saturating_sub(arrival) as f64 / 1e6))
            .collect();
        ttft_seconds.sort_unstable_by(f64::total_cmp);
        let most = self.replicas.iter().map(|replica| replica.served).max().unwrap_or(0);
        let mean = self.prompts.len() as f64 / self.replicas.len().max(1) as f64;
        Outcome {
            hit_share: self.hit_tokens as f64 / tokens.max(1) as f64,
            ttft_seconds,
            imbalance: most as f64 / mean.max(1.0),
        }
    }
}

/// Blocks by when they were used last.
#[derive(Debug, Default)]
struct Cache {
    most: usize,
    used: HashMap<u64, u64>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
}

impl Cache {
    /// Leading blocks that are here; they are used now.
    fn hit(&mut self, blocks: &[u64]) -> usize {
        let hit = blocks.iter().take_while(|block| self.used.contains_key(block)).count();
        self.touch(&blocks[..hit]);
        hit
    }

    fn insert(&mut self, blocks: &[u64]) {
        self.touch(blocks);
        while self.used.len() > self.most
            && let Some((_, block)) = self.by_use.pop_first()
        {
            self.used.remove(&block);
        }
    }

    /// The first block last, so that the end of a prompt leaves before its beginning.
    fn touch(&mut self, blocks: &[u64]) {
        for &block in blocks.iter().rev() {
            self.uses += 1;
            if let Some(before) = self.used.insert(block, self.uses) {
                self.by_use.remove(&before);
            }
            self.by_use.insert(self.uses, block);
        }
    }
}
