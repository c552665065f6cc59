//! What is served under which name.

use std::str::FromStr;

use forewarm_core::{KNOWN_METRICS, MetricMeaning, metric_meaning};
use forewarm_signals::engine::EngineSignal;

/// The signal's name in manifests and observations.
const GPU_UTILIZATION: &str = "gpu_utilization";

/// A metric that has a value for each pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Requests that nobody works on: those in the engine's queue, and the pod's share of those at the gateway.
    Pending,
    /// What the engine says about itself.
    Engine(EngineSignal),
    /// Percent of the time that the pod's GPUs were busy, as dcgm-exporter has it.
    GpuUtilization,
}

/// There is no metric of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMetric;

impl FromStr for Metric {
    type Err = UnknownMetric;

    /// By the names of forewarm's signals, and by those that a scaler's manifest may use for them.
    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        let signal = match metric_meaning(name) {
            Some(MetricMeaning::Waiting) => return Ok(Self::Pending),
            Some(MetricMeaning::Signal(signal)) => signal,
            None => name,
        };
        match signal {
            GPU_UTILIZATION => Ok(Self::GpuUtilization),
            _ => signal.parse().map(Self::Engine).map_err(|_| UnknownMetric),
        }
    }
}

/// Every name that is served.
pub fn metric_names() -> impl Iterator<Item = &'static str> {
    let known = KNOWN_METRICS.iter().map(|(name, _)| *name);
    known
        .filter(|name| name.parse::<Metric>().is_ok())
        .chain([GPU_UTILIZATION])
        .chain(EngineSignal::all().map(EngineSignal::name))
}
