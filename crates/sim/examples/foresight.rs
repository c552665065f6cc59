//! How much of the cost is what nobody can know: replicas for 99 %, by somebody who knows more than any forecaster.
//!
//! `cargo run --release -p forewarm-sim --example foresight -- WORKLOAD…`
//!
//! - `cold start`: the load of the whole next cold start is known, step by step. Replicas are kept for the largest of it,
//!   times a factor.
//! - `rates`: how many requests each client sends is known, of all ten minutes that were and will be, and only their
//!   moments are not. Only for `servegen:` workloads: the same counts are drawn with other seeds, and replicas are kept for
//!   the mean of these loads in ten minutes and so many standard deviations.
//! - `habits`: what usually followed, on this very trace, when the load had been like this, and nothing else: a forest of
//!   decision trees, fitted in hindsight to all steps but the hours around. `by heart` is the same, fitted to those as
//!   well: it remembers part of what came. Unlike the policy, neither sees the queue.
//!
//! The factor, or the number, is the least that attains the objective in hindsight; of `habits` it is the probability from
//! which a replica is kept, as −ln. 8 slots a replica, a cold start of
//! 240 s, a first token within 5 s, from one replica, late requests yield.

#![expect(clippy::print_stdout, reason = "an example prints what it measured")]

mod forest;
mod steps;

use std::{error::Error, time::Duration};

use forest::Course;
use forewarm_sim::{
    ColdStartLaw, DataPlane, Decider, Objective, QueueOrder, Step, World,
    engine::{EngineModel, SlotsModel},
    simulate,
};
use forewarm_workload::{Request, WorkloadSource};
use steps::{SLOTS, STEP, by_step};

const COLD_START_SECONDS: f64 = 240.0;
/// Other draws of the same rates.
const DRAWS: u64 = 15;
/// Steps in ten minutes, for which counts are known.
const WINDOW: usize = 600_000_000 / STEP as usize;

fn main() -> Result<(), Box<dyn Error>> {
    println!("{:<10} {:>9} {:>10} {:>10}  workload", "known", "margin", "attained %", "GPU-hours");
    for word in std::env::args().skip(1) {
        let source: WorkloadSource = word.parse()?;
        let requests = source.load(None)?.requests;
        let (load, _) = by_step(&requests);
        let steps = load.len();
        show("cold start", &word, &requests, &|factor| ahead(steps, &|step| factor * load[step]));
        let course = Course::of(&load);
        for (known, apart) in [("habits", true), ("by heart", false)] {
            let laws = course.laws(apart);
            show(known, &word, &requests, &|margin| laws.replicas((-margin).exp()));
        }
        if let WorkloadSource::ServeGen(spec) = source {
            let mut draws = Vec::new();
            for seed in (1..).filter(|seed| *seed != spec.seed).take(DRAWS as usize) {
                let other = forewarm_workload::ServeGenSpec { seed, ..spec.clone() };
                draws.push(by_step(&WorkloadSource::ServeGen(other).load(None)?.requests).0);
            }
            let law = law(&draws, load.len());
            show("rates", &word, &requests, &|margin| {
                ahead(steps, &|step| {
                    let (mean, deviation) = law[step / WINDOW];
                    mean + margin * deviation
                })
            });
        }
    }
    Ok(())
}

/// Mean and standard deviation of the load in each ten minutes, over all draws.
fn law(draws: &[Vec<f64>], steps: usize) -> Vec<(f64, f64)> {
    let window = |start: usize| {
        let loads: Vec<f64> =
            draws.iter().flat_map(|load| load.iter().skip(start).take(WINDOW)).copied().collect();
        let count = loads.len().max(1) as f64;
        let mean = loads.iter().sum::<f64>() / count;
        let square = loads.iter().map(|load| (load - mean).powi(2)).sum::<f64>() / count;
        (mean, square.sqrt())
    };
    (0..steps).step_by(WINDOW).map(window).collect()
}

/// For each step, replicas for the largest load that is needed until one that is started then is ready.
fn ahead(steps: usize, needed: &dyn Fn(usize) -> f64) -> Vec<u32> {
    let ahead = (COLD_START_SECONDS * 1e6 / STEP as f64).ceil() as usize;
    (0..steps)
        .map(|step| {
            let until = (step + ahead + 1).min(steps);
            let most = (step..until).map(needed).fold(0.0, f64::max);
            (most / f64::from(SLOTS)).ceil() as u32
        })
        .collect()
}

/// Finds the least margin that attains the objective, and prints what it costs. `wanted` is the replicas at each step, at a
/// margin.
fn show(known: &str, word: &str, requests: &[Request], wanted: &dyn Fn(f64) -> Vec<u32>) {
    let world = World {
        engine: EngineModel::Slots(SlotsModel { slots: SLOTS }),
        cold_start: ColdStartLaw::fixed(COLD_START_SECONDS),
        data_plane: DataPlane::Gateway,
        queue_order: QueueOrder::LateYields,
        objective: Objective { ttft: Duration::from_secs(5), percent: 99.0 },
        initial_replicas: 1,
        provider_capacity: None,
        seed: 1,
    };
    let run = |margin: f64| {
        let step = |(step, replicas): (usize, u32)| Step {
            at: step as u64 * STEP,
            replicas: replicas.clamp(1, 1_000),
        };
        let timetable = wanted(margin).into_iter().enumerate().map(step).collect();
        simulate(&world, &Decider::Timetable(timetable), requests, false)
    };
    let (mut low, mut high) = (-2.0, 8.0);
    for _ in 0..10 {
        let middle = f64::midpoint(low, high);
        if run(middle).attainment() >= world.objective.percent / 100.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    let report = run(high);
    println!(
        "{known:<10} {high:>9.2} {:>10.2} {:>10.1}  {word}",
        report.attainment() * 100.0,
        report.replica_hours
    );
}
