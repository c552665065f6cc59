//! Where a workload comes from, as a command line names it.

use std::{path::PathBuf, str::FromStr, time::Duration};

use crate::{
    RateError, RateSpec, ReadError, ServeGen, ServeGenError, ServeGenSpec, Workload, demo, read_trace,
};

/// A trace file, or requests that are made.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkloadSource {
    /// A trace file in a known format.
    File(PathBuf),
    /// The built-in workload, `demo` or `demo:SEED`.
    Demo {
        /// The same seed gives the same requests.
        seed: u64,
    },
    /// Requests from per-client statistics,
    /// `servegen:RATES,TOKENS[?replicas=20&slots=8&seed=1&from_day=0&days=2]`.
    ServeGen(ServeGenSpec),
    /// Requests at the rate of a Prometheus range query,
    /// `prometheus:FILE[?input_tokens=1020&output_tokens=129&seed=1]`.
    Prometheus(RateSpec),
}

/// Why there is no workload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The seed is no number.
    #[error("`{0}` is no workload: after `demo:` comes a seed, a whole number")]
    BadSeed(String),
    /// A part after `servegen:` or `prometheus:` makes no sense.
    #[error("`{text}` is no workload: {part} is `{found}`, wanted {wanted}")]
    BadPart {
        /// The whole word.
        text: String,
        /// The part.
        part: String,
        /// What is there.
        found: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// Nothing can be generated.
    #[error(transparent)]
    ServeGen(#[from] ServeGenError),
    /// The rates cannot be used.
    #[error(transparent)]
    Rates(#[from] RateError),
    /// The trace cannot be used.
    #[error(transparent)]
    Trace(#[from] ReadError),
}

impl FromStr for WorkloadSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        match text.split_once(':') {
            None if text == "demo" => Ok(WorkloadSource::Demo { seed: 1 }),
            Some(("demo", seed)) => {
                let seed = seed.parse().map_err(|_| SourceError::BadSeed(text.to_owned()))?;
                Ok(WorkloadSource::Demo { seed })
            }
            Some(("servegen", rest)) => servegen(text, rest).map(WorkloadSource::ServeGen),
            Some(("prometheus", rest)) => prometheus(text, rest).map(WorkloadSource::Prometheus),
            _ => Ok(WorkloadSource::File(PathBuf::from(text))),
        }
    }
}

impl WorkloadSource {
    /// Reads or makes the requests of the first `length`; without a length, all of a trace or one round of
    /// the built-in workload.
    ///
    /// # Errors
    /// When a trace cannot be used.
    pub fn load(&self, length: Option<Duration>) -> Result<Workload, SourceError> {
        match self {
            WorkloadSource::Demo { seed } => Ok(demo(length.unwrap_or(crate::DEMO_LENGTH), *seed)),
            WorkloadSource::ServeGen(spec) => Ok(cut(ServeGen::open(spec)?.workload()?, length)),
            WorkloadSource::Prometheus(spec) => Ok(cut(crate::prometheus::workload(spec)?, length)),
            WorkloadSource::File(path) => Ok(cut(read_trace(path)?, length)),
        }
    }
}

fn cut(workload: Workload, length: Option<Duration>) -> Workload {
    match length {
        Some(length) => workload.window(Duration::ZERO, length),
        None => workload,
    }
}

/// Load without `replicas=`, in replicas: where the effects of whole replicas no longer rule.
const DEFAULT_REPLICAS: f64 = 20.0;
/// Slots without `slots=`: what the simple engine is given elsewhere.
const DEFAULT_SLOTS: u32 = 8;

fn servegen(text: &str, rest: &str) -> Result<ServeGenSpec, SourceError> {
    let (files, settings) = rest.split_once('?').unwrap_or((rest, ""));
    let (rates, tokens) = files
        .split_once(',')
        .filter(|(rates, tokens)| !rates.is_empty() && !tokens.is_empty())
        .ok_or_else(|| {
            let wanted = "RATES,TOKENS: two files and a comma between";
            bad(text, "what follows `servegen:`", files, wanted)
        })?;
    let mut spec = ServeGenSpec {
        rates: rates.into(),
        tokens: tokens.into(),
        replicas: DEFAULT_REPLICAS,
        slots: DEFAULT_SLOTS,
        seed: 1,
        from_day: 0.0,
        days: None,
    };
    for (name, value) in each(settings) {
        match name {
            "replicas" => spec.replicas = number(text, name, value)?,
            "from_day" => spec.from_day = number(text, name, value)?,
            "days" => spec.days = Some(number(text, name, value)?),
            "slots" => spec.slots = whole(text, name, value)?,
            "seed" => spec.seed = whole(text, name, value)?,
            _ => return Err(bad(text, "a setting", name, "replicas, slots, seed, from_day or days")),
        }
    }
    Ok(spec)
}

fn prometheus(text: &str, rest: &str) -> Result<RateSpec, SourceError> {
    let (file, settings) = rest.split_once('?').unwrap_or((rest, ""));
    let mut spec = RateSpec::new(file.into());
    for (name, value) in each(settings) {
        let median = || {
            let median = number(text, name, value)?;
            let good = (1.0..=MOST_TOKENS).contains(&median);
            if good {
                Ok(median)
            } else {
                Err(bad(text, name, value, "a number of tokens from 1 to 1,000,000"))
            }
        };
        match name {
            "input_tokens" => spec.input_tokens = median()?,
            "output_tokens" => spec.output_tokens = median()?,
            "seed" => spec.seed = whole(text, name, value)?,
            _ => return Err(bad(text, "a setting", name, "input_tokens, output_tokens or seed")),
        }
    }
    Ok(spec)
}

/// The longest median: beyond any model's context.
const MOST_TOKENS: f64 = 1e6;

/// The settings after the question mark.
fn each(settings: &str) -> impl Iterator<Item = (&str, &str)> {
    let settings = settings.split('&').filter(|setting| !setting.is_empty());
    settings.map(|setting| setting.split_once('=').unwrap_or((setting, "")))
}

fn number(text: &str, name: &str, value: &str) -> Result<f64, SourceError> {
    let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| bad(text, name, value, "a number"))
}

fn whole<T: FromStr>(text: &str, name: &str, value: &str) -> Result<T, SourceError> {
    value.parse().map_err(|_| bad(text, name, value, "a whole number"))
}

fn bad(text: &str, part: &str, found: &str, wanted: &'static str) -> SourceError {
    SourceError::BadPart { text: text.to_owned(), part: part.to_owned(), found: found.to_owned(), wanted }
}
