//! What nobody could know: how much is missed in the first cold start of each busy spell by a fleet that, from the
//! spell's first moment on, knows everything, but has only `k` replicas until new ones are ready.
//!
//! A spell begins when the load first exceeds what the k replicas carry, and ends when it has not for ten minutes.
//! What the table shows is the least that any policy misses that does not know beforehand when spells begin.
//!
//! `cargo run --release -p forewarm-sim --example onsets -- [--cold-start SECONDS] WORKLOAD…`

#![expect(clippy::print_stdout, reason = "an example prints what it measured")]

mod spells;
mod steps;

use std::error::Error;

use forewarm_workload::WorkloadSource;
use spells::CALM;
use steps::{SLOTS, STEP, by_step};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).peekable();
    let mut cold_start_seconds = 240.0;
    if words.next_if(|word| word == "--cold-start").is_some() {
        cold_start_seconds = words.next().ok_or("--cold-start wants seconds")?.parse()?;
    }
    let cold_steps = (cold_start_seconds * 1e6 / STEP as f64).ceil() as usize;
    for word in words {
        let requests = word.parse::<WorkloadSource>()?.load(None)?.requests;
        let (load, arrivals) = by_step(&requests);
        let hours = load.len() as f64 * STEP as f64 / 3.6e9;
        println!("{word}\n{:>8} {:>8} {:>10} {:>16}", "replicas", "spells", "missed %", "replica-hours");
        for replicas in 1..=10_u32 {
            let (spells, missed) = onsets(&load, &arrivals, f64::from(replicas * SLOTS), cold_steps);
            let share = missed / requests.len() as f64;
            println!(
                "{replicas:>8} {spells:>8} {:>10.3} {:>16.0}",
                share * 100.0,
                f64::from(replicas) * hours
            );
        }
    }
    Ok(())
}

/// The number of spells, and the requests missed in the first cold start of each.
fn onsets(load: &[f64], arrivals: &[f64], capacity: f64, cold_steps: usize) -> (usize, f64) {
    let (mut spells, mut missed) = (0, 0.0);
    let (mut began, mut last) = (0, None::<usize>);
    for (step, (&load, &arrived)) in
        load.iter().zip(arrivals).enumerate().filter(|(_, (load, _))| **load > capacity)
    {
        if last.is_none_or(|last| step - last > CALM) {
            spells += 1;
            began = step;
        }
        last = Some(step);
        if step - began <= cold_steps {
            missed += arrived * (1.0 - capacity / load);
        }
    }
    (spells, missed)
}
