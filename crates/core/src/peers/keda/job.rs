//! KEDA's `ScaledJob`: how many jobs to start for a queue, as of KEDA 2.21 (`scale_jobs.go`, `scaledjob/metrics.go`).
//!
//! Each job takes its messages, does them and ends; no job is ever stopped for there being too many.

use serde::{Deserialize, Serialize};

/// How jobs that are there already count against the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobStrategy {
    /// Every job that has not ended stands for its share of the queue: for queues whose messages stay in it, and are
    /// counted, until they are done.
    #[default]
    Default,
    /// A fixed number and a share of the jobs that have not ended are taken off.
    #[serde(rename_all = "camelCase")]
    Custom {
        /// Taken off (`customScalingQueueLengthDeduction`).
        queue_length_deduction: u32,
        /// Share of the jobs that have not ended, 0 to 1 (`customScalingRunningJobPercentage`).
        running_job_percentage: f64,
    },
    /// Only jobs that do not run yet stand for a message: for queues whose messages leave the count when they are
    /// taken.
    Accurate,
    /// All that fit, up to the queue's length.
    Eager,
}

impl JobStrategy {
    /// The name in manifests.
    pub const fn label(self) -> &'static str {
        match self {
            JobStrategy::Default => "default",
            JobStrategy::Custom { .. } => "custom",
            JobStrategy::Accurate => "accurate",
            JobStrategy::Eager => "eager",
        }
    }
}

/// What there is when jobs are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JobCounts {
    /// The queue's length.
    pub messages: f64,
    /// Messages that one job is worth.
    pub per_job: f64,
    /// Jobs that have not ended, those included that do not run yet.
    pub unfinished: i64,
    /// Jobs that do not run yet.
    pub pending: i64,
    /// `minReplicaCount`.
    pub min: i64,
    /// `maxReplicaCount`.
    pub max: i64,
}

/// How many jobs KEDA would create now.
///
/// With a minimum and the default strategy that may be more than the maximum allows, as it is in KEDA.
pub fn jobs_to_create(strategy: JobStrategy, counts: JobCounts) -> i64 {
    let JobCounts { messages, per_job, unfinished, pending, min, max } = counts;
    let is_active = messages > 0.0 || min > 0;
    if !is_active {
        return 0;
    }
    let worth = if per_job == 0.0 { 0.0 } else { messages / per_job };
    // `as` saturates; both are whole by then.
    let (scale_to, max_scale) = (messages.ceil() as i64, worth.min(max as f64).ceil() as i64);
    let (most, scale_to) = if unfinished < min {
        (min - unfinished, min - unfinished)
    } else {
        effective(strategy, max_scale, unfinished - min, pending, max, scale_to)
    };
    if most <= 0 { 0 } else { scale_to.min(most) }
}

/// `GetEffectiveMaxScale` of each strategy; `running` is above the minimum.
fn effective(
    strategy: JobStrategy,
    max_scale: i64,
    running: i64,
    pending: i64,
    max: i64,
    scale_to: i64,
) -> (i64, i64) {
    match strategy {
        JobStrategy::Default => (max_scale - running, scale_to),
        JobStrategy::Custom { queue_length_deduction, running_job_percentage } => {
            // Go cuts towards zero, as `as` does.
            let taken_off = (running as f64 * running_job_percentage) as i64;
            ((max_scale - i64::from(queue_length_deduction) - taken_off).min(max), scale_to)
        }
        JobStrategy::Accurate if max_scale + running - pending > max => (max - running, scale_to),
        JobStrategy::Accurate => (max_scale - pending, scale_to),
        JobStrategy::Eager => ((max - running - pending).min(max_scale), max),
    }
}
