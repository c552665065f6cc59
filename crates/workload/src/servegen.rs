//! Generates requests from per-client statistics of a production service, in the way of `ServeGen` (Xiang et al.,
//! arXiv 2505.09999): each client keeps its own counts, gaps and lengths, so that the sum is as bursty as the real
//! one, at any volume.
//!
//! Ten minutes are made at a time: the requests of weeks at many replicas never lie in memory together unless
//! the caller collects them.

mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use table::{Count, Gaps, Lengths, TokenTable, WINDOW_SECONDS};

use crate::{ReadError, Request, Workload, read::MAX_ROWS};

/// Tokens a second that the simple engine reads: a request holds its slot for input / 5,000 + 0.03 × output
/// seconds.
pub const SIMPLE_ENGINE_INPUT_TOKENS_PER_SECOND: f64 = 5_000.0;
/// Seconds a token that the simple engine writes.
pub const SIMPLE_ENGINE_SECONDS_PER_OUTPUT_TOKEN: f64 = 0.03;

const DAY_SECONDS: f64 = 86_400.0;

/// The most replicas or slots: far beyond any fleet, and far below where a number loses its units.
const MOST: f64 = 1e6;
/// What days may exceed the table by: they are fractions of ten-minute windows that do not come out even.
const ROUNDING: f64 = 1e-9;

/// What to generate, and from what.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeGenSpec {
    /// Table `t_s,client,n,cv,iat_dist,iat_shape`: counts and gaps for each ten minutes.
    pub rates: PathBuf,
    /// Table `client,t_s,input_tokens_p05,…,output_tokens_max`: lengths for each six hours.
    pub tokens: PathBuf,
    /// Mean offered load, in replicas of `slots` slots under the simple engine.
    pub replicas: f64,
    /// Requests that a replica serves at a time.
    pub slots: u32,
    /// The same seed gives the same requests.
    pub seed: u64,
    /// First day of the tables to use, from 0.
    pub from_day: f64,
    /// Days to generate; `None` is up to the end of the tables.
    pub days: Option<f64>,
}

/// Why nothing can be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeGenError {
    /// A table cannot be used.
    #[error(transparent)]
    Table(#[from] ReadError),
    /// A table lacks a column.
    #[error("{} has no column `{column}`; its columns are `{found}`", path.display())]
    MissingColumn {
        /// The table.
        path: PathBuf,
        /// What is missing.
        column: &'static str,
        /// What is there, shortened.
        found: String,
    },
    /// A number is out of range.
    #[error("{name} is {found}, wanted {wanted}")]
    OutOfRange {
        /// Which number.
        name: &'static str,
        /// What it is.
        found: f64,
        /// What would be right.
        wanted: String,
    },
    /// No client has both counts and lengths in that time.
    #[error("no client with token lengths sends anything from day {from_day} to day {until_day}")]
    NoLoad {
        /// First day.
        from_day: f64,
        /// Day after the last.
        until_day: f64,
    },
    /// There would be more requests than fit in memory.
    #[error("about {expected} requests are more than {limit}: ask for fewer days or replicas")]
    TooMany {
        /// How many there would be.
        expected: u64,
        /// How many may be.
        limit: usize,
    },
}

/// A generator that has read its tables.
#[derive(Debug)]
pub struct ServeGen {
    windows: BTreeMap<u32, Vec<Count>>,
    lengths: TokenTable,
    scale: f64,
    expected_requests: f64,
    seed: u64,
    first_window: u32,
    notes: Vec<String>,
}

impl ServeGen {
    /// Reads the tables and finds the scale that gives the load asked for.
    ///
    /// Clients without token lengths are left out, as upstream does, and noted.
    ///
    /// # Errors
    /// When a table cannot be used, a number is out of range, or there is no load in that time.
    pub fn open(spec: &ServeGenSpec) -> Result<Self, ServeGenError> {
        let file =
            |path: &Path| File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source });
        Self::read(spec, file(&spec.rates)?, file(&spec.tokens)?)
    }

    /// As [`open`](Self::open), from tables that are not files; the paths of `spec` are their names in errors.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read(spec: &ServeGenSpec, rates: impl Read, tokens: impl Read) -> Result<Self, ServeGenError> {
        let positive = |name, found: f64, most: f64| {
            let wanted = || format!("a number above 0, {most:.2} at most");
            let good = found > 0.0 && found <= most;
            if good { Ok(found) } else { Err(ServeGenError::OutOfRange { name, found, wanted: wanted() }) }
        };
        let replicas = positive("replicas", spec.replicas, MOST)?;
        let slots = positive("slots", f64::from(spec.slots), MOST)?;
        let mut windows = table::read_counts(&spec.rates, rates)?;
        let lengths = TokenTable::read(&spec.tokens, tokens)?;
        let table_days = windows.last_key_value().map_or(0.0, |(&last, _)| in_days(last + 1));
        if !(0.0..table_days).contains(&spec.from_day) {
            let wanted = format!("0 to below {table_days:.2}, where the table ends");
            return Err(ServeGenError::OutOfRange { name: "from_day", found: spec.from_day, wanted });
        }
        let left = table_days - spec.from_day;
        let days = match spec.days {
            Some(days) => positive("days", days, left + ROUNDING)?,
            None => left,
        };
        let (first_window, window_count) = (in_windows(spec.from_day), in_windows(days).max(1));
        windows.retain(|&window, _| (first_window..first_window + window_count).contains(&window));
        let notes = leave_out(&mut windows, &lengths);
        let span_seconds = f64::from(window_count) * f64::from(WINDOW_SECONDS);
        let (mut requests, mut slot_seconds) = (0.0, 0.0);
        for (&window, count) in each(&windows) {
            if let Some(lengths) = lengths.at(count.client, window * WINDOW_SECONDS) {
                requests += count.requests as f64;
                slot_seconds += count.requests as f64 * service_seconds(lengths);
            }
        }
        if slot_seconds <= 0.0 {
            let until_day = spec.from_day + days;
            return Err(ServeGenError::NoLoad { from_day: spec.from_day, until_day });
        }
        let scale = replicas * slots * span_seconds / slot_seconds;
        let expected_requests = requests * scale;
        Ok(Self { windows, lengths, scale, expected_requests, seed: spec.seed, first_window, notes })
    }

    /// The factor on each client's counts.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// About how many requests there will be.
    pub fn expected_requests(&self) -> f64 {
        self.expected_requests
    }

    /// The requests in order of arrival, ten minutes made at a time.
    pub fn requests(&self) -> impl Iterator<Item = Request> + '_ {
        self.windows.iter().flat_map(|(&window, counts)| self.window(window, counts))
    }

    /// All of them at once.
    ///
    /// # Errors
    /// [`ServeGenError::TooMany`] when they would not fit in memory.
    pub fn workload(&self) -> Result<Workload, ServeGenError> {
        if self.expected_requests > MAX_ROWS as f64 {
            return Err(ServeGenError::TooMany { expected: self.expected_requests as u64, limit: MAX_ROWS });
        }
        let mut notes = vec![format!(
            "synthesised from per-client statistics of ServeGen, each count scaled by {:.6}",
            self.scale
        )];
        notes.extend(self.notes.iter().cloned());
        Ok(Workload { requests: self.requests().collect(), notes })
    }

    fn window(&self, window: u32, counts: &[Count]) -> Vec<Request> {
        let mut requests = Vec::new();
        for count in counts {
            let Some(lengths) = self.lengths.at(count.client, window * WINDOW_SECONDS) else { continue };
            let mut rng = stream(self.seed, count.client, window);
            // Stochastic rounding keeps the mean of clients that are scaled below one request.
            let scaled = count.requests as f64 * self.scale + rng.random::<f64>();
            let start = f64::from(window - self.first_window) * f64::from(WINDOW_SECONDS);
            for offset in arrivals(scaled as usize, count.gaps, &mut rng) {
                requests.push(Request {
                    arrival: Duration::from_secs_f64(start + offset),
                    input_tokens: lengths.input.sample(&mut rng),
                    output_tokens: lengths.output.sample(&mut rng),
                    cached_tokens: 0,
                });
            }
        }
        requests.sort_by_key(|request| request.arrival);
        requests
    }
}

fn in_days(windows: u32) -> f64 {
    f64::from(windows) * f64::from(WINDOW_SECONDS) / DAY_SECONDS
}

fn in_windows(days: f64) -> u32 {
    (days * DAY_SECONDS / f64::from(WINDOW_SECONDS)).round() as u32
}

/// Drops clients without token lengths; says how many, and how much of the traffic they were.
fn leave_out(windows: &mut BTreeMap<u32, Vec<Count>>, lengths: &TokenTable) -> Vec<String> {
    let (mut all, mut left_out, mut clients) = (0, 0, BTreeSet::new());
    for (_, count) in each(windows) {
        all += count.requests;
        if !lengths.has(count.client) {
            left_out += count.requests;
            clients.insert(count.client);
        }
    }
    windows.values_mut().for_each(|counts| counts.retain(|count| lengths.has(count.client)));
    if clients.is_empty() {
        return Vec::new();
    }
    let percent = 100.0 * left_out as f64 / all as f64;
    vec![format!("{} clients without token lengths ({percent:.0} % of requests) left out", clients.len())]
}

fn each(windows: &BTreeMap<u32, Vec<Count>>) -> impl Iterator<Item = (&u32, &Count)> {
    windows.iter().flat_map(|(window, counts)| counts.iter().map(move |count| (window, count)))
}

/// Mean time a request of these lengths holds a slot of the simple engine, in seconds.
fn service_seconds(lengths: &Lengths) -> f64 {
    lengths.input.mean() / SIMPLE_ENGINE_INPUT_TOKENS_PER_SECOND
        + lengths.output.mean() * SIMPLE_ENGINE_SECONDS_PER_OUTPUT_TOKEN
}

/// A stream of random numbers for one client in one window, so that neither the other clients nor the first day
/// asked for change what it sends.
fn stream(seed: u64, client: u32, window: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((u64::from(client) << 32) | u64::from(window));
    rng
}

/// Exactly `count` arrivals in a window, in seconds from its start: gaps of the law, stretched to fill the window
/// as on a circle and turned by a random angle, so that clients do not keep step at the windows' edges.
fn arrivals(count: usize, gaps: Gaps, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let window = f64::from(WINDOW_SECONDS);
    let turn = rng.random::<f64>() * window;
    let mut at = 0.0;
    let mut offsets: Vec<f64> = (0..count)
        .map(|_| {
            at += gaps.sample(rng);
            at
        })
        .collect();
    for offset in &mut offsets {
        // All gaps of a very bursty law may underflow to 0: then all come at once.
        let share = if at > 0.0 && at.is_finite() { *offset / at } else { 0.0 };
        *offset = (share * window + turn) % window;
    }
    offsets
}
