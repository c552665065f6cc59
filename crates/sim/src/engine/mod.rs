//! How one replica works on its requests.

mod batching;
mod slots;

use forewarm_workload::Request;

pub(crate) use batching::Batching;
pub use batching::{BatchingModel, KV_BLOCK_TOKENS, ModelProblem, Served, StepTime, UnknownProfile};
pub(crate) use slots::Slots;

use crate::time::{Micros, seconds};

/// The model of an engine.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineModel {
    /// So many requests at a time, each as fast as if it were alone.
    Slots(SlotsModel),
    /// Continuous batching: requests share steps and KV memory.
    Batching(BatchingModel),
}

/// The simple engine: a request holds one of `slots` for input / 5,000 + 0.03 × output seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotsModel {
    /// Requests at a time.
    pub slots: u32,
}

impl SlotsModel {
    /// Time to read the prompt: the TTFT of a request that does not wait.
    pub fn prefill(self, request: &Request) -> Micros {
        seconds(f64::from(request.input_tokens) / forewarm_workload::SIMPLE_ENGINE_INPUT_TOKENS_PER_SECOND)
    }

    /// Time from the first slot-second to the last token.
    pub fn service(self, request: &Request) -> Micros {
        let decode =
            f64::from(request.output_tokens) * forewarm_workload::SIMPLE_ENGINE_SECONDS_PER_OUTPUT_TOKEN;
        self.prefill(request) + seconds(decode)
    }
}

/// One replica's engine.
pub(crate) trait Engine {
    /// Whether one more request can be worked on now.
    fn has_room(&self) -> bool;
    /// Requests being worked on.
    fn in_flight(&self) -> u32;
    /// What it has to do, to choose among replicas with room: the next request goes to the one with the least, and
    /// to the oldest of those with the same. An engine whose requests do not slow each other always says 0, so that
    /// they are packed and the other replicas fall idle.
    fn load(&self) -> u64;
    /// Takes a request. May only be called when there is room.
    fn admit(&mut self, now: Micros, index: u32, request: &Request, progress: &mut Progress);
    /// Does what is due at `now`. A call that comes too early does nothing.
    fn advance(&mut self, now: Micros, progress: &mut Progress);
    /// TTFT of a request alone on an idle replica.
    fn ttft_alone(&self, request: &Request) -> Micros;
}

/// What an engine did, and when it wants to be called again.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Requests by their index, and when their first token comes or came.
    pub(crate) first_tokens: Vec<(u32, Micros)>,
    /// Requests by their index, and when they ended.
    pub(crate) finished: Vec<(u32, Micros)>,
    /// When [`Engine::advance`] is to be called; more than one call may be pending.
    pub(crate) wake_at: Option<Micros>,
}

impl Progress {
    pub(crate) fn clear(&mut self) {
        self.first_tokens.clear();
        self.finished.clear();
        self.wake_at = None;
    }
}
