//! Why a number is what it is: a closed set, readable by people (`Display`) and machines (`label`, JSON).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Contested, Missing, Notice, Phase, ReplicaId, Replicas, Requests, SignalName, Tier, Timestamp,
    forecast::Forecaster,
    peers::{
        dynamo::DynamoReason,
        hpa::HpaReason,
        keda::{ExecutorReason, JobStrategy},
        kpa::{KpaReason, zero::ZeroVerdict},
        ray_serve::RayServeReason,
        sky_serve::SkyServeReason,
    },
};

/// Why a step gave the value it gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Reason {
    /// Requests wait, and one replica is worth `per_replica` of them.
    QueueDepth {
        /// Waiting at the gateway and in the engines.
        waiting: Requests,
        /// The target.
        per_replica: Requests,
        /// Whether part of the fleet did not report, so that more may wait.
        at_least: bool,
    },
    /// Messages are to be done, and one worker is worth `per_replica` of them.
    Messages {
        /// To be done.
        messages: Requests,
        /// The target.
        per_replica: Requests,
        /// Whether part of the queue could not be counted, so that there may be more.
        at_least: bool,
    },
    /// Messages are at workers, and one worker is worth `per_replica` of them.
    MessagesInFlight {
        /// Taken and not done.
        in_flight: Requests,
        /// The target.
        per_replica: Requests,
    },
    /// Jobs are started for the messages that none stands for.
    Jobs {
        /// To be done.
        messages: Requests,
        /// What one job is worth.
        per_job: Requests,
        /// How jobs that are there count.
        strategy: JobStrategy,
        /// How many are started.
        start: u32,
        /// Jobs that have not ended.
        unfinished: u32,
        /// Those of them that do not run yet.
        pending: u32,
    },
    /// Jobs came or went since the messages were counted, so no other is started on that count.
    JobsAwaitCount {
        /// The signal that counts them.
        signal: SignalName,
    },
    /// Requests are being worked on, and need this many replicas to go on.
    InFlight {
        /// Being worked on.
        in_flight: Requests,
        /// How many one replica works on at a time.
        max_concurrency: u32,
    },
    /// What the load is expected to exceed with a probability that the objective allows, a cold start ahead.
    Anticipated {
        /// The load that replicas are kept for, in requests at a time.
        load: Requests,
        /// The probability that more is needed.
        exceedance: f64,
        /// How far ahead: until a replica that is started now serves.
        lead_seconds: f64,
        /// In the first hours, where most of the highest load so far is kept ready for and that is more than the forecast asks for:
        /// that load.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Requests>,
        /// The mean load of the last five minutes.
        recent: Requests,
        /// How many requests a replica works on at a time.
        max_concurrency: u32,
        /// Whose forecast counts at present.
        forecaster: Forecaster,
        /// Share of the requests that missed the objective so far, of late days most; `None` while none was judged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missed: Option<f64>,
        /// Share that may miss from now on.
        allowed: f64,
    },
    /// A backlog is to be worked off within two minutes, or a cold start where that is shorter, beside the load that goes on.
    Backlog {
        /// Requests that wait.
        waiting: Requests,
        /// Mean time that one is worked on; `None` while it is unknown, when all are to be served at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service_seconds: Option<f64>,
        /// Within this time.
        within_seconds: f64,
    },
    /// Requests arrived since the observation before, so the target is not idle.
    Arrivals {
        /// How many.
        arrived: Requests,
    },
    /// A step of the HPA.
    Hpa {
        /// In its own terms.
        hpa: HpaReason,
    },
    /// A step of KEDA's loop between zero and one.
    Keda {
        /// In its own terms.
        keda: ExecutorReason,
    },
    /// A trigger's source has no value, which KEDA reads as 0 unless `ignoreNullValues` is false.
    TriggerReadAsZero {
        /// Its name, or its place and type.
        trigger: String,
    },
    /// A trigger cannot be read.
    TriggerFailed {
        /// Its name, or its place and type.
        trigger: String,
        /// Why.
        error: String,
    },
    /// A trigger failed for so long that the HPA gets the fallback in its place.
    FallbackServed {
        /// The metric.
        metric: String,
    },
    /// A step of Knative's autoscaler.
    Kpa {
        /// In its own terms.
        kpa: KpaReason,
    },
    /// What Knative does about a wish for zero.
    KpaLastPod {
        /// In its own terms.
        verdict: ZeroVerdict,
    },
    /// A step of Ray Serve's policy.
    RayServe {
        /// In its own terms.
        ray_serve: RayServeReason,
    },
    /// SkyServe's decision.
    SkyServe {
        /// In its own terms.
        sky_serve: SkyServeReason,
    },
    /// A step of Dynamo's planner.
    Dynamo {
        /// In its own terms.
        dynamo: DynamoReason,
    },
    /// The policy's rules cannot be applied now, so nothing changes.
    PolicyUnusable {
        /// Why.
        why: String,
    },
    /// The policy decides at its own moments, and this is none.
    NotItsMoment {
        /// The next one.
        #[serde(rename = "untilMillis")]
        until: Timestamp,
        /// How long that is.
        remaining_seconds: f64,
    },
    /// The largest wish counts.
    LargestWish,
    /// Something is not known, so nothing is taken away.
    HeldOnMissing {
        /// The signal.
        signal: SignalName,
        /// Why it is not known.
        why: Missing,
    },
    /// Part of the fleet did not report, so nothing is taken away.
    HeldOnPartial {
        /// The signal.
        signal: SignalName,
    },
    /// The fleet could not be seen, so it is left alone.
    HeldOnUnseenFleet {
        /// In the fleet's words.
        error: String,
    },
    /// The queue is at the pre-warming threshold.
    PreWarmQueue {
        /// The queue now.
        queue: Requests,
        /// What counts as full.
        max_queue: Requests,
        /// The share that starts replicas.
        threshold: f64,
    },
    /// The forecast reaches the pre-warming threshold after the lead time.
    PreWarmForecast {
        /// The queue expected after the lead time.
        forecast: Requests,
        /// The lead time.
        lead_seconds: f64,
        /// What counts as full.
        max_queue: Requests,
        /// The share that starts replicas.
        threshold: f64,
    },
    /// Pre-warming could not be judged.
    PreWarmUnavailable {
        /// Why.
        why: String,
    },
    /// A window holds the number against a lower or higher wish.
    Stabilised {
        /// The wish.
        wish: Replicas,
        /// The window.
        window_seconds: f64,
    },
    /// A speed limit cuts the change.
    RateLimited {
        /// What was asked for.
        wish: Replicas,
        /// The limit, in the manifest's words.
        limit: String,
    },
    /// This many are kept at all times.
    RaisedToMin {
        /// The lower bound.
        min: Replicas,
    },
    /// The calendar keeps this many now.
    CalendarFloor {
        /// The floor.
        replicas: Replicas,
        /// When it began, as a cron expression.
        start: String,
        /// The zone of the expression.
        timezone: String,
        /// Until then.
        #[serde(rename = "untilMillis")]
        until: Timestamp,
        /// How long that is.
        remaining_seconds: f64,
    },
    /// More are not allowed.
    LoweredToMax {
        /// The upper bound.
        max: Replicas,
    },
    /// Production does not go to zero by accident.
    ZeroGuard,
    /// Fewer replicas are wished for, but part of the past is not known: the controller was away.
    HeldAfterRestart {
        /// What was wished for.
        wish: Replicas,
        /// When enough has been seen again.
        until: Timestamp,
        /// How long that is from now.
        remaining_seconds: f64,
    },
    /// Too many changes in the last minute.
    TooManyChanges {
        /// The fuse.
        max_changes_per_minute: u32,
    },
    /// Somebody holds the number by hand.
    Paused {
        /// Until then.
        #[serde(rename = "untilMillis")]
        until: Timestamp,
        /// How long that is.
        remaining_seconds: f64,
    },
    /// Nothing is acted on in this mode.
    ShadowMode,
    /// Replicas are started.
    Starting {
        /// How many.
        count: u32,
        /// How many are on their way already.
        coming: u32,
        /// How long a cold start takes, as learned or expected.
        cold_start_seconds: f64,
        /// Those of them that begin with instances that stand by.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warm: Vec<WarmStarts>,
    },
    /// Starts failed lately, so the next one waits.
    StartBackoff {
        /// Failures in a row.
        failures: u32,
        /// Until then.
        #[serde(rename = "untilMillis")]
        until: Timestamp,
        /// How long that is.
        remaining_seconds: f64,
    },
    /// A start failed.
    StartFailed {
        /// The replica.
        replica: ReplicaId,
        /// The phase in which it ended.
        phase: Phase,
        /// In the fleet's words.
        error: String,
    },
    /// A start takes too long and is given up.
    StartExpired {
        /// The replica.
        replica: ReplicaId,
        /// How long it took.
        age_seconds: f64,
    },
    /// Somebody is going to take this replica away: it serves until another does in its place, or its time is up.
    ReplacedFirst {
        /// The replica.
        replica: ReplicaId,
        /// Who takes it away, and why.
        notice: Notice,
    },
    /// Somebody is going to take this replica away, and it gets no more requests.
    NoticeDrains {
        /// The replica.
        replica: ReplicaId,
        /// Who takes it away, and why.
        notice: Notice,
        /// Whether enough others serve; otherwise its time is up.
        replaced: bool,
    },
    /// Somebody else set the number of replicas lately.
    Contested {
        /// Who did what.
        #[serde(flatten)]
        contested: Contested,
    },
    /// This replica goes.
    Draining {
        /// The replica.
        replica: ReplicaId,
        /// What it works on, if known.
        in_flight: Option<u32>,
    },
    /// This replica drained, and is needed again.
    Revived {
        /// The replica.
        replica: ReplicaId,
        /// How long it drained.
        drained_seconds: f64,
    },
    /// This replica was still starting and is not needed.
    StartCancelled {
        /// The replica.
        replica: ReplicaId,
    },
    /// This replica has finished its requests and stops.
    Drained {
        /// The replica.
        replica: ReplicaId,
    },
    /// What this worker took before it drained is done by now, or the queue has given it to another.
    VisibilityOver {
        /// The replica.
        replica: ReplicaId,
        /// How long it drained.
        drained_seconds: f64,
    },
    /// This replica did not finish its requests in time and is stopped all the same.
    DrainDeadline {
        /// The replica.
        replica: ReplicaId,
        /// How long it drained.
        drained_seconds: f64,
    },
}

/// Starts that begin with instances that stand by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmStarts {
    /// What they begin with.
    pub tier: Tier,
    /// How many.
    pub count: u32,
    /// How long one takes, as learned; as long as a cold one until then.
    pub start_seconds: f64,
}

impl Reason {
    /// Whether it tells what somebody else does to the fleet.
    pub const fn is_by_others(&self) -> bool {
        matches!(self, Reason::Contested { .. } | Reason::ReplacedFirst { .. } | Reason::NoticeDrains { .. })
    }

    /// Whether it tells how a trigger was read, and asks for nothing itself.
    pub(crate) const fn is_about_a_trigger(&self) -> bool {
        matches!(
            self,
            Reason::TriggerReadAsZero { .. } | Reason::TriggerFailed { .. } | Reason::FallbackServed { .. }
        )
    }

    /// The name in metrics, conditions and tests.
    pub const fn label(&self) -> &'static str {
        match self {
            Reason::QueueDepth { .. } => "queue_depth",
            Reason::Messages { .. } => "messages",
            Reason::MessagesInFlight { .. } => "messages_in_flight",
            Reason::Jobs { .. } => "jobs",
            Reason::JobsAwaitCount { .. } => "jobs_await_count",
            Reason::InFlight { .. } => "in_flight",
            Reason::Anticipated { .. } => "anticipated",
            Reason::Backlog { .. } => "backlog",
            Reason::Arrivals { .. } => "arrivals",
            Reason::Hpa { .. } => "hpa",
            Reason::Keda { .. } => "keda",
            Reason::TriggerReadAsZero { .. } => "trigger_read_as_zero",
            Reason::TriggerFailed { .. } => "trigger_failed",
            Reason::FallbackServed { .. } => "fallback_served",
            Reason::Kpa { .. } => "kpa",
            Reason::KpaLastPod { .. } => "kpa_last_pod",
            Reason::RayServe { .. } => "ray_serve",
            Reason::SkyServe { .. } => "sky_serve",
            Reason::Dynamo { .. } => "dynamo",
            Reason::PolicyUnusable { .. } => "policy_unusable",
            Reason::NotItsMoment { .. } => "not_its_moment",
            Reason::LargestWish => "largest_wish",
            Reason::HeldOnMissing { .. } => "held_on_missing",
            Reason::HeldOnPartial { .. } => "held_on_partial",
            Reason::HeldOnUnseenFleet { .. } => "held_on_unseen_fleet",
            Reason::PreWarmQueue { .. } => "pre_warm_queue",
            Reason::PreWarmForecast { .. } => "pre_warm_forecast",
            Reason::PreWarmUnavailable { .. } => "pre_warm_unavailable",
            Reason::Stabilised { .. } => "stabilised",
            Reason::RateLimited { .. } => "rate_limited",
            Reason::RaisedToMin { .. } => "raised_to_min",
            Reason::CalendarFloor { .. } => "calendar_floor",
            Reason::LoweredToMax { .. } => "lowered_to_max",
            Reason::ZeroGuard => "zero_guard",
            Reason::HeldAfterRestart { .. } => "held_after_restart",
            Reason::TooManyChanges { .. } => "too_many_changes",
            Reason::Paused { .. } => "paused",
            Reason::ShadowMode => "shadow_mode",
            Reason::Starting { .. } => "starting",
            Reason::StartBackoff { .. } => "start_backoff",
            Reason::StartFailed { .. } => "start_failed",
            Reason::StartExpired { .. } => "start_expired",
            Reason::ReplacedFirst { .. } => "replaced_first",
            Reason::NoticeDrains { .. } => "notice_drains",
            Reason::Contested { .. } => "contested",
            Reason::Draining { .. } => "draining",
            Reason::Revived { .. } => "revived",
            Reason::StartCancelled { .. } => "start_cancelled",
            Reason::Drained { .. } => "drained",
            Reason::VisibilityOver { .. } => "visibility_over",
            Reason::DrainDeadline { .. } => "drain_deadline",
        }
    }
}

/// `1 request waits`, `6 requests wait`.
fn counted(count: Requests, one: &str, many: &str) -> String {
    format!("{count} {}", if count.get() == 1.0 { one } else { many })
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::QueueDepth { waiting, per_replica, at_least } => {
                let at_least = if *at_least { "at least " } else { "" };
                let waiting = counted(*waiting, "request waits", "requests wait");
                write!(f, "{at_least}{waiting}, a replica is worth {per_replica} of them")
            }
            Reason::Messages { messages, per_replica, at_least } => {
                let at_least = if *at_least { "at least " } else { "" };
                let messages = counted(*messages, "message is to be done", "messages are to be done");
                write!(f, "{at_least}{messages}, a worker is worth {per_replica} of them")
            }
            Reason::MessagesInFlight { in_flight, per_replica } => {
                let messages = counted(*in_flight, "message is at a worker", "messages are at workers");
                write!(f, "{messages}, a worker is worth {per_replica} of them")
            }
            Reason::Jobs { messages, per_job, strategy, start, unfinished, pending } => write!(
                f,
                "{start} to start for {}, a job is worth {per_job} of them: {unfinished} have not ended, {pending} of \
                 which do not run yet ({})",
                counted(*messages, "message", "messages"),
                strategy.label()
            ),
            Reason::JobsAwaitCount { signal } => {
                write!(f, "jobs came or went since `{signal}` was counted: no more are started on that count")
            }
            Reason::InFlight { in_flight, max_concurrency } => {
                write!(
                    f,
                    "{in_flight} requests are being worked on, a replica takes {max_concurrency} at a time"
                )
            }
            Reason::Anticipated {
                load,
                exceedance,
                lead_seconds,
                seen,
                recent,
                max_concurrency,
                forecaster,
                missed,
                allowed,
            } => {
                write!(f, "{load} requests at a time are ")?;
                if let Some(seen) = seen {
                    let share = load.get() / seen.get() * 100.0;
                    write!(
                        f,
                        "kept ready for, {share:.0} % of the {seen} that came once, until more is known; "
                    )?;
                }
                write!(
                    f,
                    "exceeded in {lead_seconds:.0} s with a probability of {:.2} % \
                     ({recent} lately; forecast from the {forecaster}), a replica takes {max_concurrency}; ",
                    exceedance * 100.0
                )?;
                match missed {
                    Some(missed) => write!(f, "{:.2} % missed so far, ", missed * 100.0)?,
                    None => f.write_str("none was judged yet, ")?,
                }
                write!(f, "{:.2} % may miss", allowed * 100.0)
            }
            Reason::Backlog { waiting, service_seconds: Some(service), within_seconds } => write!(
                f,
                "{}, {service:.1} s of work each, to be done within {within_seconds:.0} s beside what comes",
                counted(*waiting, "request waits", "requests wait")
            ),
            Reason::Backlog { waiting, service_seconds: None, within_seconds: _ } => write!(
                f,
                "{}, and how long one takes is not known yet",
                counted(*waiting, "request waits", "requests wait")
            ),
            Reason::Arrivals { arrived } => {
                write!(f, "{}, so it is not idle", counted(*arrived, "request arrived", "requests arrived"))
            }
            Reason::Hpa { hpa } => hpa.fmt(f),
            Reason::Keda { keda } => keda.fmt(f),
            Reason::TriggerReadAsZero { trigger } => {
                write!(f, "trigger {trigger} has no value, which KEDA reads as 0 (`ignoreNullValues`)")
            }
            Reason::TriggerFailed { trigger, error } => write!(f, "trigger {trigger} failed: {error}"),
            Reason::FallbackServed { metric } => {
                write!(f, "{metric} failed too often: the HPA gets the fallback in its place")
            }
            Reason::Kpa { kpa } => kpa.fmt(f),
            Reason::KpaLastPod { verdict } => verdict.fmt(f),
            Reason::RayServe { ray_serve } => ray_serve.fmt(f),
            Reason::SkyServe { sky_serve } => sky_serve.fmt(f),
            Reason::Dynamo { dynamo } => dynamo.fmt(f),
            Reason::PolicyUnusable { why } => write!(f, "nothing can be decided: {why}"),
            Reason::NotItsMoment { until: _, remaining_seconds } => {
                write!(f, "the policy decides again in {remaining_seconds:.0} s")
            }
            Reason::LargestWish => f.write_str("the largest wish counts"),
            Reason::HeldOnMissing { signal, why } => {
                write!(f, "nothing is taken away while `{signal}` is unknown: {why}")
            }
            Reason::HeldOnPartial { signal } => {
                write!(f, "nothing is taken away while only a part of the fleet reports `{signal}`")
            }
            Reason::HeldOnUnseenFleet { error } => write!(f, "the fleet cannot be seen: {error}"),
            Reason::PreWarmQueue { queue, max_queue, threshold } => write!(
                f,
                "pre-warming: the queue of {queue} is at or above {:.0} % of its maximum {max_queue}",
                threshold * 100.0
            ),
            Reason::PreWarmForecast { forecast, lead_seconds, max_queue, threshold } => write!(
                f,
                "pre-warming: {forecast} requests are expected to wait in {lead_seconds:.0} s, at or above \
                 {:.0} % of the maximum {max_queue}",
                threshold * 100.0
            ),
            Reason::PreWarmUnavailable { why } => write!(f, "no pre-warming: {why}"),
            Reason::Stabilised { wish, window_seconds } => {
                write!(f, "a wish for {wish} waits out the stabilization window of {window_seconds:.0} s")
            }
            Reason::RateLimited { wish, limit } => write!(f, "a wish for {wish} is limited to {limit}"),
            Reason::RaisedToMin { min } => write!(f, "at least {min} at all times"),
            Reason::CalendarFloor { replicas, start, timezone, until: _, remaining_seconds } => write!(
                f,
                "at least {replicas} by the calendar for another {remaining_seconds:.0} s (since `{start}` in {timezone})"
            ),
            Reason::LoweredToMax { max } => write!(f, "at most {max} allowed"),
            Reason::ZeroGuard => {
                f.write_str("production keeps a replica: `allowScaleToZero: true` would let it go")
            }
            Reason::HeldAfterRestart { wish, until: _, remaining_seconds } => write!(
                f,
                "a wish for {wish} is held for another {remaining_seconds:.0} s: the controller was away, and has not \
                 seen enough yet"
            ),
            Reason::TooManyChanges { max_changes_per_minute } => {
                write!(f, "{max_changes_per_minute} changes in the last minute are enough")
            }
            Reason::Paused { until: _, remaining_seconds } => {
                write!(f, "held by hand for another {remaining_seconds:.0} s")
            }
            Reason::ShadowMode => f.write_str("shadow mode: recorded, not acted on"),
            Reason::Starting { count, coming, cold_start_seconds, warm } => {
                write!(f, "{} to start, {coming} on the way", Replicas(*count))?;
                for WarmStarts { tier, count, start_seconds } in warm {
                    let what = if *count == 1 { "instance that stands" } else { "instances that stand" };
                    write!(f, "; {count} from {} {what} by, in about {start_seconds:.0} s", tier.label())?;
                }
                let all_warm = warm.iter().map(|starts| starts.count).sum::<u32>() >= *count;
                if all_warm { Ok(()) } else { write!(f, "; a start takes about {cold_start_seconds:.0} s") }
            }
            Reason::StartBackoff { failures, until: _, remaining_seconds } => {
                write!(f, "failed starts in a row: {failures}; the next one waits {remaining_seconds:.0} s")
            }
            Reason::StartFailed { replica, phase, error } => {
                write!(f, "`{replica}` failed while {}: {error}", phase.label())
            }
            Reason::StartExpired { replica, age_seconds } => {
                write!(f, "`{replica}` is not ready after {age_seconds:.0} s and is replaced")
            }
            Reason::ReplacedFirst { replica, notice } => {
                write!(f, "`{replica}` will be taken away ({}), ", notice.why)?;
                if let Some(left) = notice.left {
                    write!(f, "in {:.0} s, ", left.as_secs_f64())?;
                }
                f.write_str("and serves until another does in its place")
            }
            Reason::NoticeDrains { replica, notice, replaced } => {
                let because = if *replaced { "enough others serve" } else { "its time is up" };
                write!(f, "`{replica}` drains: it will be taken away ({}), and {because}", notice.why)
            }
            Reason::Contested { contested: Contested { by, from, to } } => {
                write!(f, "somebody else set the number of replicas from {from} to {to}: {by}")
            }
            Reason::Draining { replica, in_flight: Some(count) } => {
                write!(f, "`{replica}` drains: it has the least work ({count} requests)")
            }
            Reason::Draining { replica, in_flight: None } => write!(f, "`{replica}` drains"),
            Reason::Revived { replica, drained_seconds } => {
                write!(
                    f,
                    "`{replica}` serves again after {drained_seconds:.0} s of draining: no start to wait for"
                )
            }
            Reason::StartCancelled { replica } => {
                write!(f, "`{replica}` is still starting and not needed any more")
            }
            Reason::Drained { replica } => write!(f, "`{replica}` has finished its requests and stops"),
            Reason::VisibilityOver { replica, drained_seconds } => write!(
                f,
                "`{replica}` drained for {drained_seconds:.0} s: what it took before is done, or the queue gives it to another"
            ),
            Reason::DrainDeadline { replica, drained_seconds } => {
                write!(f, "`{replica}` still works after {drained_seconds:.0} s of draining and is stopped")
            }
        }
    }
}
