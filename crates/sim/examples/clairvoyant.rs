//! What the clairvoyant needs for a workload, and the bound below it:
//! `cargo run --release -p forewarm-sim --example clairvoyant -- WORKLOAD ORDER [PERCENT]...`
//!
//! 8 slots a replica, a cold start of 240 s, a first token within 5 s, at least one replica.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use forewarm_sim::{
    ColdStartLaw, DataPlane, Objective, QueueOrder, World, clairvoyant,
    engine::{EngineModel, SlotsModel},
    lower_bound,
};
use forewarm_workload::WorkloadSource;

const USAGE: &str = "wanted: WORKLOAD arrival|late-yields [PERCENT]...";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or(USAGE)?;
    let queue_order = match arguments.next().as_deref() {
        Some("arrival") => QueueOrder::Arrival,
        Some("late-yields") => QueueOrder::LateYields,
        _ => return Err(USAGE.into()),
    };
    let mut percents = arguments.map(|percent| percent.parse()).collect::<Result<Vec<f64>, _>>()?;
    if percents.is_empty() {
        percents = vec![99.0, 99.9];
    }
    let workload = name.parse::<WorkloadSource>()?.load(None)?;
    for percent in percents {
        let world = World {
            engine: EngineModel::Slots(SlotsModel { slots: 8 }),
            cold_start: ColdStartLaw::fixed(240.0),
            data_plane: DataPlane::Gateway,
            queue_order,
            objective: Objective { ttft: Duration::from_secs(5), percent },
            initial_replicas: 1,
            provider_capacity: None,
            seed: 1,
        };
        let start = Instant::now();
        let report = clairvoyant(&world, (1, 1_000), &workload.requests).report;
        let planned = start.elapsed().as_secs_f64();
        println!(
            "{name} at {percent} %: clairvoyant {:.1} replica-hours, {:.3} % attained, {planned:.0} s",
            report.replica_hours,
            report.attainment() * 100.0,
        );
        let start = Instant::now();
        let bound = lower_bound(&world, 1, &workload.requests);
        println!(
            "{name} at {percent} %: bound {bound:.1} replica-hours, {:.0} s",
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
