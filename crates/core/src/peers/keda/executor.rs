//! From zero and back (`RequestScale` of `pkg/scaling/executor/scale_scaledobjects.go`).

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::spec::{Annotations, ScaledObjectSpec};
use crate::{Timestamp, peers::hpa::ConditionStatus};

/// Seconds since the last activity before zero, when the object does not say.
const COOLDOWN_SECONDS: i32 = 300;
/// Seconds since creation before zero for a target that was never active.
const INITIAL_COOLDOWN_SECONDS: i32 = 0;

/// What the loop remembers: the object's status, which survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecutorState {
    /// When triggers were last seen active; `None` when never, or when somebody else scaled the target.
    pub last_active: Option<Timestamp>,
    /// Whether triggers are active.
    pub active: Option<KedaCondition>,
    /// Whether the object works.
    pub ready: Option<KedaCondition>,
}

/// A condition. They are sticky: a poll that does not set one leaves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KedaCondition {
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word.
    pub reason: String,
}

impl KedaCondition {
    fn new(status: ConditionStatus, reason: &str) -> Option<Self> {
        Some(Self { status, reason: reason.to_owned() })
    }
}

/// What is seen at one poll or push.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutorObservation {
    /// When.
    pub now: Timestamp,
    /// When the object was created.
    pub created_at: Timestamp,
    /// The target's replicas, or the error of reading them.
    pub replicas: Result<i32, String>,
    /// Whether some trigger is active.
    pub is_active: bool,
    /// Whether some trigger failed.
    pub is_error: bool,
}

/// Why the loop did what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ExecutorReason {
    /// The target could not be read.
    ReplicasUnknown {
        /// In the API's words.
        error: String,
    },
    /// An annotation pauses the object.
    Paused,
    /// From zero or idle.
    Activated {
        /// Whether by annotation.
        forced: bool,
        /// How many.
        replicas: i32,
    },
    /// An annotation keeps it from growing.
    ScaleOutPaused,
    /// Active, and above zero: the HPA's business.
    LeftToHpa {
        /// The target's replicas.
        replicas: i32,
    },
    /// Some triggers failed, others are active.
    PartialError,
    /// Triggers failed; the fallback will rule.
    WaitsForFallback,
    /// Triggers failed, and there is no fallback.
    TriggersFailed,
    /// An annotation keeps it from shrinking.
    ScaleInPaused,
    /// The cooldown is not over.
    CoolingDown {
        /// Since the last activity or creation, in seconds.
        elapsed_seconds: f64,
        /// How long it lasts, in seconds.
        cooldown_seconds: f64,
    },
    /// The cooldown is over.
    Deactivated {
        /// How many stay.
        replicas: i32,
    },
    /// Below the minimum without being idle.
    RaisedToMin {
        /// The minimum.
        replicas: i32,
    },
    /// Inactive, and nothing to do.
    Inactive,
    /// The scale could not be written.
    UpdateFailed {
        /// In the API's words.
        error: String,
    },
}

impl fmt::Display for ExecutorReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReplicasUnknown { error } => write!(f, "the target's replicas are unknown: {error}"),
            Self::Paused => f.write_str("paused by annotation"),
            Self::Activated { forced: true, replicas } => {
                write!(f, "activation is forced by annotation: {replicas}")
            }
            Self::Activated { forced: false, replicas } => {
                write!(f, "triggers are active: straight to {replicas}, the rest is the HPA's business")
            }
            Self::ScaleOutPaused => f.write_str("active, but scaling out is paused by annotation"),
            Self::LeftToHpa { replicas } => write!(f, "active at {replicas}: the HPA decides"),
            Self::PartialError => f.write_str("some triggers are active and some failed"),
            Self::WaitsForFallback => {
                f.write_str("no trigger is active and some failed: left to the fallback")
            }
            Self::TriggersFailed => f.write_str("no trigger is active and some failed: nothing is done"),
            Self::ScaleInPaused => f.write_str("inactive, but scaling in is paused by annotation"),
            Self::CoolingDown { elapsed_seconds, cooldown_seconds } => {
                write!(f, "cooling down: {elapsed_seconds} s of more than {cooldown_seconds} s passed")
            }
            Self::Deactivated { replicas } => write!(f, "inactive for longer than the cooldown: {replicas}"),
            Self::RaisedToMin { replicas } => write!(f, "below the minimum: {replicas}"),
            Self::Inactive => f.write_str("no trigger is active, and nothing is to be done"),
            Self::UpdateFailed { error } => write!(f, "writing the scale failed: {error}"),
        }
    }
}

/// What one poll came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutorOutcome {
    /// What is written to the scale subresource, if anything.
    pub scale_to: Option<i32>,
    /// The replicas afterwards; `None` when they could not be read.
    pub replicas: Option<i32>,
    /// Whether the object is paused.
    pub paused: bool,
    /// What went wrong with the target.
    pub error: Option<String>,
    /// What each step did, in order.
    pub steps: Vec<ExecutorReason>,
}

/// A poll before its scale is written; [`settle`] finishes it.
#[derive(Clone, Debug)]
#[must_use = "settle the plan, or the activity it sees is not remembered"]
pub struct ExecutorPlan {
    now: Timestamp,
    outcome: ExecutorOutcome,
    /// Whether a successful write counts as activity.
    activates: bool,
}

impl ExecutorPlan {
    /// What is to be written to the scale subresource, if anything.
    pub fn scale_to(&self) -> Option<i32> {
        self.outcome.scale_to
    }
}

/// The first half of a poll: what to write, if anything.
pub fn plan(
    spec: &ScaledObjectSpec,
    annotations: &Annotations,
    state: &mut ExecutorState,
    seen: &ExecutorObservation,
) -> ExecutorPlan {
    let mut plan = ExecutorPlan {
        now: seen.now,
        outcome: ExecutorOutcome {
            scale_to: None,
            replicas: None,
            paused: false,
            error: None,
            steps: Vec::new(),
        },
        activates: false,
    };
    state.ready = KedaCondition::new(ConditionStatus::True, "ScaledObjectReady");
    let replicas = match &seen.replicas {
        Ok(replicas) => *replicas,
        Err(error) => {
            state.ready = KedaCondition::new(ConditionStatus::False, "ErrorGettingCurrentReplicas");
            plan.outcome.error = Some(error.clone());
            plan.outcome.steps.push(ExecutorReason::ReplicasUnknown { error: error.clone() });
            return plan;
        }
    };
    plan.outcome.replicas = Some(replicas);
    if annotations.paused() {
        plan.outcome.paused = true;
        plan.outcome.steps.push(ExecutorReason::Paused);
        return plan;
    }
    let step = if seen.is_active || annotations.force_activation() {
        state.active = KedaCondition::new(ConditionStatus::True, "ScalerActive");
        when_active(spec, annotations, state, seen, replicas, &mut plan)
    } else {
        state.active = KedaCondition::new(ConditionStatus::False, "ScalerNotActive");
        when_inactive(spec, annotations, state, seen, replicas, &mut plan)
    };
    plan.outcome.steps.push(step);
    plan
}

fn when_active(
    spec: &ScaledObjectSpec,
    annotations: &Annotations,
    state: &mut ExecutorState,
    seen: &ExecutorObservation,
    replicas: i32,
    plan: &mut ExecutorPlan,
) -> ExecutorReason {
    let is_idle = spec.idle_replica_count.is_some() && replicas < spec.min_replica_count.unwrap_or(0);
    if is_idle || replicas == 0 {
        if annotations.paused_scale_out() {
            return ExecutorReason::ScaleOutPaused;
        }
        // To the minimum or one, never to the need.
        let to = spec.hpa_min_replicas();
        plan.outcome.scale_to = Some(to);
        plan.activates = true;
        ExecutorReason::Activated { forced: annotations.force_activation(), replicas: to }
    } else if seen.is_error {
        state.ready = KedaCondition::new(ConditionStatus::Unknown, "PartialTriggerError");
        ExecutorReason::PartialError
    } else {
        state.last_active = Some(seen.now);
        ExecutorReason::LeftToHpa { replicas }
    }
}

fn when_inactive(
    spec: &ScaledObjectSpec,
    annotations: &Annotations,
    state: &mut ExecutorState,
    seen: &ExecutorObservation,
    replicas: i32,
    plan: &mut ExecutorPlan,
) -> ExecutorReason {
    let min = spec.min_replica_count.unwrap_or(0);
    let to = match (&spec.fallback, spec.idle_replica_count) {
        (Some(fallback), _) if seen.is_error && fallback.replicas != 0 => {
            return ExecutorReason::WaitsForFallback;
        }
        (None, _) if seen.is_error => {
            state.ready = KedaCondition::new(ConditionStatus::False, "TriggerError");
            return ExecutorReason::TriggersFailed;
        }
        (_, Some(idle)) if replicas > idle => idle,
        (_, idle) if replicas > 0 && min == 0 => idle.unwrap_or(min),
        (_, None) if replicas < min => {
            plan.outcome.scale_to = Some(min);
            return ExecutorReason::RaisedToMin { replicas: min };
        }
        _ => return ExecutorReason::Inactive,
    };
    if annotations.paused_scale_in() {
        return ExecutorReason::ScaleInPaused;
    }
    // Once active, only the cooldown counts; before that, only the initial one.
    let (since, cooldown) = match state.last_active {
        Some(last) => (last, spec.cooldown_period.unwrap_or(COOLDOWN_SECONDS)),
        None => (seen.created_at, spec.initial_cooldown_period.unwrap_or(INITIAL_COOLDOWN_SECONDS)),
    };
    let cooldown = Duration::from_secs(u64::try_from(cooldown).unwrap_or(0));
    if since + cooldown < seen.now {
        plan.outcome.scale_to = Some(to);
        return ExecutorReason::Deactivated { replicas: to };
    }
    state.active = KedaCondition::new(ConditionStatus::False, "ScalerCooldown");
    ExecutorReason::CoolingDown {
        elapsed_seconds: seen.now.since(since).as_secs_f64(),
        cooldown_seconds: cooldown.as_secs_f64(),
    }
}

/// The second half: remembers what came of writing the scale, and gives the outcome.
pub fn settle(state: &mut ExecutorState, plan: ExecutorPlan, written: Result<(), String>) -> ExecutorOutcome {
    let ExecutorPlan { now, mut outcome, activates } = plan;
    match (outcome.scale_to, written) {
        (Some(to), Ok(())) => {
            outcome.replicas = Some(to);
            if activates {
                state.last_active = Some(now);
            }
        }
        (Some(_), Err(error)) => {
            state.ready = KedaCondition::new(ConditionStatus::False, "ErrorScalingTarget");
            outcome.error = Some(error.clone());
            outcome.steps.push(ExecutorReason::UpdateFailed { error });
        }
        (None, _) => {}
    }
    outcome
}
