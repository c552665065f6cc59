//! The result of planning: the number, what to do about it, and every reason on the way.

use serde::{Deserialize, Serialize};

use crate::{Reason, ReplicaId, Replicas, ScalerId, Timestamp};

/// What is to be, what to do now, and why.
#[must_use = "a decision that is neither applied nor recorded is lost"]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// For whom.
    pub scaler: ScalerId,
    /// When.
    #[serde(rename = "atMillis")]
    pub at: Timestamp,
    /// The target before.
    pub from: Replicas,
    /// The target from now on.
    pub to: Replicas,
    /// In the order the steps ran; each has the value after it.
    pub steps: Vec<Step>,
    /// What the fleet is to do now.
    pub placement: Placement,
    /// When to plan again even if nothing is observed.
    #[serde(rename = "wakeAtMillis", default, skip_serializing_if = "Option::is_none")]
    pub wake_at: Option<Timestamp>,
    /// When the next replica is expected to be ready, if one is coming.
    #[serde(rename = "readyAtMillis", default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
}

impl Decision {
    /// Whether anything is to be done or remembered: a new target, or work for the fleet.
    pub fn acts(&self) -> bool {
        self.from != self.to || !self.placement.is_empty()
    }

    /// Whether people should hear of it: something is done, or a start failed.
    pub fn is_news(&self) -> bool {
        self.acts() || self.steps.iter().any(|step| matches!(step.reason, Reason::StartFailed { .. }))
    }

    /// The trigger that asked for the most: where the number comes from.
    pub fn cause(&self) -> Option<&Step> {
        let asks = |step: &&Step| {
            matches!(step.stage, Stage::Propose | Stage::PreWarm) && !step.reason.is_about_a_trigger()
        };
        let mut steps = self.steps.iter().filter(asks);
        let first = steps.next().or(self.steps.first())?;
        Some(steps.fold(first, |most, step| if step.replicas > most.replicas { step } else { most }))
    }

    /// The last step that changed the number, when it is not the cause: what holds it or limits it.
    pub fn limit(&self) -> Option<&Step> {
        let cause = self.cause()?;
        let last = &self.steps.windows(2).rfind(|pair| pair[0].replicas != pair[1].replicas)?[1];
        (last.stage > Stage::Combine && last != cause).then_some(last)
    }

    /// One line for a person: `1 → 3 replicas: 33 requests wait, …; a wish for 7 replicas is limited to …`.
    pub fn summary(&self) -> String {
        let number = if self.from == self.to {
            format!("{} as before", self.to)
        } else {
            format!("{} → {}", self.from.0, self.to)
        };
        let (cause, limit) = (self.cause(), self.limit());
        // What raises a number explains it; the smaller wish before it does not.
        let raised = cause.zip(limit).is_some_and(|(cause, limit)| limit.replicas > cause.replicas);
        let told = if raised { [limit, None] } else { [cause, limit] };
        let reasons: Vec<String> = told.into_iter().flatten().map(|step| step.reason.to_string()).collect();
        if reasons.is_empty() { number } else { format!("{number}: {}", reasons.join("; ")) }
    }
}

/// One step of the pipeline: what it did, and the value after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which step.
    pub stage: Stage,
    /// The value after it.
    pub replicas: Replicas,
    /// What it did, and why.
    #[serde(flatten)]
    pub reason: Reason,
}

/// The steps of the pipeline, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Each trigger's wish.
    Propose,
    /// One wish out of several.
    Combine,
    /// What the forecast adds.
    PreWarm,
    /// Windows.
    Stabilise,
    /// Speed limits.
    RateLimit,
    /// Bounds, guards, pause.
    Guard,
    /// Which replicas.
    Allocate,
}

impl Stage {
    /// The name in JSON and on the page.
    pub const fn label(self) -> &'static str {
        match self {
            Stage::Propose => "propose",
            Stage::Combine => "combine",
            Stage::PreWarm => "preWarm",
            Stage::Stabilise => "stabilise",
            Stage::RateLimit => "rateLimit",
            Stage::Guard => "guard",
            Stage::Allocate => "allocate",
        }
    }
}

/// What a fleet is to do. Leaves it no choices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Placement {
    /// How many replicas to start.
    pub start: u32,
    /// Draining replicas that are to serve again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revive: Vec<ReplicaId>,
    /// Replicas that get no new requests from now on.
    pub drain: Vec<ReplicaId>,
    /// Replicas to stop now: they are drained, or were never ready.
    pub stop: Vec<ReplicaId>,
}

impl Placement {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.start == 0 && self.revive.is_empty() && self.drain.is_empty() && self.stop.is_empty()
    }
}
