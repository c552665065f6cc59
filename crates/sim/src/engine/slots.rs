//! The simple engine: requests do not slow each other.

use std::{cmp::Reverse, collections::BinaryHeap};

use forewarm_workload::Request;

use crate::{
    engine::{Engine, Progress, SlotsModel},
    time::Micros,
};

/// One replica of the simple engine.
#[derive(Debug)]
pub(crate) struct Slots {
    model: SlotsModel,
    /// Ends of the requests being worked on.
    ends: BinaryHeap<Reverse<(Micros, u32)>>,
}

impl Slots {
    pub(crate) fn new(model: SlotsModel) -> Self {
        Self { model, ends: BinaryHeap::with_capacity(model.slots.min(1024) as usize) }
    }
}

impl Engine for Slots {
    fn has_room(&self) -> bool {
        self.ends.len() < self.model.slots as usize
    }

    fn in_flight(&self) -> u32 {
        self.ends.len() as u32
    }

    fn load(&self) -> u64 {
        0
    }

    fn admit(&mut self, now: Micros, index: u32, request: &Request, progress: &mut Progress) {
        let end = now + self.model.service(request);
        self.ends.push(Reverse((end, index)));
        progress.first_tokens.push((index, now + self.model.prefill(request)));
        progress.wake_at = Some(end);
    }

    fn advance(&mut self, now: Micros, progress: &mut Progress) {
        // Each request asked for a call at its own end, so none is needed for the next.
        while let Some(&Reverse((end, index))) = self.ends.peek()
            && end <= now
        {
            self.ends.pop();
            progress.finished.push((index, end));
        }
    }

    fn ttft_alone(&self, request: &Request) -> Micros {
        self.model.prefill(request)
    }
}
