//! Step 1 for forewarm's own policy: the load that must be expected a cold start ahead, at the probability that the
//! objective allows.
//!
//! The load is [`OfferedLoad`]: demand, not symptoms. What it may become until a replica started now serves is
//! forecast by a [`Panel`], whose probability is steered by what really missed ([`MissBudget`]). A backlog and the
//! work in flight ask for their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::propose::{IN_FLIGHT, Proposals, QUEUED, RUNNING, WAITING, known};
use crate::{
    ColdStarts, Evidence, Forewarm, Phase, Reason, Requests, ScalerState,
    forecast::{Look, MayMiss, MissBudget, OfferedLoad, Outlook, Panel, STEP, StepLoad, panel},
    pipeline::Draft,
};

/// Request-seconds that replicas have worked.
const BUSY: &str = "busy_seconds_total";
/// Requests that replicas have finished.
const COMPLETED: &str = "completed_total";
/// Requests that saw their first token in time, and those that did not.
const ATTAINED: &str = "attained_total";
const MISSED: &str = "missed_total";
/// Far above what is ever counted, far below where a 64-bit float skips whole numbers.
const LARGEST_TOTAL: f64 = 1e15;

/// The most steps from a decision until its replicas serve: an hour.
const MAX_LAG: u64 = 240;

/// A backlog is to be gone within this time, in seconds, or within a cold start where that is shorter. Who waits may be
/// late already, but from half of the time-out on goes before everybody else.
const BACKLOG_GONE_WITHIN_SECONDS: f64 = 120.0;

/// What the policy has learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Anticipation {
    offered: OfferedLoad,
    budget: MissBudget,
    panel: Panel,
    /// Replicas that were ready at the end of the last step.
    ready: f64,
    /// What the last step came to, until the next one.
    outlook: Option<LastOutlook>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LastOutlook {
    outlook: Outlook,
    allowed: f64,
}

/// How long the last of the next starts takes; what the spec says, until enough was seen.
#[derive(Clone, Copy)]
struct Lead {
    /// What is reckoned with, its p90: for so long a forecast looks ahead.
    expected: Duration,
    /// For so long a burst misses, as a rule, that nobody could foresee.
    median: Duration,
}

/// Proposes replicas for what is expected.
pub(super) fn anticipate(
    draft: &mut Draft<'_>,
    proposals: &mut Proposals,
    state: &mut ScalerState,
    policy: Forewarm,
) {
    // All that may still be started: a few instances that stand by are no lead for more than themselves.
    let stays = draft.observation.replicas.iter().filter(|replica| replica.stays()).count();
    let room = draft.spec.replicas.max.0.saturating_sub(u32::try_from(stays).unwrap_or(u32::MAX)).max(1);
    let starts = &state.cold_starts;
    let of_next = |q| starts.quantile_of_next(q, room, &draft.observation.standby, &draft.spec.cold_start);
    let lead = Lead { expected: of_next(ColdStarts::EXPECTED), median: of_next(0.5) };
    let memory = state.anticipation.get_or_insert_default();
    let queued = known(draft, proposals, &[WAITING, QUEUED], |sum, part| sum + part);
    // Two views of the same work.
    let in_flight = known(draft, proposals, &[RUNNING, IN_FLIGHT], f64::max);
    let concurrency = f64::from(draft.spec.max_concurrency.max(1));
    let lead_seconds = lead.expected.saturating_add(STEP).as_secs_f64();
    // Nothing is learned from, and nothing taken away on, what is not wholly known.
    if let (Some((queued, false)), Some((in_flight, false))) = (queued, in_flight) {
        memory.look(draft, policy, lead, queued, in_flight);
        if let Some(at) = memory.offered.look_next_at() {
            draft.wake(at);
        }
        if let Some(LastOutlook { outlook, allowed }) = memory.outlook {
            let reason = Reason::Anticipated {
                load: Requests::new(outlook.load).unwrap_or_default(),
                exceedance: outlook.exceedance,
                lead_seconds,
                seen: outlook.seen.map(|seen| Requests::new(seen).unwrap_or_default()),
                recent: Requests::new(outlook.recent).unwrap_or_default(),
                max_concurrency: draft.spec.max_concurrency,
                forecaster: outlook.forecaster,
                missed: memory.budget.missed(),
                allowed,
            };
            proposals.wish(draft, panel::replicas(outlook.load, concurrency), reason);
        }
    }
    if let Some((waiting, _)) = queued
        && waiting.get() > 0.0
    {
        // Where the load falls, and is known to, what it was of late does not come back for who waits.
        let comes = memory
            .outlook
            .map_or(0.0, |LastOutlook { outlook, .. }| outlook.recent.min(outlook.load.max(outlook.last)));
        let service_seconds = memory.offered.service_seconds();
        let within_seconds = lead_seconds.min(BACKLOG_GONE_WITHIN_SECONDS);
        let needed = match service_seconds {
            Some(service) => comes + waiting.get() * service / within_seconds,
            None => in_flight.map_or(0.0, |(in_flight, _)| in_flight.get()) + waiting.get(),
        };
        let reason = Reason::Backlog { waiting, service_seconds, within_seconds };
        // `as` saturates; the upper bound cuts it then.
        proposals.wish(draft, (needed / concurrency).ceil() as u32, reason);
    }
}

impl Anticipation {
    /// See [`ScalerState::forget_detail`].
    pub(crate) fn forget_detail(&mut self) -> bool {
        self.panel.forget_detail()
    }

    /// Takes in a look at queue and work, and forecasts anew when it ends a step.
    fn look(
        &mut self,
        draft: &Draft<'_>,
        policy: Forewarm,
        lead: Lead,
        queued: Requests,
        in_flight: Requests,
    ) {
        let look = Look {
            at: draft.now,
            queued: queued.get(),
            in_flight: in_flight.get(),
            busy_seconds_total: total(draft, BUSY),
            completed_total: total(draft, COMPLETED),
        };
        let Some((load, steps)) = self.offered.observe(look, policy.ttft) else { return };
        let ready = f64::from(draft.observation.count(Phase::Ready));
        if let (Some(attained), Some(missed)) = (total(draft, ATTAINED), total(draft, MISSED)) {
            let capacity = ready.min(self.ready) * f64::from(draft.spec.max_concurrency.max(1));
            let aim = self.budget.aim(policy.allowance(), lead.median);
            self.budget.observe(attained, missed, steps, &load, capacity, aim);
        }
        self.step(draft, policy, &load, steps, lead);
        self.ready = ready;
    }

    fn step(&mut self, draft: &Draft<'_>, policy: Forewarm, load: &StepLoad, steps: u32, lead: Lead) {
        let concurrency = f64::from(draft.spec.max_concurrency.max(1));
        // A decision at the end of a step is served by after the lead, and counts from the step after that.
        let lag = (lead.expected.as_millis().div_ceil(STEP.as_millis()) as u64 + 1).min(MAX_LAG) as usize;
        let aim = self.budget.aim(policy.allowance(), lead.median);
        let allowed = self.budget.target(policy.allowance(), aim);
        let now = allowed / self.budget.bias(policy.allowance());
        let may_miss = MayMiss { allowance: policy.allowance(), now };
        // A gap in the looks is filled with its mean, for as long as anybody looks back.
        for before in (0..steps.min(panel::HISTORY as u32)).rev() {
            let (at, least) = ((before == 0).then_some(draft.now), draft.spec.replicas.min.0);
            let outlook = self.panel.observe(at, load, lag, concurrency, may_miss, least);
            self.outlook = Some(LastOutlook { outlook, allowed });
        }
    }
}

/// A total that sharpens the picture, and whose absence holds nothing. One that no longer counts single requests is
/// as good as absent.
fn total(draft: &Draft<'_>, name: &str) -> Option<f64> {
    match draft.observation.evidence(name, draft.spec.max_signal_age)? {
        Evidence::Known(total) if (0.0..=LARGEST_TOTAL).contains(&total) => Some(total),
        Evidence::Known(_) | Evidence::AtLeast(_) | Evidence::Unknown(_) => None,
    }
}
