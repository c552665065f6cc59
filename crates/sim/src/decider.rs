//! What decides in a run.

use std::time::Duration;

use forewarm_core::{Decision, Observation, ScalerSpec, ScalerState, plan};

use crate::time::{Micros, micros};

/// What decides in a run.
#[derive(Clone, Debug)]
pub enum Decider {
    /// The live controller's core, with any of its policies.
    Core {
        /// What it is asked for.
        spec: Box<ScalerSpec>,
        /// What it remembers from before the run.
        state: Box<ScalerState>,
        /// When it is called besides every 15 s and when it asked for it.
        looks: Looks,
        /// The core's time at the beginning of the run: after what it remembers.
        epoch: Duration,
    },
    /// A timetable made beforehand, by somebody who knows the requests.
    Timetable(Vec<Step>),
}

/// When the core is called besides every 15 s and when it asked for it. The first event after a quiet time is seen
/// at once; those within the gap after a look are taken together at the end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// Never.
    OnTicks,
    /// When requests wait or a replica becomes ready, a second apart: a fraction of the looks of the live controller,
    /// so that months take seconds.
    OnWaiting,
    /// Whenever the queue or the work in flight changes, or a replica becomes ready: as the live controller.
    OnChanges {
        /// The live controller's is 20 ms on the wall.
        gap: Duration,
    },
}

impl Looks {
    /// The time between two looks on events; `None` when there are none.
    pub(crate) fn gap(self) -> Option<Micros> {
        match self {
            Looks::OnTicks => None,
            Looks::OnWaiting => Some(1_000_000),
            Looks::OnChanges { gap } => Some(micros(gap)),
        }
    }
}

/// From this moment on, so many replicas are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// From when.
    pub at: Micros,
    /// How many.
    pub replicas: u32,
}

impl Decider {
    /// The live controller's core without a memory, called on events too.
    pub fn core(spec: ScalerSpec) -> Self {
        Self::with_looks(spec, Looks::OnWaiting)
    }

    /// The core with a policy of somebody else, which looks only at its own times.
    pub fn periodic(spec: ScalerSpec) -> Self {
        Self::with_looks(spec, Looks::OnTicks)
    }

    /// The core without a memory, called at these times.
    pub fn with_looks(spec: ScalerSpec, looks: Looks) -> Self {
        Decider::Core { spec: Box::new(spec), state: Box::default(), looks, epoch: Duration::ZERO }
    }

    /// What it decides on what is seen, and remembers of it; `None` for a timetable, which sees nothing.
    pub fn decide(&mut self, observation: &Observation) -> Option<Decision> {
        match self {
            Decider::Core { spec, state, .. } => Some(plan(spec, state, observation)),
            Decider::Timetable(_) => None,
        }
    }

    pub(crate) fn looks(&self) -> Looks {
        match self {
            Decider::Core { looks, .. } => *looks,
            Decider::Timetable(_) => Looks::OnTicks,
        }
    }

    /// The core's time at the beginning of the run.
    pub(crate) fn epoch(&self) -> Duration {
        match self {
            Decider::Core { epoch, .. } => *epoch,
            Decider::Timetable(_) => Duration::ZERO,
        }
    }
}
