//! Policy `skyServe`: a decision every 20 s, every 5 s while there is no replica.

use std::time::Duration;

use super::{hpa::count, signals::Signals};
use crate::{
    Bounds, Reason, Stage,
    peers::sky_serve::{
        self, DECISION_INTERVAL, NO_REPLICA_DECISION_INTERVAL, RATE_WINDOW, SkyServeSpec, SkyServeState,
    },
    pipeline::Draft,
    policy::SkyServePolicy,
};

/// One decision. Returns when the next is due.
pub(super) fn tick(
    draft: &mut Draft<'_>,
    policy: &SkyServePolicy,
    memory: &mut Option<SkyServeState>,
    signals: &mut Signals<'_>,
) -> Duration {
    let Bounds { min, max } = draft.spec.replicas;
    let rules =
        SkyServeSpec { min_replicas: count(min.0), max_replicas: count(max.0), ..policy.rules.clone() };
    let state = memory.get_or_insert_with(|| SkyServeState::new(&rules));
    match signals.arrivals(RATE_WINDOW) {
        Ok((requests, _)) => {
            let (target, sky_serve) = sky_serve::decide(&rules, state, requests.max(0.0) as u64);
            draft.set(Stage::Propose, super::replicas(sky_serve.wish), Reason::SkyServe { sky_serve });
            draft.replicas = super::replicas(target);
            if target != sky_serve.wish {
                draft.step(Stage::Stabilise, Reason::SkyServe { sky_serve });
            }
        }
        Err(unread) => draft.step(Stage::Propose, Reason::PolicyUnusable { why: unread.into_text() }),
    }
    if draft.replicas == 0 { NO_REPLICA_DECISION_INTERVAL } else { DECISION_INTERVAL }
}
