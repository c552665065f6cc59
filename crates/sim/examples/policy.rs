//! forewarm's own policy on traces, at several objectives: what came of it beside what was asked for.
//!
//! `cargo run --release -p forewarm-sim --example policy -- [--cold-start SECONDS] PERCENT,… WORKLOAD…`

#![expect(clippy::print_stdout, reason = "an example prints what it measured")]

use std::{error::Error, time::Duration};

use forewarm_core::{Bounds, ColdStartSpec, Environment, Forewarm, Policy, ScalerSpec};
use forewarm_sim::{
    ColdStartLaw, DataPlane, Decider, Objective, QueueOrder, World,
    engine::{EngineModel, SlotsModel},
    simulate,
};
use forewarm_workload::WorkloadSource;

const SLOTS: u32 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).peekable();
    let mut cold_start_seconds = 240.0;
    if words.next_if(|word| word == "--cold-start").is_some() {
        cold_start_seconds = words.next().ok_or("--cold-start wants seconds")?.parse()?;
    }
    let percents: Vec<f64> =
        words.next().ok_or("which percent?")?.split(',').map(str::parse).collect::<Result<_, _>>()?;
    println!(
        "{:<40} {:>7} {:>9} {:>9} {:>9} {:>9} {:>7} {:>6}",
        "workload", "percent", "missed %", "of asked", "worst day", "GPU-hours", "starts", "s"
    );
    for word in words {
        let requests = word.parse::<WorkloadSource>()?.load(None)?.requests;
        for &percent in &percents {
            let world = World {
                engine: EngineModel::Slots(SlotsModel { slots: SLOTS }),
                cold_start: ColdStartLaw::fixed(cold_start_seconds),
                data_plane: DataPlane::Gateway,
                queue_order: QueueOrder::LateYields,
                objective: Objective { ttft: Duration::from_secs(5), percent },
                initial_replicas: 1,
                provider_capacity: None,
                seed: 1,
            };
            let spec = ScalerSpec {
                environment: Environment::Dev,
                cold_start: ColdStartSpec {
                    expected: Duration::from_secs_f64(cold_start_seconds),
                    ..ColdStartSpec::default()
                },
                max_concurrency: SLOTS,
                ..ScalerSpec::new("policy", Bounds::new(1, 1_000)?, Policy::Forewarm(Forewarm { percent }))
            };
            let started = std::time::Instant::now();
            let report = simulate(&world, &Decider::core(spec), &requests, false);
            let missed = 1.0 - report.attainment();
            println!(
                "{:<40} {percent:>7} {:>9.3} {:>9.2} {:>9.3} {:>9.1} {:>7} {:>6.1}",
                word.chars().rev().take(40).collect::<String>().chars().rev().collect::<String>(),
                missed * 100.0,
                missed / world.objective.allowance(),
                report.worst_day * 100.0,
                report.replica_hours,
                report.starts,
                started.elapsed().as_secs_f64(),
            );
        }
    }
    Ok(())
}
