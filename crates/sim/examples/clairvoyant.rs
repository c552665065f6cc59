//! x
#![expect(clippy::print_stdout, reason = "it is a program")]
use forewarm_sim::{clairvoyant, engine::*, *};
use forewarm_workload::WorkloadSource;
use std::time::{Duration, Instant};
fn main() {
    let mut args = std::env::args().skip(1);
    let trace = args.next().unwrap_or_default();
    let percent: f64 = args.next().unwrap_or_default().parse().unwrap_or(99.0);
    let source: WorkloadSource = trace.parse().unwrap();
    let workload = source.load(None).unwrap();
    let world = World {
        engine: EngineModel::Slots(SlotsModel { slots: 8 }),
        cold_start: ColdStartLaw::fixed(240.0),
        data_plane: DataPlane::Gateway,
        objective: Objective { ttft: Duration::from_secs(5), percent },
        initial_replicas: 1,
        provider_capacity: None,
        seed: 1,
    };
    let start = Instant::now();
    let bound = lower_bound(&world, 1, &workload.requests);
    println!("bound {bound:.2} in {:?}", start.elapsed());
    let result = clairvoyant(&world, (1, 1000), &workload.requests);
    println!(
        "{trace} {percent} {:.2} {:.5} in {:?}",
        result.report.replica_hours,
        result.report.attainment(),
        start.elapsed()
    );
}
