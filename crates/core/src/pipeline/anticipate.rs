//! Step 1 for forewarm's own policy: the load that must be expected a cold start ahead, at the probability that the
//! objective allows.
//!
//! The load is [`OfferedLoad`]: demand, not symptoms. What it may become until a replica started now serves is
//! forecast by a [`Panel`], whose probability is steered by what really missed ([`MissBudget`]). A backlog and the
//! work in flight ask for their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::propose::{IN_FLIGHT, Proposals, QUEUED, RUNNING, WAITING};
use crate::{
    Evidence, Forewarm, Missing, Phase, Reason, Requests, ScalerState, SignalName,
    forecast::{MissBudget, OfferedLoad, Outlook, Panel, STEP, panel},
    pipeline::Draft,
};

/// Request-seconds that replicas have worked.
const BUSY: &str = "busy_seconds_total";
/// Requests that replicas have finished.
const COMPLETED: &str = "completed_total";
/// Requests that saw their first token in time, and those that did not.
const ATTAINED: &str = "attained_total";
const MISSED: &str = "missed_total";

/// The most steps from a decision until its replicas serve: an hour.
const MAX_LAG: u64 = 240;

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

/// Proposes replicas for what is expected.
pub(super) fn anticipate(
    draft: &mut Draft<'_>,
    proposals: &mut Proposals,
    state: &mut ScalerState,
    policy: Forewarm,
) {
    let lead = state.cold_starts.expected(&draft.spec.cold_start);
    let memory = state.anticipation.get_or_insert_default();
    let Some(look) = look(draft, proposals) else { return };
    if let Some((load, steps)) = memory.offered.observe(look) {
        if let (Some(attained), Some(missed)) = (optional(draft, ATTAINED), optional(draft, MISSED)) {
            let ready = f64::from(draft.observation.count(Phase::Ready));
            let capacity = (ready.min(memory.ready)) * f64::from(draft.spec.max_concurrency.max(1));
            memory.budget.observe(attained, missed, steps, load, capacity);
        }
        memory.step(draft, policy, load, steps, lead);
        memory.ready = f64::from(draft.observation.count(Phase::Ready));
    }
    let concurrency = f64::from(draft.spec.max_concurrency.max(1));
    let lead_seconds = (lead + STEP).as_secs_f64();
    if let Some(LastOutlook { outlook, allowed }) = memory.outlook {
        let reason = Reason::Anticipated {
            load: Requests::new(outlook.load).unwrap_or_default(),
            exceedance: outlook.exceedance,
            lead_seconds,
            recent: Requests::new(outlook.recent).unwrap_or_default(),
            max_concurrency: draft.spec.max_concurrency,
            forecaster: outlook.forecaster,
            missed: memory.budget.missed(),
            allowed,
        };
        proposals.wish(draft, panel::replicas(outlook.load, concurrency), reason);
    }
    if look.queued > 0.0 {
        let recent = memory.outlook.map_or(0.0, |last| last.outlook.recent);
        let service = memory.offered.service_seconds();
        let needed = match service {
            Some(service) => recent + look.queued * service / lead_seconds,
            None => look.in_flight + look.queued,
        };
        let waiting = Requests::new(look.queued).unwrap_or_default();
        let reason = Reason::Backlog { waiting, service_seconds: service, within_seconds: lead_seconds };
        proposals.wish(draft, (needed / concurrency).ceil() as u32, reason);
    }
}

impl Anticipation {
    fn step(&mut self, draft: &Draft<'_>, policy: Forewarm, load: f64, steps: u32, lead: Duration) {
        let concurrency = f64::from(draft.spec.max_concurrency.max(1));
        // A decision at the end of a step is served by after the lead, and counts from the step after that.
        let lag = (lead.as_millis().div_ceil(STEP.as_millis()) as u64 + 1).min(MAX_LAG) as usize;
        let allowed = self.budget.target(policy.allowance());
        let bias = self.budget.bias(policy.allowance());
        // A gap in the looks is filled with its mean, for as long as anybody looks back.
        for _ in 0..u64::from(steps).min(MAX_LAG) {
            let least = draft.spec.replicas.min.0;
            let outlook = self.panel.observe(load, lag, concurrency, allowed / bias, least);
            self.outlook = Some(LastOutlook { outlook, allowed });
        }
    }
}

/// The look at queue and work; `None` when either is not known, which holds the number.
fn look(draft: &Draft<'_>, proposals: &mut Proposals) -> Option<crate::forecast::Look> {
    let queued = sum(draft, proposals, &[QUEUED, WAITING])?;
    let in_flight = largest(draft, proposals, &[IN_FLIGHT, RUNNING])?;
    Some(crate::forecast::Look {
        at: draft.now,
        queued,
        in_flight,
        busy_seconds_total: optional(draft, BUSY),
        completed_total: optional(draft, COMPLETED),
    })
}

/// The sum of the signals that somebody was asked for; `None` when one of them is not wholly known, or none was
/// asked for.
fn sum(draft: &Draft<'_>, proposals: &mut Proposals, names: &[&str]) -> Option<f64> {
    known(draft, proposals, names)?.into_iter().reduce(|sum, value| sum + value)
}

/// The largest of them: two views of the same work.
fn largest(draft: &Draft<'_>, proposals: &mut Proposals, names: &[&str]) -> Option<f64> {
    known(draft, proposals, names)?.into_iter().reduce(f64::max)
}

fn known(draft: &Draft<'_>, proposals: &mut Proposals, names: &[&str]) -> Option<Vec<f64>> {
    let mut values = Vec::new();
    let mut whole = true;
    for &name in names {
        let Some(evidence) = draft.observation.evidence(name, draft.spec.max_signal_age) else { continue };
        match proposals.weigh(name, evidence) {
            Some((value, false)) => values.push(value.get()),
            Some((_, true)) | None => whole = false,
        }
    }
    if values.is_empty() && whole {
        let signal = SignalName::from(names.first().copied().unwrap_or_default());
        proposals.hold.get_or_insert(Reason::HeldOnMissing { signal, why: Missing::Absent });
    }
    (whole && !values.is_empty()).then_some(values)
}

/// A total that sharpens the picture, and whose absence holds nothing.
fn optional(draft: &Draft<'_>, name: &str) -> Option<f64> {
    match draft.observation.evidence(name, draft.spec.max_signal_age)? {
        Evidence::Known(total) if total >= 0.0 => Some(total),
        Evidence::Known(_) | Evidence::AtLeast(_) | Evidence::Unknown(_) => None,
    }
}
