//! Clairvoyant.

mod demand;
mod fluid;
mod improve;
pub(crate) mod jobs;
mod machine;
mod plan;

use forewarm_workload::Request;

use crate::{
    DataPlane, Decider, Report, Step, World, clairvoyant::{demand::Demand, jobs::{allowed_misses, jobs}, machine::Machine, plan::Rules}, engine::EngineModel, simulate, time::seconds
};

/// x
#[derive(Clone, Debug)]
pub struct Clairvoyant {
    /// x
    pub timetable: Vec<Step>,
    /// x
    pub report: Report,
}

/// x
pub fn clairvoyant(world: &World, bounds: (u32, u32), requests: &[Request]) -> Clairvoyant {
    let EngineModel::Slots(model) = world.engine;
    let jobs = jobs(model, &world.objective, requests);
    let allowed = allowed_misses(&world.objective, jobs.len());
    let cold_start = seconds(240.0);
    let rules = Rules { initial: world.initial_replicas, min: bounds.0, max: bounds.1, cold_start };
    let (bin, units) = (5_000_000, 8);
    let demand = Demand::new(&jobs, model.slots, bin, units);
    eprintln!("{} jobs allowed {} bins {} most {}", jobs.len(), allowed, demand.bins.len(), demand.most_replicas);
    let machine = Machine { jobs: &jobs, slots: model.slots, cold_start };
    let base = demand;
    let mut best: Option<(i64, Vec<plan::Change>)> = None;
    let t = std::time::Instant::now();
    for caution in std::env::var("CAUTION").unwrap_or("0.1,0.3,0.6".into()).split(',').map(|v| v.parse::<f64>().unwrap()) {
    let mut demand = base.clone();
    for bin in &mut demand.bins { bin.patience *= caution; }
    let (mut low, mut high) = (1e-1_f64, 1e4_f64);
    for _ in 0..10 {
        let price = (low * high).sqrt();
        let changes = fluid::plan(&demand, rules, price);
        let mut search = improve::Search::new(machine, rules, changes, 60_000_000);
        let first = format!("{} {} {:.2}", search.changes().len(), search.missed(), search.billed() as f64 / 3.6e9);
        let mut passes = 0;
        while passes < 12 && search.pass(improve::Aim::Price(price)) > 0 { search.replay(); passes += 1; }
        eprintln!("caution {caution} price {price:.3} dp {first} {:?} passes {passes} changes {} missed {} hours {:.3}", t.elapsed(), search.changes().len(), search.missed(), search.billed() as f64 / 3.6e9);
        if search.missed() > allowed { low = price; } else { high = price;
        if best.as_ref().is_none_or(|best| search.billed() < best.0) { best = Some((search.billed(), search.changes().to_vec())); }
        if (search.missed() as f64 / allowed as f64 - 1.0).abs() < 0.005 { break; }
        }
    }}
    let changes = best.map(|best| best.1).unwrap_or_default();
    let mut search = improve::Search::new(machine, rules, changes, 60_000_000);
    for _ in 0..10 {
        let taken = search.pass(improve::Aim::Within(allowed));
        search.replay();
        eprintln!("within taken {taken} {:?} missed {} hours {:.3}", t.elapsed(), search.missed(), search.billed() as f64 / 3.6e9);
        if taken == 0 { break }
    }
    let timetable = rules.timetable(search.changes());
    let world = World { data_plane: DataPlane::Gateway, ..world.clone() };
    let report = simulate(&world, &Decider::Timetable(timetable.clone()), requests, false);
    eprintln!("{} missed {} hours {}", report.sent, report.sent - report.attained, report.replica_hours);
    Clairvoyant { timetable, report }
}
