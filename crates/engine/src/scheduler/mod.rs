//! The engine's scheduler as a pure state machine: requests and the time go in, events come out.
//!
//! Nothing here reads a clock, sleeps, locks or does I/O; the same calls always give the same events. Time is
//! *modelled* time: the [`Duration`] since the engine became ready, before any speed-up. [`Scheduler::advance`] may
//! be called late or rarely: events carry the moment they happened in the model, not the moment of the call, so a
//! driver that runs behind doesn't slow the model down.
//!
//! Two timing models exist: [`batching`](BatchingScheduler) (continuous batching with paged KV memory) and
//! [`slots`](SlotScheduler) (a fixed number of independent slots).

mod batching;
mod slots;
mod table;

use std::time::Duration;

pub use batching::BatchingScheduler;
pub use slots::SlotScheduler;
pub use table::RequestId;

use crate::profile::{EngineProfile, TimingModel};

/// A request to be scheduled. Its output length is known beforehand, as there is no model that could decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRequest {
    /// Prompt length in tokens, at least 1.
    pub prompt_tokens: u32,
    /// Tokens to generate, at least 1.
    pub output_tokens: u32,
}

/// When one finished request passed each milestone, in modelled time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// When it was added.
    pub arrived: Duration,
    /// When it first left the waiting queue.
    pub scheduled: Duration,
    /// When its first token was generated.
    pub first_token: Duration,
    /// When it ended.
    pub finished: Duration,
    /// Prompt length in tokens.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub output_tokens: u32,
    /// How often it lost its KV memory and had to be computed again.
    pub preemptions: u32,
}

/// Something that happened in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request's prompt is processed and its first token is out.
    FirstToken {
        /// The request.
        id: RequestId,
        /// Time from arrival to the first token.
        time_to_first_token: Duration,
        /// Prompt length in tokens.
        prompt_tokens: u32,
    },
    /// A request got `tokens` more tokens, each `interval` after the one before.
    Tokens {
        /// The request.
        id: RequestId,
        /// How many, at least 1.
        tokens: u32,
        /// Inter-token latency of each of them.
        interval: Duration,
    },
    /// A request ended; its id is free for reuse.
    Finished {
        /// The request.
        id: RequestId,
        /// Its milestones.
        timeline: Timeline,
    },
    /// A running request was sent back to the queue because KV memory ran out.
    Preempted {
        /// The request.
        id: RequestId,
    },
    /// One engine step ended that had processed this many prompt and output tokens (batching model only).
    Step {
        /// Tokens processed in the step.
        tokens: u32,
    },
}

/// The engine's load at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Occupancy {
    /// Requests in the running batch (or in a slot).
    pub running: usize,
    /// Requests in the waiting queue.
    pub waiting: usize,
    /// Share of KV memory in use, 0 to 1. The slots model has no KV memory: there it is the share of busy slots.
    pub kv_usage: f64,
}

/// The scheduler of one engine, under either timing model.
///
/// The number of requests it holds is not limited here; the caller admits or refuses.
#[derive(Clone, Debug)]
pub enum Scheduler {
    /// Continuous batching.
    Batching(BatchingScheduler),
    /// Independent slots.
    Slots(SlotScheduler),
}

impl Scheduler {
    /// Returns an idle scheduler for a (valid) profile.
    #[must_use]
    pub fn new(profile: &EngineProfile) -> Self {
        match &profile.timing {
            TimingModel::Batching(model) => Self::Batching(BatchingScheduler::new(*model)),
            TimingModel::Slots(model) => Self::Slots(SlotScheduler::new(*model)),
        }
    }

    /// Adds a request at time `at`. Call [`advance`](Self::advance) up to `at` first; an earlier `at` than the last
    /// one counts as the last one. It goes to the end of the queue and starts at once if there is room.
    pub fn add(&mut self, at: Duration, request: NewRequest) -> RequestId {
        match self {
            Self::Batching(scheduler) => scheduler.add(at, request),
            Self::Slots(scheduler) => scheduler.add(at, request),
        }
    }

    /// Takes a request out at once and frees what it held. Returns whether it was still there.
    pub fn cancel(&mut self, at: Duration, id: RequestId) -> bool {
        match self {
            Self::Batching(scheduler) => scheduler.cancel(at, id),
            Self::Slots(scheduler) => scheduler.cancel(at, id),
        }
    }

    /// Lets everything happen that happens up to and including `now`, appending it to `events` in order.
    pub fn advance(&mut self, now: Duration, events: &mut Vec<Event>) {
        match self {
            Self::Batching(scheduler) => scheduler.advance(now, events),
            Self::Slots(scheduler) => scheduler.advance(now, events),
        }
    }

    /// Returns when the next event happens if nothing is added or cancelled; `None` when idle.
    #[must_use]
    pub fn next_event(&self) -> Option<Duration> {
        match self {
            Self::Batching(scheduler) => scheduler.next_event(),
            Self::Slots(scheduler) => scheduler.next_event(),
        }
    }

    /// Returns the present load.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        match self {
            Self::Batching(scheduler) => scheduler.occupancy(),
            Self::Slots(scheduler) => scheduler.occupancy(),
        }
    }
}
