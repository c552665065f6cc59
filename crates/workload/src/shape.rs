//! The built-in workload of the demo: nothing to download, the same for the same seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

use crate::{Request, Workload};

/// Length of one round of the demo.
pub const DEMO_LENGTH: Duration = Duration::from_secs(30 * 60);

/// Streams of random numbers, one a purpose, so that one more draw here does not move the others.
pub(crate) const ARRIVALS: u64 = 0;
pub(crate) const INPUT: u64 = 1;
pub(crate) const OUTPUT: u64 = 2;

/// Median and 99th percentile of a prompt, and of an answer, in tokens: of the Azure LLM inference trace
/// 2023, conversation (Patel et al., Splitwise, ISCA 2024; CC-BY).
pub(crate) const INPUT_TOKENS: (f64, f64) = (1_020.0, 4_142.0);
pub(crate) const OUTPUT_TOKENS: (f64, f64) = (129.0, 601.0);
/// The 99 % quantile of the standard normal distribution.
const Z_99: f64 = 2.326;

/// Requests that begin with silence, so that the fleet is idle; then a burst, a quiet time, a swell like
/// a working day with bursts on it, and an ebb. Rounds repeat until `length` is full.
pub fn demo(length: Duration, seed: u64) -> Workload {
    let mut arrivals = stream(seed, ARRIVALS);
    let (mut input, mut output) = (stream(seed, INPUT), stream(seed, OUTPUT));
    let mut requests = Vec::new();
    let mut now = 0.0;
    // Thinning (Lewis & Shedler 1979): candidates at the highest rate, kept in proportion to the rate.
    while now < length.as_secs_f64() {
        now += -(1.0 - arrivals.random::<f64>()).ln() / PEAK_RATE;
        let keep = arrivals.random::<f64>() < rate(now % DEMO_LENGTH.as_secs_f64()) / PEAK_RATE;
        if keep && now < length.as_secs_f64() {
            requests.push(Request {
                arrival: Duration::from_secs_f64(now),
                input_tokens: tokens(INPUT_TOKENS, &mut input),
                output_tokens: tokens(OUTPUT_TOKENS, &mut output),
                cached_tokens: 0,
            });
        }
    }
    Workload { requests, notes: Vec::new() }
}

pub(crate) fn stream(seed: u64, purpose: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose);
    rng
}

/// The highest rate of [`rate`], in requests a second.
const PEAK_RATE: f64 = 9.0;

/// Requests a second at a moment of the round.
fn rate(second: f64) -> f64 {
    match second {
        s if s < 30.0 => 0.0,
        // A burst on an idle fleet: sixty requests in ten seconds.
        s if s < 40.0 => 6.0,
        s if s < 300.0 => 0.8,
        // A swell: up in ten minutes, down in as many, its top as broad as a morning.
        s if s < 1_500.0 => {
            let wave = ((s - 300.0) / 1_200.0 * std::f64::consts::PI).sin();
            let burst = if (850.0..880.0).contains(&s) { 3.5 } else { 0.0 };
            0.8 + 4.5 * wave + burst
        }
        _ => 0.3,
    }
}

pub(crate) fn tokens((median, p99): (f64, f64), rng: &mut ChaCha8Rng) -> u32 {
    let sigma = (p99 / median).ln() / Z_99;
    // Both are constants above, so the law exists; the median stands in if it did not.
    let drawn = LogNormal::new(median.ln(), sigma).map_or(median, |law| law.sample(rng));
    (drawn.round() as u32).clamp(1, 4 * p99 as u32)
}
