//! Requests at the rate that a Prometheus server has seen: the JSON of a range query of requests per second, as
//! `/api/v1/query_range` answers `sum(rate(http_requests_total[5m]))`.
//!
//! The arrivals are a Poisson process whose rate is the sum of the series; lengths are drawn from log-normal laws.
//! What a rate does not tell, bursts shorter than its window above all, is not in the requests either.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    RangeQuery, RangeQueryError, RangeSeries, ReadError, Request, Workload,
    read::{MAX_ROWS, MAX_SECONDS, decompressed},
    shape::{ARRIVALS, INPUT, INPUT_TOKENS, OUTPUT, OUTPUT_TOKENS, stream, tokens},
};

/// What to generate, and from what.
#[derive(Clone, Debug, PartialEq)]
pub struct RateSpec {
    /// The answer of a range query: a matrix of requests per second.
    pub path: PathBuf,
    /// Half of the prompts have this many tokens at most.
    pub input_tokens: f64,
    /// Half of the answers have this many at most.
    pub output_tokens: f64,
    /// The same seed gives the same requests.
    pub seed: u64,
}

impl RateSpec {
    /// With the lengths of the built-in workload.
    pub fn new(path: PathBuf) -> Self {
        Self { path, input_tokens: INPUT_TOKENS.0, output_tokens: OUTPUT_TOKENS.0, seed: 1 }
    }
}

/// Why no requests can be made of a range query.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RateError {
    /// It cannot be opened or decompressed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is something else.
    #[error("{} is no answer of a Prometheus range query: {source}", path.display())]
    NotARangeQuery {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RangeQueryError,
    },
    /// A value is no rate.
    #[error("{} has the value {found} at {at}, wanted requests per second, 0 or more", path.display())]
    NotARate {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: f64,
        /// Its Unix time.
        at: f64,
    },
    /// The samples span too long a time, or would give too many requests.
    #[error("{} would give about {expected:.0} requests in {days:.0} days, more than {MAX_ROWS} or ten years", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
        /// How many there would be.
        expected: f64,
        /// How long they would take.
        days: f64,
    },
}

/// The steps of the query, each ending at its sample: a rate looks back.
struct Step {
    seconds: f64,
    rate: f64,
}

/// Makes the requests.
pub(crate) fn workload(spec: &RateSpec) -> Result<Workload, RateError> {
    let series = read(&spec.path)?;
    let samples = sum(&spec.path, &series)?;
    let (steps, mut notes) = steps(&samples);
    let expected: f64 = steps.iter().map(|step| step.seconds * step.rate).sum();
    let length: f64 = steps.iter().map(|step| step.seconds).sum();
    if expected > MAX_ROWS as f64 || length > MAX_SECONDS {
        return Err(RateError::TooMany { path: spec.path.clone(), expected, days: length / 86_400.0 });
    }
    if series.len() > 1 {
        notes.push(format!("{} series were added up", series.len()));
    }
    notes.push("arrivals are made from rates: bursts within the query's step are not in them".to_owned());
    let requests = requests(spec, &steps);
    if requests.is_empty() {
        return Err(ReadError::Empty { path: spec.path.clone() }.into());
    }
    Ok(Workload { requests, notes })
}

fn read(path: &Path) -> Result<Vec<RangeSeries>, RateError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(io)?;
    decompressed(file).map_err(io)?.read_to_string(&mut text).map_err(io)?;
    let not_one = |source| RateError::NotARangeQuery { path: path.to_owned(), source };
    Ok(RangeQuery::read(&text).map_err(not_one)?.series)
}

/// The sum of the series at each moment, over those that have a sample there.
fn sum(path: &Path, series: &[RangeSeries]) -> Result<Vec<(f64, f64)>, RateError> {
    // Keyed by the millisecond: the server's own precision.
    let mut total: BTreeMap<i64, f64> = BTreeMap::new();
    for &(at, rate) in series.iter().flat_map(|series| &series.samples) {
        if !(0.0..f64::INFINITY).contains(&rate) || !at.is_finite() {
            return Err(RateError::NotARate { path: path.to_owned(), found: rate, at });
        }
        *total.entry((at * 1e3).round() as i64).or_default() += rate;
    }
    Ok(total.into_iter().map(|(at, rate)| (at as f64 / 1e3, rate)).collect())
}

/// A gap of more than two steps is no quiet time: the rate after it is taken for all of it, and that is noted.
fn steps(samples: &[(f64, f64)]) -> (Vec<Step>, Vec<String>) {
    let steps: Vec<Step> =
        samples.windows(2).map(|pair| Step { seconds: pair[1].0 - pair[0].0, rate: pair[1].1 }).collect();
    let usual = steps.iter().map(|step| step.seconds).fold(f64::INFINITY, f64::min);
    let gaps = steps.iter().filter(|step| step.seconds > 2.0 * usual).count();
    let note = format!("{gaps} gaps between samples were filled with the rate after them");
    (steps, if gaps > 0 { vec![note] } else { Vec::new() })
}

fn requests(spec: &RateSpec, steps: &[Step]) -> Vec<Request> {
    let mut arrivals = stream(spec.seed, ARRIVALS);
    let (mut input, mut output) = (stream(spec.seed, INPUT), stream(spec.seed, OUTPUT));
    let mut requests = Vec::new();
    // Time is stretched so that the rate is one a second (Çinlar 1975): one draw a request.
    let (mut start, mut due) = (0.0, exponential(&mut arrivals));
    for step in steps {
        let load = step.seconds * step.rate;
        let mut passed = 0.0;
        while passed + due <= load {
            passed += due;
            due = exponential(&mut arrivals);
            requests.push(Request {
                arrival: Duration::from_secs_f64(start + passed / step.rate),
                input_tokens: tokens(like(spec.input_tokens, INPUT_TOKENS), &mut input),
                output_tokens: tokens(like(spec.output_tokens, OUTPUT_TOKENS), &mut output),
                cached_tokens: 0,
            });
        }
        due -= load - passed;
        start += step.seconds;
    }
    requests
}

fn exponential(rng: &mut ChaCha8Rng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

/// A law with another median and the same relative width.
fn like(median: f64, (of_median, of_p99): (f64, f64)) -> (f64, f64) {
    (median, median * of_p99 / of_median)
}
