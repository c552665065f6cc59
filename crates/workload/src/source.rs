//! Where a workload comes from, as a command line names it.

use std::{path::PathBuf, str::FromStr, time::Duration};

use crate::{ReadError, ServeGen, ServeGenError, ServeGenSpec, Workload, demo, read_trace};

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
}

/// Why there is no workload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The seed is no number.
    #[error("`{0}` is no workload: after `demo:` comes a seed, a whole number")]
    BadSeed(String),
    /// A part after `servegen:` makes no sense.
    #[error("`{text}` is no workload: {part} is `{found}`, wanted {wanted}")]
    BadServeGen {
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
    let bad = |part: &str, found: &str, wanted| SourceError::BadServeGen {
        text: text.to_owned(),
        part: part.to_owned(),
        found: found.to_owned(),
        wanted,
    };
    let (files, settings) = rest.split_once('?').unwrap_or((rest, ""));
    let (rates, tokens) =
        files.split_once(',').filter(|(rates, tokens)| !rates.is_empty() && !tokens.is_empty()).ok_or_else(
            || bad("what follows `servegen:`", files, "RATES,TOKENS: two files and a comma between"),
        )?;
    let mut spec = ServeGenSpec {
        rates: rates.into(),
        tokens: tokens.into(),
        replicas: DEFAULT_REPLICAS,
        slots: DEFAULT_SLOTS,
        seed: 1,
        from_day: 0.0,
        days: None,
    };
    for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        let number = || {
            let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| bad(name, value, "a number"))
        };
        match name {
            "replicas" => spec.replicas = number()?,
            "from_day" => spec.from_day = number()?,
            "days" => spec.days = Some(number()?),
            "slots" => spec.slots = value.parse().map_err(|_| bad(name, value, "a whole number"))?,
            "seed" => spec.seed = value.parse().map_err(|_| bad(name, value, "a whole number"))?,
            _ => return Err(bad("a setting", name, "replicas, slots, seed, from_day or days")),
        }
    }
    Ok(spec)
}
