//! Where a workload comes from, as a command line names it.

use std::{path::PathBuf, str::FromStr, time::Duration};

use crate::{ReadError, Workload, demo, read_trace};

/// A trace file, or the built-in workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadSource {
    /// A trace file in a known format.
    File(PathBuf),
    /// The built-in workload, `demo` or `demo:SEED`.
    Demo {
        /// The same seed gives the same requests.
        seed: u64,
    },
}

/// Why there is no workload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The seed is no number.
    #[error("`{0}` is no workload: after `demo:` comes a seed, a whole number")]
    BadSeed(String),
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
            WorkloadSource::File(path) => {
                let trace = read_trace(path)?;
                Ok(match length {
                    Some(length) => trace.window(Duration::ZERO, length),
                    None => trace,
                })
            }
        }
    }
}
