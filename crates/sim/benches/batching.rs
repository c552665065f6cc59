//! How many requests a second of computing simulates: passing over steps beside every step, and a fleet of
//! batching replicas beside one of the simple engine.
//!
//! Prints one JSON row a line, for `cargo xtask bench sim`.

#[path = "../tests/token_steps/mod.rs"]
mod token_steps;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use forewarm_sim::{
    ColdStartLaw, DataPlane, Decider, Objective, QueueOrder, World,
    engine::{BatchingModel, EngineModel, SlotsModel},
    simulate,
};
use forewarm_workload::Request;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Requests a second that keep one replica of the model busy: some 40 run at a time.
const PER_REPLICA: f64 = 3.0;
const REPLICAS: u32 = 20;

fn main() {
    let model = BatchingModel::named("llama2-70b-h100-tp8").expect("it is built in");
    let one = requests(20_000, PER_REPLICA);
    let passed = per_second(one.len(), || drop(model.replay(&one)));
    let stepped = per_second(one.len(), || drop(token_steps::token_steps(&model, &one)));
    row("requests simulated, one batching replica", passed, "every step of it", stepped);

    let many = requests(400_000, PER_REPLICA * f64::from(REPLICAS));
    let batching = per_second(many.len(), || run(EngineModel::Batching(model), REPLICAS, &many));
    // As many slots as requests run in a batch.
    let slots = EngineModel::Slots(SlotsModel { slots: 40 });
    let simple = per_second(many.len(), || run(slots.clone(), REPLICAS, &many));
    row("requests simulated, 20 batching replicas", batching, "20 of the simple engine", simple);
}

fn requests(count: usize, per_second: f64) -> Vec<Request> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut now = 0.0;
    let mut request = || {
        now += -(1.0 - rng.random::<f64>()).ln() / per_second;
        let (input_tokens, output_tokens) = (rng.random_range(100..2_000), rng.random_range(10..500));
        Request { arrival: Duration::from_secs_f64(now), input_tokens, output_tokens, cached_tokens: 0 }
    };
    (0..count).map(|_| request()).collect()
}

fn run(engine: EngineModel, replicas: u32, requests: &[Request]) {
    let world = World {
        engine,
        cold_start: ColdStartLaw::fixed(60.0),
        data_plane: DataPlane::Gateway,
        queue_order: QueueOrder::Arrival,
        objective: Objective { ttft: Duration::from_secs(5), percent: 99.0 },
        initial_replicas: replicas,
        provider_capacity: None,
        seed: 1,
    };
    let report = simulate(&world, &Decider::Timetable(Vec::new()), requests, false);
    assert_eq!((report.sent, report.lost), (requests.len() as u64, 0), "all are served");
}

/// The best of three, since others may use the machine.
fn per_second(requests: usize, mut work: impl FnMut()) -> f64 {
    let mut seconds = || {
        let begun = Instant::now();
        work();
        begun.elapsed().as_secs_f64()
    };
    requests as f64 / (0..3).map(|_| seconds()).fold(f64::INFINITY, f64::min)
}

fn row(name: &str, figure: f64, peer: &str, peer_figure: f64) {
    let row = serde_json::json!({"name": name, "figure": figure, "unit": "1/s", "peer": peer,
            "peer_figure": peer_figure, "ratio": figure / peer_figure});
    writeln!(std::io::stdout(), "{row}").expect("somebody reads the rows");
}
