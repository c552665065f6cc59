//! How many requests a second are simulated on one core, the policy included and reading a trace apart. The peer is
//! the same run on a timetable, which decides nothing.

#![expect(clippy::print_stdout, reason = "rows for `cargo xtask bench`")]

use std::time::{Duration, Instant};

use forewarm_core::{Bounds, Environment, Policy, QueueDepth, Requests, ScalerSpec};
use forewarm_sim::{
    ColdStartLaw, DataPlane, Decider, Objective, QueueOrder, Step, World,
    engine::{EngineModel, SlotsModel},
    simulate,
};
use forewarm_workload::{Request, demo};

/// Runs of which the fastest counts: what the machine does beside can only slow them.
const RUNS: usize = 5;

fn main() {
    let requests = demo(Duration::from_secs(24 * 3_600), 1).scaled(8, 1).requests;
    for data_plane in [DataPlane::Gateway, DataPlane::Engine] {
        let (policy, timetable) = (policy(), Decider::Timetable(vec![Step { at: 0, replicas: 32 }]));
        let figure = millions_a_second(&world(data_plane), &policy, &requests);
        let peer_figure = millions_a_second(&world(data_plane), &timetable, &requests);
        let row = serde_json::json!({
            "name": format!("simulated requests, {}", if data_plane == DataPlane::Gateway { "one queue" } else { "a queue an engine" }),
            "figure": figure,
            "unit": "M/s",
            "peer": "the same on a timetable, without a policy",
            "peer_figure": peer_figure,
            "ratio": figure / peer_figure,
        });
        println!("{row}");
    }
}

fn policy() -> Decider {
    let per_replica = Requests::new(QueueDepth::DEFAULT_PER_REPLICA).expect("a number of requests");
    let policy = Policy::QueueDepth(QueueDepth { per_replica, pre_warm: None });
    let bounds = Bounds::new(1, 32).expect("bounds");
    Decider::core(ScalerSpec { environment: Environment::Dev, ..ScalerSpec::new("bench", bounds, policy) })
}

fn world(data_plane: DataPlane) -> World {
    World {
        engine: EngineModel::Slots(SlotsModel { slots: 8 }),
        cold_start: ColdStartLaw::fixed(240.0),
        data_plane,
        queue_order: QueueOrder::Arrival,
        objective: Objective { ttft: Duration::from_secs(5), percent: 99.0 },
        initial_replicas: 1,
        provider_capacity: None,
        seed: 1,
    }
}

fn millions_a_second(world: &World, decider: &Decider, requests: &[Request]) -> f64 {
    let run = || {
        let start = Instant::now();
        let report = simulate(world, decider, requests, false);
        assert_eq!(report.lost, 0);
        start.elapsed().as_secs_f64()
    };
    let fastest = (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min);
    requests.len() as f64 / fastest / 1e6
}
