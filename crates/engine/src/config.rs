//! What an engine is told before it starts, and whether that makes sense.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::cold_start::ColdStart;
use crate::profile::EngineProfile;

/// Slowest allowed speed-up.
const MIN_SPEED: f64 = 0.001;
/// Fastest allowed speed-up: a 30 ms step lasts 3 µs, which is about what computing it costs.
const MAX_SPEED: f64 = 10_000.0;
/// Longest allowed shutdown timeout in seconds (a day).
const MAX_SHUTDOWN_TIMEOUT_SECONDS: f64 = 86_400.0;
/// Longest served model name in bytes; it is repeated in every streamed chunk.
const MAX_MODEL_NAME_BYTES: usize = 256;

/// Everything an engine needs to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Where to listen. Port 0 takes a free one, which the `ready` line names.
    pub listen: SocketAddr,
    /// The served model's name: the `model` that requests must ask for.
    pub model: String,
    /// How fast the imitated engine is.
    pub profile: EngineProfile,
    /// Divides every modelled time: at 60, a modelled minute takes a second. 0.001 to 10,000.
    pub speed: f64,
    /// What happens between the process's start and readiness.
    pub cold_start: ColdStart,
    /// What clients see during the cold start.
    pub loading: LoadingBehaviour,
    /// Most requests waiting or running at a time; more are refused with `503`. Unlimited if absent. As vLLM's
    /// `--max-num-queued-reqs`.
    pub max_num_queued_reqs: Option<u32>,
    /// Modelled seconds that requests in flight get to finish once the engine is told to stop. At 0 (vLLM's default)
    /// they never finish: their streams hang until the clients leave. As vLLM's `--shutdown-timeout`.
    pub shutdown_timeout_seconds: f64,
}

/// What clients see while the engine is starting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadingBehaviour {
    /// Connections are refused until the engine is ready.
    #[default]
    Vllm,
    /// The port listens at once and everything is answered `503` until the engine is ready.
    LlamaCpp,
}

impl Default for EngineConfig {
    /// The simple engine on vLLM's default port, at real speed, ready at once.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            model: "forewarm".into(),
            profile: EngineProfile::simple(crate::profile::SIMPLE_DEFAULT_SLOTS),
            speed: 1.0,
            cold_start: ColdStart::default(),
            loading: LoadingBehaviour::default(),
            max_num_queued_reqs: None,
            shutdown_timeout_seconds: 0.0,
        }
    }
}

/// One field that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Path of the field.
    pub field: String,
    /// What it holds.
    pub found: String,
    /// What would be right.
    pub wanted: String,
}

impl ConfigProblem {
    pub(crate) fn new(field: impl Into<String>, found: impl fmt::Display, wanted: impl Into<String>) -> Self {
        Self { field: field.into(), found: found.to_string(), wanted: wanted.into() }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}, wanted {}", self.field, self.found, self.wanted)
    }
}

/// A configuration that makes no sense, with every problem in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine's configuration has {} problem(s):{}", problems.len(), list(problems))]
pub struct InvalidConfig {
    /// All of them, in the order of the fields.
    pub problems: Vec<ConfigProblem>,
}

fn list(problems: &[ConfigProblem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

impl EngineConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// With all problems at once.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let mut problems = Vec::new();
        let printable = !self.model.is_empty() && !self.model.chars().any(char::is_control);
        if !printable || self.model.len() > MAX_MODEL_NAME_BYTES {
            let wanted = format!("1 to {MAX_MODEL_NAME_BYTES} bytes without control characters");
            problems.push(ConfigProblem::new("model", format!("{:?}", self.model), wanted));
        }
        self.profile.check(&mut problems);
        if !(MIN_SPEED..=MAX_SPEED).contains(&self.speed) {
            problems.push(ConfigProblem::new("speed", self.speed, format!("{MIN_SPEED} to {MAX_SPEED}")));
        }
        self.cold_start.check(&mut problems);
        if self.max_num_queued_reqs == Some(0) {
            let wanted = "at least 1 (leave it out for no limit)";
            problems.push(ConfigProblem::new("maxNumQueuedReqs", 0, wanted));
        }
        if !(0.0..=MAX_SHUTDOWN_TIMEOUT_SECONDS).contains(&self.shutdown_timeout_seconds) {
            let wanted = format!("0 to {MAX_SHUTDOWN_TIMEOUT_SECONDS}");
            problems.push(ConfigProblem::new(
                "shutdownTimeoutSeconds",
                self.shutdown_timeout_seconds,
                wanted,
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(InvalidConfig { problems }) }
    }
}
