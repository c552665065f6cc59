//! What decides in a run.

use std::time::Duration;

use forewarm_core::{ScalerSpec, ScalerState};

use crate::time::Micros;

/// What decides in a run.
#[derive(Clone, Debug)]
pub enum Decider {
    /// The live controller's core, with any of its policies.
    Core {
        /// What it is asked for.
        spec: Box<ScalerSpec>,
        /// What it remembers from before the run.
        state: Box<ScalerState>,
        /// Whether it is called at once when requests begin to wait or a replica becomes ready, as the live
        /// controller is; else every 15 s and when it asked for it.
        on_events: bool,
        /// The core's time at the beginning of the run: after what it remembers.
        epoch: Duration,
    },
    /// A timetable made beforehand, by somebody who knows the requests.
    Timetable(Vec<Step>),
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
        Decider::Core { spec: Box::new(spec), state: Box::default(), on_events: true, epoch: Duration::ZERO }
    }

    /// The core with a policy of somebody else, which looks only at its own times.
    pub fn periodic(spec: ScalerSpec) -> Self {
        Decider::Core { spec: Box::new(spec), state: Box::default(), on_events: false, epoch: Duration::ZERO }
    }
}
