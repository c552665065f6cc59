//! Batch work: a policy over the messages of a queue.

use std::time::Duration;

use forewarm_core::{QueuePolicy, Requests, SignalName, peers::keda::JobStrategy};
use serde::Serialize;

use super::{NamedSignal, policy::requests};
use crate::{
    cursor::{Cursor, Fields},
    quantity::write_duration,
};

pub(super) fn read(at: &Cursor<'_>) -> Option<QueuePolicy> {
    let fields = at.fields()?;
    let name = |field, default: &str| {
        fields.get(field).map_or_else(|| Some(default.to_owned()), |at| at.text()).map(SignalName::from)
    };
    let signal = name("signal", QueuePolicy::SIGNAL);
    let in_flight = name("inFlight", QueuePolicy::IN_FLIGHT);
    let per_replica = fields.get("perReplica").map(|at| requests(&at));
    let visibility_timeout = fields.get("visibilityTimeout").map(|at| at.positive_duration());
    let jobs = fields.get("scalingStrategy").map(|at| strategy(&at));
    fields.finish();
    let default = || Requests::new(QueuePolicy::PER_REPLICA).ok();
    Some(QueuePolicy {
        signal: signal?,
        in_flight: in_flight?,
        per_replica: per_replica.unwrap_or_else(default)?,
        visibility_timeout: match visibility_timeout {
            None => None,
            Some(timeout) => Some(timeout?),
        },
        jobs: match jobs {
            None => None,
            Some(strategy) => Some(strategy?),
        },
    })
}

/// `scalingStrategy` of a ScaledJob, by KEDA's names.
fn strategy(at: &Cursor<'_>) -> Option<JobStrategy> {
    let fields = at.fields()?;
    let words = [
        ("default", JobStrategy::Default),
        ("custom", JobStrategy::Custom { queue_length_deduction: 0, running_job_percentage: 0.0 }),
        ("accurate", JobStrategy::Accurate),
        ("eager", JobStrategy::Eager),
    ];
    let strategy = fields.get("strategy").map_or(Some(JobStrategy::Default), |at| at.one_of(&words));
    let deduction = fields.get("customScalingQueueLengthDeduction").map(|at| at.whole(0, u32::MAX));
    let percentage = fields.get("customScalingRunningJobPercentage").map(|at| share(&at));
    fields.finish();
    Some(match strategy? {
        JobStrategy::Custom { .. } => JobStrategy::Custom {
            queue_length_deduction: deduction.unwrap_or(Some(0))?,
            running_job_percentage: percentage.unwrap_or(Some(0.0))?,
        },
        other @ (JobStrategy::Default | JobStrategy::Accurate | JobStrategy::Eager) => {
            if deduction.is_some() || percentage.is_some() {
                at.problem(
                    format!("settings of `custom` beside `{}`", other.label()),
                    "`strategy: custom`, or none of them",
                );
                return None;
            }
            other
        }
    })
}

/// A share from 0 to 1, which KEDA has as text.
fn share(at: &Cursor<'_>) -> Option<f64> {
    let share = at.node.text().and_then(|text| text.parse::<f64>().ok());
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    if share.is_none() {
        at.wanted("a share from 0 to 1");
    }
    share
}

/// What of it cannot be told from the policy alone.
pub(super) fn check(
    policy: &QueuePolicy,
    fields: &Fields<'_>,
    signals: &[NamedSignal],
    drain_deadline: Option<Duration>,
) {
    let note = |path: &[&str], found: String, wanted: &str| {
        let at = fields.at.node.at(path).map_or(fields.span(), |at| at.span);
        fields.at.out.add(&fields.path_of(&path.join(".")), at, found, wanted);
    };
    let is_read = |name: &str| signals.iter().any(|signal| signal.name == name);
    let signal = policy.signal.as_str();
    if !is_read(signal) {
        let found = format!("`{signal}`, which is not one of `signals`");
        note(&["policy", "queue", "signal"], found, "the name of a signal that counts messages");
    }
    let in_flight = policy.in_flight.as_str();
    // That one may come from a hook.
    if in_flight != QueuePolicy::IN_FLIGHT && !is_read(in_flight) {
        let found = format!("`{in_flight}`, which is not one of `signals`");
        note(&["policy", "queue", "inFlight"], found, "the name of a signal that counts messages at workers");
    }
    if let (Some(timeout), Some(deadline)) = (policy.visibility_timeout, drain_deadline)
        && timeout > deadline
    {
        let found = format!("{}, longer than `drainDeadline`", write_duration(timeout));
        let wanted = "at most that, or a longer `drainDeadline`: when it is over, a worker is stopped with its message";
        note(&["policy", "queue", "visibilityTimeout"], found, wanted);
    }
    if fields.at.node.get("models").is_some() {
        let found = "models of workers that take messages from a queue".to_owned();
        note(&["models"], found, "none: the gateway sends them nothing");
    }
}

/// The policy with every default written out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueueLine<'a> {
    signal: &'a str,
    in_flight: &'a str,
    per_replica: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    visibility_timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scaling_strategy: Option<StrategyLine>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StrategyLine {
    strategy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_scaling_queue_length_deduction: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_scaling_running_job_percentage: Option<f64>,
}

impl<'a> QueueLine<'a> {
    pub(super) fn of(policy: &'a QueuePolicy) -> Self {
        let QueuePolicy { signal, in_flight, per_replica, visibility_timeout, jobs } = policy;
        Self {
            signal: signal.as_str(),
            in_flight: in_flight.as_str(),
            per_replica: per_replica.get(),
            visibility_timeout: visibility_timeout.map(write_duration),
            scaling_strategy: jobs.map(|strategy| {
                let custom = match strategy {
                    JobStrategy::Custom { queue_length_deduction, running_job_percentage } => {
                        Some((queue_length_deduction, running_job_percentage))
                    }
                    JobStrategy::Default | JobStrategy::Accurate | JobStrategy::Eager => None,
                };
                StrategyLine {
                    strategy: strategy.label(),
                    custom_scaling_queue_length_deduction: custom.map(|(deduction, _)| deduction),
                    custom_scaling_running_job_percentage: custom.map(|(_, percentage)| percentage),
                }
            }),
        }
    }
}
