//! What the plan says about one request when it comes.

use std::{sync::Arc, time::Duration};

use forewarm_core::pool::{Affinity, Tenants};

use crate::scaler::Scaler;

/// The terms on which a request is taken. Durations are modelled time.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Longest wait while warm.
    pub(crate) warm: Duration,
    /// Longest wait while cold.
    pub(crate) cold: Duration,
    /// How often a stream that waits is sent a comment.
    pub(crate) keepalive: Option<Duration>,
    pub(crate) affinity: Option<Affinity>,
    /// Who shares the queue.
    pub(crate) tenants: Arc<Tenants>,
    /// The model that replicas know, where the request's is another name of it.
    pub(crate) model: Option<String>,
}

impl Scaler {
    /// The terms for a request that asks for this model.
    pub(crate) fn terms(&self, model: Option<&str>) -> Terms {
        let mut state = self.lock();
        let plan = &state.plan;
        let real = model.and_then(|model| plan.routing.aliases.get(model)).cloned();
        let is_planned =
            real.is_some() || model.is_some_and(|model| plan.models.iter().any(|known| known == model));
        let terms = Terms {
            warm: plan.queue.timeout,
            cold: plan.queue.cold_start_timeout,
            keepalive: plan.routing.keepalive,
            affinity: plan.routing.affinity,
            tenants: Arc::clone(&state.tenants),
            model: real,
        };
        state.served.count(model, is_planned);
        terms
    }

    /// When the next replica is expected, in modelled time from now; `None` where nobody knows.
    pub(crate) fn ready_in(&self) -> Option<Duration> {
        let state = self.lock();
        let left = state.plan.ready_in_seconds? - self.modelled(state.planned_at.elapsed());
        // Late already, or a plan that makes no sense: soon.
        Some(Duration::try_from_secs_f64(left).unwrap_or_default())
    }

    /// The same in words, for the end of a message.
    pub(crate) fn outlook(&self) -> String {
        match self.ready_in() {
            Some(left) if left.is_zero() => "a replica is expected to be ready at any moment".to_owned(),
            Some(left) => format!("a replica is expected to be ready in {:.0} s", left.as_secs_f64().ceil()),
            None => "no replica is on its way".to_owned(),
        }
    }
}
