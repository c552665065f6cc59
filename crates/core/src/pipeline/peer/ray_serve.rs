//! Policy `rayServe`: a decision whenever the load was reported.

use serde::{Deserialize, Serialize};

use super::{hpa::count, signals::Signals};
use crate::{
    Bounds, Phase, Reason, Stage,
    peers::{
        kpa::window::{Aggregation, AverageWindow},
        ray_serve::{self, RayServeObservation, RayServeReason, RayServeSpec, RayServeState},
    },
    pipeline::Draft,
    policy::RayServePolicy,
};

/// What the controller remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RayServeMemory {
    load: AverageWindow,
    state: RayServeState,
}

impl RayServeMemory {
    pub(super) fn new() -> Self {
        // One bucket for each report, so that a report is not diluted by the time between two.
        let (span, report) = (RayServePolicy::LOOK_BACK, RayServePolicy::INTERVAL);
        Self { load: AverageWindow::new(Aggregation::Linear, span, report), state: RayServeState::default() }
    }
}

/// One decision.
pub(super) fn tick(
    draft: &mut Draft<'_>,
    policy: &RayServePolicy,
    memory: &mut RayServeMemory,
    signals: &Signals<'_>,
) {
    let load = match signals.ongoing() {
        Ok(load) => load,
        Err(unread) => {
            draft.step(Stage::Propose, Reason::PolicyUnusable { why: unread.into_text() });
            return;
        }
    };
    memory.load.record(draft.now, load);
    let Bounds { min, max } = draft.spec.replicas;
    let rules =
        RayServeSpec { min_replicas: count(min.0), max_replicas: count(max.0), ..policy.rules.clone() };
    let seen = RayServeObservation {
        now: draft.now,
        running: count(draft.observation.count(Phase::Ready)),
        target: count(draft.current),
        ongoing_requests: memory.load.average(draft.now),
    };
    let (target, steps) = ray_serve::decide(&rules, &mut memory.state, &seen);
    for ray_serve in steps {
        let (stage, replicas) = match ray_serve {
            RayServeReason::ColdStart | RayServeReason::Starting => (Stage::Propose, target),
            RayServeReason::Load { wish, .. } => (Stage::Propose, wish),
            RayServeReason::Delayed { .. } => (Stage::Stabilise, target),
        };
        draft.set(stage, super::replicas(replicas), Reason::RayServe { ray_serve });
    }
    draft.replicas = super::replicas(target);
}
