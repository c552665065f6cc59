//! What the metadata of a trigger asks for.

use std::collections::HashMap;

/// What KEDA itself reads, and passes on with the rest.
const KEDAS_OWN: &[&str] = &["scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile"];
/// An HPA counts in thousandths.
const LEAST_TARGET: f64 = 0.001;

/// One trigger of a ScaledObject.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trigger {
    /// The scaler whose decision or queue it follows.
    pub(crate) scaler: String,
    pub(crate) metric: Metric,
    /// What one replica should have of the metric.
    pub(crate) target: f64,
}

/// What KEDA can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// The decided number of replicas.
    Desired,
    /// Requests that wait.
    Queued,
    /// Requests at replicas.
    InFlight,
}

impl Metric {
    const ALL: [Metric; 3] = [Metric::Desired, Metric::Queued, Metric::InFlight];

    /// The word in the metadata.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Metric::Desired => "desired",
            Metric::Queued => "queued",
            Metric::InFlight => "inFlight",
        }
    }

    /// What KEDA calls it in the HPA.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Metric::Desired => "forewarm-desired-replicas",
            Metric::Queued => "forewarm-queued-requests",
            Metric::InFlight => "forewarm-requests-in-flight",
        }
    }
}

/// What is wrong with the metadata.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum TriggerError {
    #[error("`scaler` is missing in the trigger's metadata: write the name of an InferenceScaler")]
    NoScaler,
    #[error("`metric: {0}` is none of `desired` (the default), `queued` and `inFlight`")]
    Metric(String),
    #[error(
        "`target` is missing in the trigger's metadata: `metric: {0}` needs the number of requests for one replica, such as `target: \"8\"`"
    )]
    NoTarget(&'static str),
    #[error(
        "`target: {0}` is no number of requests for one replica: write one of 0.001 or more, such as `\"8\"`"
    )]
    Target(String),
    #[error(
        "`target: {0}` does not go with `metric: desired`, which is a number of replicas already: leave it out"
    )]
    TargetOfDesired(String),
    #[error("`{0}` is unknown in the trigger's metadata: there are `scaler`, `metric` and `target`")]
    Unknown(String),
}

impl Trigger {
    pub(crate) fn read(metadata: &HashMap<String, String>) -> Result<Self, TriggerError> {
        let known = |name: &str| matches!(name, "scaler" | "metric" | "target") || KEDAS_OWN.contains(&name);
        // The first by name: a map has no order, and an error should not change from call to call.
        if let Some(unknown) = metadata.keys().filter(|name| !known(name)).min() {
            return Err(TriggerError::Unknown(unknown.clone()));
        }
        let scaler = metadata.get("scaler").filter(|name| !name.is_empty()).ok_or(TriggerError::NoScaler)?;
        let metric = match metadata.get("metric") {
            None => Metric::Desired,
            Some(word) => Metric::ALL
                .into_iter()
                .find(|metric| metric.word() == word)
                .ok_or_else(|| TriggerError::Metric(word.clone()))?,
        };
        let target = match (metric, metadata.get("target")) {
            (Metric::Desired, None) => 1.0,
            (Metric::Desired, Some(target)) => return Err(TriggerError::TargetOfDesired(target.clone())),
            (Metric::Queued | Metric::InFlight, None) => return Err(TriggerError::NoTarget(metric.word())),
            (Metric::Queued | Metric::InFlight, Some(target)) => target
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite() && *number >= LEAST_TARGET)
                .ok_or_else(|| TriggerError::Target(target.clone()))?,
        };
        Ok(Self { scaler: scaler.clone(), metric, target })
    }
}
