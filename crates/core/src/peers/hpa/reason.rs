//! Why the HPA decided as it did: every intermediate value, typed, with a sentence for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a metric's status reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Observed {
    /// A total.
    Value {
        /// Milli-units.
        milli: i64,
    },
    /// A mean over pods or replicas.
    Average {
        /// Milli-units.
        milli: i64,
    },
    /// A share of the requests.
    Utilization {
        /// Percent.
        percent: i32,
        /// The mean behind it, in milli-units.
        average_milli: i64,
    },
}

/// How many pods were sorted where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCounts {
    /// With a usable sample.
    pub ready: usize,
    /// Pending, or initialising (CPU only).
    pub unready: usize,
    /// Without a sample.
    pub missing: usize,
    /// Failed, or being deleted.
    pub ignored: usize,
}

/// What was compared with what. Values are milli-units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "measure", rename_all = "camelCase")]
pub enum Measure {
    /// The mean over the sampled pods.
    PodAverage {
        /// Truncated.
        average: i64,
        /// Per pod.
        target: i64,
    },
    /// Percent of the sampled pods' requests.
    Utilization {
        /// Truncated to a whole percent.
        percent: i32,
        /// Percent.
        target: i32,
        /// The mean use.
        average: i64,
    },
    /// One number for the whole fleet.
    Total {
        /// As measured.
        value: i64,
        /// For the whole fleet.
        target: i64,
    },
    /// One number, shared by the existing replicas.
    PerReplica {
        /// As measured.
        value: i64,
        /// Per replica.
        target: i64,
        /// `status.replicas`, ready or not.
        replicas: i32,
    },
}

/// Why a metric proposes the count that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kept {
    /// The ratio is close enough to 1.
    WithinTolerance,
    /// Assumptions about silent pods turned growing into shrinking or the reverse.
    DirectionFlipped,
    /// The count went against the direction of the ratio.
    AgainstDirection,
}

/// How a metric came to its proposal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arithmetic {
    /// What was compared with what.
    #[serde(flatten)]
    pub measure: Measure,
    /// Usage over target; infinite or no number where nothing exists to share it.
    #[serde(with = "crate::peers::any_number")]
    pub ratio: f64,
    /// The pods behind a per-pod metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCounts>,
    /// The ratio with assumptions made about missing and unready pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjusted_ratio: Option<f64>,
    /// The pods that the ratio was multiplied by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiplied_by: Option<i64>,
    /// Why nothing changes, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

impl Arithmetic {
    pub(super) fn of(measure: Measure, ratio: f64) -> Self {
        Self { measure, ratio, pods: None, adjusted_ratio: None, multiplied_by: None, kept: None }
    }
}

/// One step of a reconcile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum HpaReason {
    /// The scale could not be read: nothing is done.
    ScaleUnreadable {
        /// In the API's words.
        error: String,
    },
    /// Somebody else set the target to zero, which switches the HPA off.
    Disabled,
    /// The count is outside of its bounds: it goes there at once, without window or speed limit.
    OutOfBounds {
        /// The count.
        current: i32,
        /// Where it goes.
        bound: i32,
    },
    /// A metric proposes a count.
    Proposal {
        /// Its place in the specification.
        index: usize,
        /// In the controller's words.
        metric: String,
        /// How.
        arithmetic: Arithmetic,
        /// The proposal.
        replicas: i32,
    },
    /// A metric gives no count.
    MetricFailed {
        /// Its place in the specification.
        index: usize,
        /// In the controller's words.
        metric: String,
        /// The condition's reason.
        reason: String,
        /// What is wrong.
        error: String,
    },
    /// The largest proposal counts.
    LargestProposal {
        /// It.
        replicas: i32,
        /// Whose.
        metric: String,
    },
    /// Metrics failed and the rest does not ask for more: nothing is done.
    MetricsUnusable {
        /// How many failed.
        failed: usize,
        /// Of how many.
        of: usize,
        /// What the others ask for.
        rest: i32,
    },
    /// Recent recommendations were taken into account.
    Stabilised {
        /// Before.
        wish: i32,
        /// After.
        result: i32,
        /// Lowest recommendation within the window for growing.
        lowest_recent: i32,
        /// Highest recommendation within the window for shrinking.
        highest_recent: i32,
    },
    /// A speed limit cuts the change.
    RateLimited {
        /// Before.
        wish: i32,
        /// How far it may go.
        allowed: i32,
        /// After.
        result: i32,
    },
    /// Minimum and maximum (and the speed limit, if one cut the change) were applied.
    Bounded {
        /// Before.
        wish: i32,
        /// The fewest.
        min: i32,
        /// The most.
        max: i32,
        /// After.
        result: i32,
    },
    /// Leaving zero, at least the minimum is started.
    RaisedFromZero {
        /// The minimum.
        min: i32,
    },
    /// The scale is written.
    Rescaled {
        /// Before.
        from: i32,
        /// After.
        to: i32,
        /// In the controller's words.
        why: String,
    },
    /// The scale stays.
    Unchanged {
        /// The count.
        replicas: i32,
    },
    /// The scale could not be written.
    UpdateFailed {
        /// What was to be written.
        replicas: i32,
        /// In the API's words.
        error: String,
    },
}

struct Milli(i64);

impl fmt::Display for Milli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Exact up to 2^53 milli-units, and only a text beyond.
        write!(f, "{}", self.0 as f64 / 1000.0)
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measure {
            Measure::PodAverage { average, target } => {
                write!(f, "average {} per pod / target {}", Milli(average), Milli(target))?;
            }
            Measure::Utilization { percent, target, .. } => {
                write!(f, "{percent} % of requests / target {target} %")?;
            }
            Measure::Total { value, target } => {
                write!(f, "{} / target {}", Milli(value), Milli(target))?;
            }
            Measure::PerReplica { value, target, replicas } => {
                write!(f, "{} / (target {} × {replicas} replicas)", Milli(value), Milli(target))?;
            }
        }
        write!(f, " = {:.4}", self.ratio)?;
        if let Some(pods) = self.pods
            && pods.unready + pods.missing + pods.ignored > 0
        {
            write!(
                f,
                " over {} pods ({} not ready, {} without a sample, {} ignored)",
                pods.ready, pods.unready, pods.missing, pods.ignored
            )?;
        }
        if let Some(ratio) = self.adjusted_ratio {
            write!(f, ", {ratio:.4} with cautious values for the silent pods")?;
        }
        match self.kept {
            Some(Kept::WithinTolerance) => f.write_str(", within tolerance"),
            Some(Kept::DirectionFlipped) => f.write_str(", whose direction flips"),
            Some(Kept::AgainstDirection) => f.write_str(", but the count would go the other way"),
            None => match self.multiplied_by {
                Some(pods) => write!(f, ", × {pods} pods"),
                None => Ok(()),
            },
        }
    }
}

impl fmt::Display for HpaReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ScaleUnreadable { error } => {
                write!(f, "the scale cannot be read ({error}): nothing is done")
            }
            Self::Disabled => {
                f.write_str("scaling is disabled since the replica count of the target is zero")
            }
            Self::OutOfBounds { current, bound } => {
                write!(f, "{current} is out of bounds: straight to {bound}, without window or speed limit")
            }
            Self::Proposal { metric, arithmetic, replicas, .. } => {
                write!(f, "{metric}: {arithmetic} → {replicas}")
            }
            Self::MetricFailed { metric, reason, error, .. } => write!(f, "{metric}: {reason}: {error}"),
            Self::LargestProposal { replicas, metric } => {
                write!(f, "the largest proposal counts: {replicas}, from {metric}")
            }
            Self::MetricsUnusable { failed, of, .. } if failed == of => {
                write!(f, "no metric of {of} is usable: nothing is done")
            }
            Self::MetricsUnusable { failed, of, rest } => {
                write!(
                    f,
                    "{failed} of {of} metrics failed and the others ask for only {rest}: nothing is done"
                )
            }
            Self::Stabilised { wish, result, lowest_recent, highest_recent } => write!(
                f,
                "stabilised: {wish} → {result} (recent recommendations between {lowest_recent} and {highest_recent})"
            ),
            Self::RateLimited { wish, allowed, result } => {
                write!(f, "speed limit: {wish} → {result} (up to {allowed} is allowed now)")
            }
            Self::Bounded { wish, min, max, result } => write!(f, "bounds {min} to {max}: {wish} → {result}"),
            Self::RaisedFromZero { min } => {
                write!(f, "leaving zero, at least the minimum of {min} is started")
            }
            Self::Rescaled { from, to, why } => write!(f, "rescaled from {from} to {to}: {why}"),
            Self::Unchanged { replicas } => write!(f, "stays at {replicas}"),
            Self::UpdateFailed { replicas, error } => write!(f, "writing {replicas} failed: {error}"),
        }
    }
}
