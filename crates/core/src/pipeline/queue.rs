//! Batch work: workers that take messages from a queue by themselves.
//!
//! Nobody holds messages back from a worker that drains: it is told to take no more. So what it holds counts only when
//! that was read after it was told; until then it may hold one that nobody has counted.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Evidence, Missing, Phase, Policy, QueuePolicy, Reading, Reason, Replica, ReplicaId, Requests,
    ScalerState, Signal, SignalName, Timestamp,
    peers::keda::{JobCounts, JobStrategy, jobs_to_create},
    pipeline::{Draft, propose::Proposals},
};

/// How late a queue may be with its count of messages at workers: a minute with SQS, which calls its counts
/// approximate; seconds with RabbitMQ's statistics. What a worker says of itself is not late.
const COUNT_LAG: Duration = Duration::from_secs(60);

/// What is remembered of jobs: which there were, which of them did not run yet, and when that last changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct JobMemory {
    running: BTreeSet<ReplicaId>,
    pending: BTreeSet<ReplicaId>,
    /// A count of messages from before that moment counts some that these jobs have taken since.
    changed_at: Option<Timestamp>,
}

impl Policy {
    /// The policy of workers that take their work from a queue, if it is that.
    pub(super) fn queue(&self) -> Option<&QueuePolicy> {
        if let Policy::Queue(policy) = self { Some(policy) } else { None }
    }

    /// Whether each replica ends by itself once its work is done.
    pub(super) fn runs_jobs(&self) -> bool {
        self.queue().is_some_and(|policy| policy.jobs.is_some())
    }
}

/// The wishes of a queue.
pub(super) fn queue(
    draft: &mut Draft<'_>,
    proposals: &mut Proposals,
    state: &mut ScalerState,
    policy: &QueuePolicy,
) {
    match policy.jobs {
        None => workers(draft, proposals, policy),
        Some(strategy) => jobs(draft, proposals, state, policy, strategy),
    }
}

/// `ceil(messages / per_replica)`, of those that wait and of those at workers, whichever is more: some queues count the
/// latter among the former.
fn workers(draft: &mut Draft<'_>, proposals: &mut Proposals, policy: &QueuePolicy) {
    let per_replica = policy.per_replica;
    if let Some((messages, at_least)) = asked(draft, proposals, &policy.signal)
        && let Some(wish) = messages.replicas_at(per_replica)
    {
        proposals.wish(draft, wish.0, Reason::Messages { messages, per_replica, at_least });
    }
    if policy.in_flight != policy.signal
        && let Some(evidence) =
            draft.observation.evidence(policy.in_flight.as_str(), draft.spec.max_signal_age)
        && let Some((in_flight, _)) = proposals.weigh(policy.in_flight.as_str(), evidence)
        && let Some(wish) = in_flight.replicas_at(per_replica)
    {
        proposals.wish(draft, wish.0, Reason::MessagesInFlight { in_flight, per_replica });
    }
}

/// What the signal proves; that nobody was asked for it is a reason to hold, too.
fn asked(draft: &Draft<'_>, proposals: &mut Proposals, signal: &SignalName) -> Option<(Requests, bool)> {
    let evidence = draft.observation.evidence(signal.as_str(), draft.spec.max_signal_age);
    proposals.weigh(signal.as_str(), evidence.unwrap_or(Evidence::Unknown(Missing::Absent)))
}

/// KEDA's rule for jobs, asked once for each count of the messages: a count that is older than the last job's start or
/// end has messages in it that this job took.
fn jobs(
    draft: &mut Draft<'_>,
    proposals: &mut Proposals,
    state: &mut ScalerState,
    policy: &QueuePolicy,
    strategy: JobStrategy,
) {
    let changed_at = remember(draft, state);
    // What holds workers must not start jobs: nothing is asked for beyond what is there.
    let Some((messages, _)) = asked(draft, proposals, &policy.signal) else { return };
    let age = draft.observation.signals.get(policy.signal.as_str()).map_or(Duration::ZERO, |read| read.age);
    if changed_at.is_some_and(|changed_at| draft.now - age <= changed_at) {
        proposals.wish(draft, draft.current, Reason::JobsAwaitCount { signal: policy.signal.clone() });
        return;
    }
    let pending = draft.observation.count_where(Phase::is_coming);
    let unfinished = draft.observation.count_where(|_| true);
    let bounds = draft.spec.replicas;
    let start = jobs_to_create(
        strategy,
        JobCounts {
            messages: messages.get(),
            per_job: policy.per_replica.get(),
            unfinished: unfinished.into(),
            pending: pending.into(),
            min: bounds.min.0.into(),
            max: bounds.max.0.into(),
        },
    );
    let start = u32::try_from(start).unwrap_or(0);
    let reason = Reason::Jobs { messages, per_job: policy.per_replica, strategy, start, unfinished, pending };
    proposals.wish(draft, draft.current.saturating_add(start), reason);
}

/// Compares the jobs with those of the observation before, and says when they last changed.
fn remember(draft: &Draft<'_>, state: &mut ScalerState) -> Option<Timestamp> {
    let named = |wanted: bool| {
        let jobs = draft.observation.replicas.iter().filter(|job| job.phase.is_coming() == wanted);
        jobs.map(|job| job.id.clone()).collect::<BTreeSet<_>>()
    };
    let (running, pending) = (named(false), named(true));
    let before = state.jobs.take();
    let is_new = match &before {
        None => !running.is_empty() || !pending.is_empty(),
        Some(before) => (&before.running, &before.pending) != (&running, &pending),
    };
    let changed_at = if is_new { Some(draft.now) } else { before.and_then(|before| before.changed_at) };
    state.jobs = Some(Box::new(JobMemory { running, pending, changed_at }));
    changed_at
}

/// What a worker holds, by what was read last.
pub(super) fn held(draft: &Draft<'_>, policy: &QueuePolicy, worker: &ReplicaId) -> Option<u32> {
    let nobody = || {
        let evidence = draft.observation.evidence(policy.in_flight.as_str(), draft.spec.max_signal_age);
        (evidence == Some(Evidence::Known(0.0))).then_some(0.0)
    };
    // A part of a message is a message.
    share(draft, policy, worker).or_else(nobody).map(|share| share.ceil() as u32)
}

/// Why a worker that drained for so long may be stopped before the deadline, if it may.
pub(super) fn released(
    draft: &mut Draft<'_>,
    policy: &QueuePolicy,
    worker: &Replica,
    drained_for: Duration,
) -> Option<Reason> {
    let replica = worker.id.clone();
    if is_idle(draft, policy, worker, drained_for) {
        return Some(Reason::Drained { replica });
    }
    // It says itself that it works on something, and keeps the queue from giving it to another.
    let is_busy = share(draft, policy, &worker.id).is_some_and(|share| share > 0.0);
    let timeout = policy.visibility_timeout.filter(|_| !is_busy)?;
    if drained_for >= timeout {
        let drained_seconds = drained_for.as_secs_f64();
        return Some(Reason::VisibilityOver { replica, drained_seconds });
    }
    draft.wake(draft.now + (timeout - drained_for));
    None
}

/// Whether it was seen to hold nothing after it was told to take no more.
fn is_idle(draft: &Draft<'_>, policy: &QueuePolicy, worker: &Replica, drained_for: Duration) -> bool {
    let Some(signal) = in_flight(draft, policy) else { return false };
    let total = match (&signal.reading, share(draft, policy, &worker.id)) {
        (_, Some(share)) => return share == 0.0 && signal.age < drained_for,
        (Reading::Value { total, .. }, None) => *total,
        (Reading::Partial { .. } | Reading::Missing(_), None) => return false,
    };
    total == 0.0 && signal.age + COUNT_LAG < drained_for
}

/// What a worker is said to hold, however old that is, as long as it still counts at all.
fn share(draft: &Draft<'_>, policy: &QueuePolicy, worker: &ReplicaId) -> Option<f64> {
    let signal = in_flight(draft, policy)?;
    match &signal.reading {
        Reading::Value { per_replica, .. } | Reading::Partial { per_replica, .. }
            if signal.age <= draft.spec.max_signal_age =>
        {
            per_replica.get(worker).copied()
        }
        Reading::Value { .. } | Reading::Partial { .. } | Reading::Missing(_) => None,
    }
}

fn in_flight<'a>(draft: &Draft<'a>, policy: &QueuePolicy) -> Option<&'a Signal> {
    draft.observation.signals.get(policy.in_flight.as_str())
}
