//! Which replica a request should go to where engines cache prefixes: the rules beside each other.
//!
//! `cargo run --release -p forewarm-sim --example routing -- TRACE.jsonl` with a trace of Mooncake's, which has the
//! hashes of the blocks of each prompt (`conversation_trace.jsonl`, `toolagent_trace.jsonl`).

#![expect(clippy::print_stdout, reason = "it is a program that prints its findings")]

use std::time::Duration;

use forewarm_sim::{
    engine::BatchingModel,
    parallel,
    routing::{BLOCK_TOKENS, Outcome, Prompt, Replicas, Rule, route},
};
use forewarm_workload::Request;
use serde::Deserialize;

const PROFILE: &str = "llama3.1-8b-a100-tp4";
const CONCURRENCY: u32 = 16;
/// Replicas: busy, usual, idle.
const COUNTS: [usize; 3] = [6, 8, 16];

/// A line of the trace; times in milliseconds.
#[derive(Deserialize)]
struct Line {
    timestamp: u64,
    input_length: u32,
    output_length: u32,
    hash_ids: Vec<u64>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("which trace?")?;
    let mut prompts = Vec::new();
    for line in std::fs::read_to_string(&path)?.lines() {
        let line: Line = serde_json::from_str(line)?;
        let arrival = Duration::from_millis(line.timestamp);
        let (input_tokens, output_tokens) = (line.input_length, line.output_length);
        let request = Request { arrival, input_tokens, output_tokens, cached_tokens: 0 };
        prompts.push(Prompt { request, blocks: line.hash_ids });
    }
    let model = BatchingModel::named(PROFILE)?;
    // What the engine has; running requests use the same memory, so half of it is what a cache keeps on average.
    let cache_blocks = (model.kv_tokens() / BLOCK_TOKENS / 2) as usize;
    let affinity = |blocks, load_factor| Rule::Affinity { blocks, load_factor };
    let rules = [
        ("round robin", Rule::RoundRobin),
        ("least outstanding", Rule::LeastOutstanding),
        ("first block, 1.25", affinity(1, 1.25)),
        ("first 2 blocks, 1.25", affinity(2, 1.25)),
        ("first 4 blocks, 1.25", affinity(4, 1.25)),
        ("first 8 blocks, 1.25", affinity(8, 1.25)),
        ("first 2 blocks, 1.1", affinity(2, 1.1)),
        ("first 2 blocks, 1.5", affinity(2, 1.5)),
        ("first 2 blocks, 2", affinity(2, 2.0)),
        ("first 2 blocks, no bound", affinity(2, 1e9)),
    ];
    println!("{} prompts on {PROFILE}, {CONCURRENCY} at a time, {cache_blocks} blocks cached", prompts.len());
    println!("| replicas | rule | prefix hits | TTFT p50 | TTFT p99 | busiest / mean |");
    println!("|---|---|---|---|---|---|");
    let cases: Vec<_> = COUNTS.iter().flat_map(|&count| rules.map(|rule| (count, rule))).collect();
    let work = |(count, (_, rule)): &(usize, (&str, Rule))| {
        let replicas = Replicas { count: *count, model, max_concurrency: CONCURRENCY, cache_blocks };
        route(&prompts, &replicas, *rule)
    };
    let outcomes: Vec<Outcome> = parallel::map(&cases, work, || {});
    for ((count, (name, _)), outcome) in cases.iter().zip(outcomes) {
        println!(
            "| {count} | {name} | {:.1} % | {:.2} s | {:.1} s | {:.2} |",
            100.0 * outcome.hit_share,
            outcome.ttft(0.5),
            outcome.ttft(0.99),
            outcome.imbalance,
        );
    }
    Ok(())
}
