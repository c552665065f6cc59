//! forewarm's own policy on traces, at several objectives: what came of it beside what was asked for, and when the
//! misses were.
//!
//! `cargo run --release -p forewarm-sim --example policy -- [--cold-start SECONDS] [--min REPLICAS] [--warm-up HOURS]
//! [--clairvoyant] PERCENT,… WORKLOAD…`
//!
//! `--cold-start heavy:240` is a median with a heavy tail. `--min mean` is as many replicas as the mean load fills.
//! `--warm-up` gives so much of the workload as history, and judges the rest. `--clairvoyant` plans for what is judged
//! in the knowledge of it, from the same replicas on, and says what it attained. Misses are told apart by when the
//! request came, in multiples of what the objective allows:
//!
//! - `start`: in the first cold start of all.
//! - `onset`: in the first cold start of a busy spell. It begins when the load exceeds the replicas that are ready, and
//!   ends when it has not for ten minutes. Who did not see it coming could only have had more replicas all the time.
//! - `later`: in a spell, when replicas that were asked for at its beginning could have been there.
//! - `within`: while there were replicas enough for the mean load of 15 s.

#![expect(clippy::print_stdout, reason = "an example prints what it measured")]

mod spells;
mod steps;

use std::{error::Error, time::Duration};

use forewarm_core::{Bounds, ColdStartSpec, Environment, Forewarm, Policy, ScalerSpec};
use forewarm_sim::{
    ColdStartLaw, DataPlane, Decider, Objective, QueueOrder, Report, World, clairvoyant,
    engine::{EngineModel, SlotsModel},
    simulate, warm_up,
};
use forewarm_workload::WorkloadSource;
use spells::CALM;
use steps::{SLOTS, STEP, by_step};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).peekable();
    let mut option = |name: &str| -> Result<Option<String>, String> {
        match words.next_if(|word| word == name) {
            Some(_) => words.next().map(Some).ok_or(format!("{name} wants a value")),
            None => Ok(None),
        }
    };
    let cold_start = option("--cold-start")?.unwrap_or("240".to_owned());
    let (cold_start, cold_start_seconds) = match cold_start.strip_prefix("heavy:") {
        Some(median) => median.parse().map(|median| (ColdStartLaw::heavy_tailed(median), median))?,
        None => cold_start.parse().map(|seconds| (ColdStartLaw::fixed(seconds), seconds))?,
    };
    let min = option("--min")?;
    let history = option("--warm-up")?.map_or(Ok(0.0), |word| word.parse())?;
    let history = Duration::from_secs_f64(history * 3_600.0);
    let beside = words.next_if(|word| word == "--clairvoyant").is_some();
    let percents: Vec<f64> =
        words.next().ok_or("which percent?")?.split(',').map(str::parse).collect::<Result<_, _>>()?;
    println!(
        "{:<40} {:>7} {:>8} {:>8} {:>6} {:>6} {:>6} {:>6} {:>9} {:>10} {:>9} {:>6}{}",
        "workload",
        "percent",
        "missed %",
        "of asked",
        "start",
        "onset",
        "later",
        "within",
        "worst day",
        "worst hour",
        "GPU-hours",
        "starts",
        if beside { "  clairvoyant: GPU-hours, attained %, ratio" } else { "" },
    );
    for word in words {
        let mut requests = word.parse::<WorkloadSource>()?.load(None)?.requests;
        let mut judged = requests.split_off(requests.partition_point(|request| request.arrival < history));
        judged.iter_mut().for_each(|request| request.arrival -= history);
        let (load, _) = by_step(&judged);
        let min = match min.as_deref() {
            None => 1,
            Some("mean") => {
                (load.iter().sum::<f64>() / load.len() as f64 / f64::from(SLOTS)).ceil().max(1.0) as u32
            }
            Some(min) => min.parse()?,
        };
        for &percent in &percents {
            let ttft = Duration::from_secs(5);
            let world = World {
                engine: EngineModel::Slots(SlotsModel { slots: SLOTS }),
                cold_start: cold_start.clone(),
                data_plane: DataPlane::Gateway,
                queue_order: QueueOrder::LateYields,
                objective: Objective { ttft, percent },
                initial_replicas: min,
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
                ..ScalerSpec::new(
                    "policy",
                    Bounds::new(min, 1_000)?,
                    Policy::Forewarm(Forewarm { percent, ttft }),
                )
            };
            let decider = warm_up(&world, &Decider::core(spec), &requests, history);
            let report = simulate(&world, &decider, &judged, true);
            let missed = 1.0 - report.attainment();
            let allowance = world.objective.allowance();
            let [start, onset, later, within] = parts(&report, &load, cold_start_seconds)
                .map(|missed| missed / report.sent as f64 / allowance);
            print!(
                "{:<40} {percent:>7} {:>8.3} {:>8.2} {start:>6.2} {onset:>6.2} {later:>6.2} {within:>6.2} \
                 {:>9.3} {:>10.3} {:>9.1} {:>6}",
                word.chars().rev().take(40).collect::<String>().chars().rev().collect::<String>(),
                missed * 100.0,
                missed / allowance,
                report.worst_day * 100.0,
                report.worst_hour * 100.0,
                report.replica_hours,
                report.starts,
            );
            if beside {
                let plan = clairvoyant(&world, (min, 1_000), &judged).report;
                let ratio = report.replica_hours / plan.replica_hours;
                print!("  {:>10.1} {:>8.3} {ratio:>6.2}", plan.replica_hours, plan.attainment() * 100.0);
            }
            println!();
        }
    }
    Ok(())
}

/// Misses by when they came: first cold start, first cold start of a spell, later in it, with replicas enough.
fn parts(report: &Report, load: &[f64], cold_start_seconds: f64) -> [f64; 4] {
    // Decided at the end of a step, ready before the end of another.
    let cold_steps = (cold_start_seconds * 1e6 / STEP as f64).ceil() as usize + 1;
    let mut parts = [0.0; 4];
    let mut spell = None::<(usize, usize)>;
    let steps = load.iter().zip(report.timeline.moments.windows(2)).zip(&report.timeline.arrivals);
    for (step, ((&load, moments), arrivals)) in steps.enumerate() {
        let ready = moments.iter().map(|moment| moment.ready).min().unwrap_or_default();
        let exceeds = load > f64::from(ready * SLOTS);
        if exceeds {
            let began = spell.filter(|(_, last)| step - last <= CALM).map_or(step, |(began, _)| began);
            spell = Some((began, step));
        }
        let part = match spell {
            _ if step <= cold_steps => 0,
            Some((began, _)) if exceeds && step - began <= cold_steps => 1,
            _ if exceeds => 2,
            _ => 3,
        };
        parts[part] += f64::from(arrivals.missed);
    }
    parts
}
