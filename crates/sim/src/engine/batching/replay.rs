//! One replica on its own, to look at the model without a fleet around it.

use std::{cmp::Reverse, collections::BinaryHeap};

use forewarm_workload::Request;

use super::{Batching, BatchingModel};
use crate::{
    engine::{Engine, Progress},
    time::{Micros, micros},
};

/// When a request was served, counted from the start of the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// When its first token came.
    pub first_token: Micros,
    /// When its last token came.
    pub finished: Micros,
}

impl BatchingModel {
    /// Sends every request, in the order of their arrival, to one replica as it arrives; what does not fit waits
    /// in the engine's own queue. Returns when each was served.
    pub fn replay(&self, requests: &[Request]) -> Vec<Served> {
        let mut served = vec![Served::default(); requests.len()];
        let mut engine = Batching::new(self);
        let mut calls = BinaryHeap::new();
        let mut progress = Progress::default();
        let mut take = |progress: &mut Progress, calls: &mut BinaryHeap<_>| {
            for &(index, at) in &progress.first_tokens {
                served[index as usize].first_token = at;
            }
            for &(index, at) in &progress.finished {
                served[index as usize].finished = at;
            }
            calls.extend(progress.wake_at.map(Reverse));
            progress.clear();
        };
        for (index, request) in requests.iter().enumerate() {
            let now = micros(request.arrival);
            while let Some(Reverse(at)) = calls.peek().copied().filter(|Reverse(at)| *at <= now) {
                calls.pop();
                engine.advance(at, &mut progress);
                take(&mut progress, &mut calls);
            }
            engine.admit(now, index as u32, request, &mut progress);
            take(&mut progress, &mut calls);
        }
        while let Some(Reverse(at)) = calls.pop() {
            engine.advance(at, &mut progress);
            take(&mut progress, &mut calls);
        }
        served
    }
}
