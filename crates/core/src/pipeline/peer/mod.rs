//! Step 1 for a policy that is another autoscaler's: its own rules, at its own moments, decide the number.
//!
//! Nothing of forewarm's own proposals is added, and the number comes out as the peer has it; only a
//! `behavior` that the user set and the guards may change it after that, each with a reason. Between
//! two of its moments the number stays.

mod counters;
mod dynamo;
mod hpa;
mod keda;
mod kpa;
mod promql;
mod ray_serve;
mod signals;
mod sky_serve;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Cadence, Mode, Policy, Reason, ScalerState, Stage, Timestamp,
    peers::{
        hpa::HpaState,
        sky_serve::{DECISION_INTERVAL, SkyServeState},
    },
    pipeline::Draft,
    policy::{HpaPolicy, KpaPolicy, RayServePolicy},
};
use counters::Counters;
use signals::Signals;
pub use signals::{KNOWN_METRICS, MetricMeaning, metric_meaning};

/// What a peer remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PeerState {
    /// When it decides next.
    due: Timestamp,
    /// What it decided last.
    wish: u32,
    counters: Counters,
    memory: Memory,
}

/// Each peer's own memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Memory {
    Hpa(Box<HpaState>),
    Keda(Box<keda::KedaMemory>),
    /// `None` until the first decision, which sizes it.
    Kpa(Option<Box<kpa::KpaMemory>>),
    RayServe(Box<ray_serve::RayServeMemory>),
    SkyServe(Option<SkyServeState>),
    Dynamo(dynamo::DynamoMemory),
}

/// Whether the peer decided or kept its number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The policy is forewarm's own.
    NotAPeer,
    /// It decided.
    Decided,
    /// It is not its moment.
    Kept,
}

impl Memory {
    fn is_of(&self, policy: &Policy) -> bool {
        matches!(
            (self, policy),
            (Memory::Hpa(_), Policy::Hpa(_))
                | (Memory::Keda(_), Policy::Keda(_))
                | (Memory::Kpa(_), Policy::Kpa(_))
                | (Memory::RayServe(_), Policy::RayServe(_))
                | (Memory::SkyServe(_), Policy::SkyServe(_))
                | (Memory::Dynamo(_), Policy::Dynamo(_))
        )
    }

    /// A new one for this policy; `None` when the policy is forewarm's own.
    fn new(policy: &Policy, now: Timestamp) -> Option<Self> {
        Some(match policy {
            Policy::Forewarm(_) | Policy::QueueDepth(_) | Policy::Queue(_) => return None,
            Policy::Hpa(_) => Memory::Hpa(Box::default()),
            Policy::Keda(_) => Memory::Keda(Box::new(keda::KedaMemory::new(now))),
            Policy::Kpa(_) => Memory::Kpa(None),
            Policy::RayServe(_) => Memory::RayServe(Box::new(ray_serve::RayServeMemory::new())),
            Policy::SkyServe(_) => Memory::SkyServe(None),
            Policy::Dynamo(_) => Memory::Dynamo(dynamo::DynamoMemory::new(now)),
        })
    }
}

/// Lets the peer decide, if the policy is one and its moment has come.
pub(super) fn propose(draft: &mut Draft<'_>, state: &mut ScalerState) -> Turn {
    let (spec, now) = (draft.spec, draft.now);
    // Another policy's memory is of no use.
    if !state.peer.as_ref().is_some_and(|peer| peer.memory.is_of(&spec.policy)) {
        state.peer = Memory::new(&spec.policy, now).map(|memory| {
            Box::new(PeerState { due: now, wish: draft.current, counters: Counters::default(), memory })
        });
    }
    let Some(peer) = &mut state.peer else { return Turn::NotAPeer };
    let mut signals = Signals::new(draft.observation, spec.max_signal_age, &mut peer.counters);
    let is_moment = spec.cadence == Cadence::EveryObservation
        || is_due(now, peer.due, longest_interval(&spec.policy))
        || wakes_at_once(&spec.policy)
            && draft.current == 0
            && signals.ongoing().is_ok_and(|load| load > 0.0);
    if !is_moment {
        let remaining_seconds = peer.due.since(now).as_secs_f64();
        // A shadow's number is its own; whoever acts may have been overruled since.
        let kept = if spec.mode == Mode::Shadow { peer.wish } else { draft.current };
        draft.set(Stage::Propose, kept, Reason::NotItsMoment { until: peer.due, remaining_seconds });
        draft.wake(peer.due);
        return Turn::Kept;
    }
    peer.due = match (&spec.policy, &mut peer.memory) {
        (Policy::Hpa(policy), Memory::Hpa(memory)) => {
            hpa::tick(draft, policy, memory, &signals);
            now + HpaPolicy::SYNC_PERIOD
        }
        (Policy::Keda(policy), Memory::Keda(memory)) => keda::tick(draft, policy, memory, &mut signals),
        (Policy::Kpa(policy), Memory::Kpa(memory)) => {
            kpa::tick(draft, policy, memory, &mut signals);
            now + KpaPolicy::TICK
        }
        (Policy::RayServe(policy), Memory::RayServe(memory)) => {
            ray_serve::tick(draft, policy, memory, &signals);
            now + RayServePolicy::INTERVAL
        }
        (Policy::SkyServe(policy), Memory::SkyServe(memory)) => {
            now + sky_serve::tick(draft, policy, memory, &mut signals)
        }
        (Policy::Dynamo(policy), Memory::Dynamo(memory)) => {
            dynamo::tick(draft, policy, memory, &mut signals);
            now + dynamo::LOAD_INTERVAL
        }
        // The memory was made for the policy above.
        (_, _) => now,
    };
    peer.wish = draft.replicas;
    if spec.cadence == Cadence::Own {
        draft.wake(peer.due);
    }
    Turn::Decided
}

/// Whether a moment has come. One that is further away than a peer ever waits is none: the clock was
/// set back.
fn is_due(now: Timestamp, due: Timestamp, interval: Duration) -> bool {
    now >= due || due > now + interval
}

fn longest_interval(policy: &Policy) -> Duration {
    match policy {
        Policy::Forewarm(_) | Policy::QueueDepth(_) | Policy::Queue(_) | Policy::Hpa(_) | Policy::Keda(_) => {
            HpaPolicy::SYNC_PERIOD
        }
        Policy::Kpa(_) => KpaPolicy::TICK,
        Policy::RayServe(_) => RayServePolicy::INTERVAL,
        Policy::SkyServe(_) => DECISION_INTERVAL,
        Policy::Dynamo(_) => dynamo::LOAD_INTERVAL,
    }
}

/// Knative's activator and Ray's handles tell the autoscaler of a request that finds no replica.
fn wakes_at_once(policy: &Policy) -> bool {
    matches!(policy, Policy::Kpa(_) | Policy::RayServe(_))
}

/// A peer's count, which Go keeps signed.
fn replicas(count: i32) -> u32 {
    u32::try_from(count).unwrap_or(0)
}
