//! Replicas as they were seen, and where each is in its life.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ReplicaId, Tier, time::seconds};

/// Where a replica is in its life. Everything before `Ready` is coming capacity, and is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Asked for; nothing exists yet.
    Requested,
    /// Hardware or a process is being obtained.
    Provisioning,
    /// The engine runs and loads its model.
    Loading,
    /// Serves requests.
    Ready,
    /// Gets no new requests, finishes those it has, then stops. Serves again when it is wanted before that.
    Draining,
    /// As draining, but somebody else took it away: a spot interruption, a node that goes, a pod deleted by hand.
    /// It cannot serve again.
    Leaving,
}

impl Phase {
    /// Every phase, in the order of life.
    pub const ALL: [Phase; 6] = [
        Phase::Requested,
        Phase::Provisioning,
        Phase::Loading,
        Phase::Ready,
        Phase::Draining,
        Phase::Leaving,
    ];

    /// The name in metrics, JSON and on the page.
    pub const fn label(self) -> &'static str {
        match self {
            Phase::Requested => "requested",
            Phase::Provisioning => "provisioning",
            Phase::Loading => "loading",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Leaving => "leaving",
        }
    }

    /// Whether the replica is being started: capacity that is on its way.
    pub const fn is_coming(self) -> bool {
        matches!(self, Phase::Requested | Phase::Provisioning | Phase::Loading)
    }

    /// Whether the replica counts towards the target: it serves or will serve.
    pub const fn counts(self) -> bool {
        !self.drains()
    }

    /// Whether the replica gets no new requests and finishes those it has.
    pub const fn drains(self) -> bool {
        matches!(self, Phase::Draining | Phase::Leaving)
    }
}

/// One replica as it was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Replica {
    /// Its name.
    pub id: ReplicaId,
    /// Where it is in its life.
    pub phase: Phase,
    /// Time since it was requested.
    #[serde(rename = "ageSeconds", with = "seconds", default)]
    pub age: Duration,
    /// Requests it is working on, when somebody knows: used to choose who goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Its place in a fleet that only ever gives up its last replica, such as a StatefulSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u32>,
    /// What its start began with.
    #[serde(default, skip_serializing_if = "Tier::is_cold")]
    pub tier: Tier,
    /// That somebody is going to take it away, while it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
}

/// Somebody is going to take a replica away, such as a cloud a spot instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notice {
    /// Who, and why, in their words.
    pub why: String,
    /// Time that is left; `None`: it is likely and has no date.
    #[serde(
        rename = "leftSeconds",
        with = "seconds::optional",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub left: Option<Duration>,
}

impl Replica {
    /// A replica of this name in this phase, of age zero and unknown load.
    pub fn new(id: impl Into<ReplicaId>, phase: Phase) -> Self {
        Self {
            id: id.into(),
            phase,
            age: Duration::ZERO,
            in_flight: None,
            ordinal: None,
            tier: Tier::Cold,
            notice: None,
        }
    }

    /// Whether it serves or will serve, and nobody is going to take it away.
    pub fn stays(&self) -> bool {
        self.phase.counts() && self.notice.is_none()
    }
}

/// A replica that ended before it was ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailedStart {
    /// Its name.
    pub id: ReplicaId,
    /// The phase in which it ended.
    pub phase: Phase,
    /// What the fleet says about it, such as an exit status.
    pub error: String,
}
