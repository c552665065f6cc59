//! Prints a trace that comes again: what a forecast can know that looks at the clock.
//!
//! `cargo run --release -p forewarm-workload --example seasons -- KIND DAYS [SEED] > KIND.csv`
//!
//! - `hourly`: one and a half replicas, and each hour, give or take 20 s, a job of seven more for about eight minutes.
//! - `nightly`: an office of half the size, and each night at two a job of eight replicas for forty minutes.
//! - `office`: one replica, and from nine to six ten, with half of it at lunch.
//! - `week`: the same, and nothing of it on the last two days of each seven.
//!
//! On all of it lies noise: each day is 12 % larger or smaller than usual, each ten minutes 20 %, and requests come at random.
//! A replica is eight requests at a time of six seconds.

use std::{error::Error, io::Write};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, Normal, Poisson};

/// Requests a second that a replica takes.
const REPLICA: f64 = 1.35;
const STEP_SECONDS: f64 = 5.0;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 24.0 * HOUR;
/// Standard deviations, in logarithms, and how long the noise remembers.
const DAY_NOISE: f64 = 0.12;
const NOISE: f64 = 0.2;
const NOISE_SECONDS: f64 = 600.0;

/// Work beside what is always there: from when, for how long, and how many replicas.
type Jobs = Vec<(f64, f64, f64)>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let kind = words.next().ok_or("which kind: hourly, nightly, office or week?")?;
    let days: u32 = words.next().ok_or("how many days?")?.parse()?;
    let seed = words.next().map_or(Ok(1), |word| word.parse())?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let normal = Normal::new(0.0, 1.0)?;
    let jobs = jobs(&kind, days, &mut random, normal)?;
    let (prompt, answer) = (LogNormal::new(6.0, 0.8)?, LogNormal::new(5.0, 0.7)?);
    let daily: Vec<f64> = (0..days).map(|_| (DAY_NOISE * normal.sample(&mut random)).exp()).collect();
    let kept = (-STEP_SECONDS / NOISE_SECONDS).exp();
    let (mut noise, mut out) = (0.0, std::io::BufWriter::new(std::io::stdout().lock()));
    writeln!(out, "arrival_s,input_tokens,output_tokens")?;
    for step in 0..(f64::from(days) * DAY / STEP_SECONDS) as u64 {
        let at = step as f64 * STEP_SECONDS;
        noise = kept * noise + NOISE * (1.0 - kept * kept).sqrt() * normal.sample(&mut random);
        let jobs = jobs.iter().filter(|(from, length, _)| (*from..from + length).contains(&at));
        let replicas = usual(&kind, at) + jobs.map(|(_, _, replicas)| replicas).sum::<f64>();
        let day = daily.get((at / DAY) as usize).copied().unwrap_or(1.0);
        let rate = REPLICA * replicas * day * (noise - NOISE * NOISE / 2.0).exp();
        let count = Poisson::new(rate * STEP_SECONDS)?.sample(&mut random) as u32;
        let mut arrivals: Vec<f64> = (0..count).map(|_| at + STEP_SECONDS * random.random::<f64>()).collect();
        arrivals.sort_by(f64::total_cmp);
        for arrival in arrivals {
            let mut tokens = |law: LogNormal<f64>| law.sample(&mut random).clamp(5.0, 8_000.0) as u32;
            writeln!(out, "{arrival:.3},{},{}", tokens(prompt), tokens(answer))?;
        }
    }
    Ok(())
}

/// Replicas that are busy as a rule.
fn usual(kind: &str, at: f64) -> f64 {
    let hour = at % DAY / HOUR;
    // Two minutes to come, a quarter of an hour to go.
    let there = ((hour - 9.0) * 30.0).clamp(0.0, 1.0) * ((18.0 - hour) * 4.0).clamp(0.0, 1.0);
    let lunch = ((hour - 12.0) * 12.0).clamp(0.0, 1.0) * ((13.0 - hour) * 12.0).clamp(0.0, 1.0);
    let office = 9.0 * there * (1.0 - 0.5 * lunch);
    match kind {
        "hourly" => 1.5,
        "nightly" => 0.5 * (1.0 + office),
        "week" if at / DAY % 7.0 >= 5.0 => 1.0,
        _ => 1.0 + office,
    }
}

fn jobs(kind: &str, days: u32, random: &mut ChaCha8Rng, normal: Normal<f64>) -> Result<Jobs, String> {
    let mut near = |deviation: f64| deviation * normal.sample(random);
    match kind {
        "hourly" => Ok((0..days * 24)
            .map(|hour| {
                let from = f64::from(hour) * HOUR + near(20.0);
                (from, 480.0 * near(0.2).exp(), 7.0 * near(0.25).exp())
            })
            .collect()),
        "nightly" => {
            Ok((0..days).map(|day| (f64::from(day) * DAY + 2.0 * HOUR + near(60.0), 2_400.0, 8.0)).collect())
        }
        "office" | "week" => Ok(Jobs::new()),
        _ => Err(format!("`{kind}` is none of hourly, nightly, office and week")),
    }
}
