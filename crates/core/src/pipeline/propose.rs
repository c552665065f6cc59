//! Step 1: each trigger's wish, with its arithmetic.

use crate::{
    Evidence, Missing, Policy, QueueDepth, Reason, Requests, ScalerState, SignalName, Stage,
    pipeline::{Draft, anticipate, queue},
};

/// Waiting at the gateway.
pub(super) const QUEUED: &str = "queued";
/// Waiting in the engines.
pub(super) const WAITING: &str = "waiting";
/// Requests at replicas, as the gateway counts them.
pub(super) const IN_FLIGHT: &str = "in_flight";
/// Requests in the engines' batches, as the engines count them.
pub(super) const RUNNING: &str = "running";
/// Requests that ever arrived.
const ARRIVALS: &str = "arrivals_total";

/// What the triggers said.
pub(super) struct Proposals {
    /// The largest wish, `None` when no trigger could say anything.
    pub(super) largest: Option<u32>,
    /// How many triggers had a wish.
    pub(super) wishes: usize,
    /// Why nothing may be taken away, if so.
    pub(super) hold: Option<Reason>,
    /// The queue, where it is known at least in part.
    pub(super) queue: Option<Requests>,
}

/// Collects the wishes of the policy's triggers.
pub(super) fn propose(draft: &mut Draft<'_>, state: &mut ScalerState) -> Proposals {
    let mut proposals = Proposals { largest: None, wishes: 0, hold: None, queue: None };
    match &draft.spec.policy {
        Policy::Forewarm(policy) => anticipate::anticipate(draft, &mut proposals, state, *policy),
        Policy::QueueDepth(policy) => queue_depth(draft, &mut proposals, policy),
        Policy::Queue(policy) => {
            // No request comes through a gateway.
            queue::queue(draft, &mut proposals, state, policy);
            return proposals;
        }
        // A peer's rules take the place of this step.
        Policy::Hpa(_)
        | Policy::Keda(_)
        | Policy::Kpa(_)
        | Policy::RayServe(_)
        | Policy::SkyServe(_)
        | Policy::Dynamo(_) => {}
    }
    in_flight(draft, &mut proposals);
    arrivals(draft, &mut proposals, state);
    proposals
}

impl Proposals {
    pub(super) fn wish(&mut self, draft: &mut Draft<'_>, replicas: u32, reason: Reason) {
        self.wishes += 1;
        self.largest = Some(self.largest.map_or(replicas, |largest| largest.max(replicas)));
        draft.set(Stage::Propose, replicas, reason);
    }
}

/// `ceil(waiting / per_replica)`: HPA's AverageValue rule, with replicas being started counted in the
/// target it is compared with.
fn queue_depth(draft: &mut Draft<'_>, proposals: &mut Proposals, policy: &QueueDepth) {
    let Some((waiting, at_least)) = known(draft, proposals, &[QUEUED, WAITING], |sum, part| sum + part)
    else {
        return;
    };
    proposals.queue = Some(waiting);
    if let Some(wish) = waiting.replicas_at(policy.per_replica) {
        let reason = Reason::QueueDepth { waiting, per_replica: policy.per_replica, at_least };
        proposals.wish(draft, wish.0, reason);
    }
}

/// Requests that are being worked on keep the replicas they need: an empty queue does not mean an idle
/// fleet, and whoever stays must be able to carry them (the survivors test).
fn in_flight(draft: &mut Draft<'_>, proposals: &mut Proposals) {
    let mut busiest: Option<Requests> = None;
    for name in [IN_FLIGHT, RUNNING] {
        if let Some(evidence) = draft.observation.evidence(name, draft.spec.max_signal_age)
            && let Some((count, _)) = proposals.weigh(name, evidence)
        {
            busiest = Some(busiest.map_or(count, |most| Requests::max(most, count)));
        }
    }
    let max_concurrency = draft.spec.max_concurrency.max(1);
    if let Some(in_flight) = busiest
        && let Some(wish) = Requests::new(f64::from(max_concurrency))
            .ok()
            .and_then(|concurrency| in_flight.replicas_at(concurrency))
    {
        proposals.wish(draft, wish.0, Reason::InFlight { in_flight, max_concurrency });
    }
}

/// A target that got a request since last time is not idle, even when the request came and went
/// between two observations.
fn arrivals(draft: &mut Draft<'_>, proposals: &mut Proposals, state: &mut ScalerState) {
    let Some(evidence) = draft.observation.evidence(ARRIVALS, draft.spec.max_signal_age) else { return };
    let Some((total, _)) = proposals.weigh(ARRIVALS, evidence) else { return };
    let before = state.arrivals_total.replace(total.get());
    // A counter that went backwards restarted with its process: what came since then has arrived.
    let arrived =
        before.map_or(0.0, |before| if total.get() < before { total.get() } else { total.get() - before });
    if arrived > 0.0
        && let Ok(arrived) = Requests::new(arrived)
    {
        proposals.wish(draft, 1, Reason::Arrivals { arrived });
    }
}

impl Proposals {
    /// The number a signal proves, and whether it is only a lower bound; what is not known holds.
    pub(super) fn weigh(&mut self, name: &str, evidence: Evidence) -> Option<(Requests, bool)> {
        let signal = SignalName::from(name);
        let (value, at_least) = match evidence {
            Evidence::Known(value) => (value, false),
            Evidence::AtLeast(value) => {
                self.hold.get_or_insert(Reason::HeldOnPartial { signal: signal.clone() });
                (value, true)
            }
            Evidence::Unknown(why) => {
                self.hold.get_or_insert(Reason::HeldOnMissing { signal, why });
                return None;
            }
        };
        match Requests::new(value) {
            Ok(requests) => Some((requests, at_least)),
            Err(invalid) => {
                let why = Missing::Failed(invalid.to_string());
                self.hold.get_or_insert(Reason::HeldOnMissing { signal, why });
                None
            }
        }
    }
}

/// What the named signals that are observed at all come to when joined; a part that is not known makes it a lower
/// bound.
pub(super) fn known(
    draft: &Draft<'_>,
    proposals: &mut Proposals,
    names: &[&str],
    join: fn(f64, f64) -> f64,
) -> Option<(Requests, bool)> {
    let mut joined: Option<f64> = None;
    let mut at_least = false;
    let mut asked = 0;
    for &name in names {
        let Some(evidence) = draft.observation.evidence(name, draft.spec.max_signal_age) else { continue };
        asked += 1;
        match proposals.weigh(name, evidence) {
            Some((requests, lower_bound)) => {
                joined = Some(joined.map_or(requests.get(), |so_far| join(so_far, requests.get())));
                at_least |= lower_bound;
            }
            None => at_least = true,
        }
    }
    if asked == 0 {
        let signal = SignalName::from(names.last().copied().unwrap_or_default());
        proposals.hold.get_or_insert(Reason::HeldOnMissing { signal, why: Missing::Absent });
    }
    joined.and_then(|joined| Requests::new(joined).ok()).map(|joined| (joined, at_least))
}
