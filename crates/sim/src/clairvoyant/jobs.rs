//! Requests as the simple engine sees them.

use std::{cmp::Reverse, collections::BinaryHeap};

use forewarm_workload::Request;

use crate::{
    Objective,
    engine::SlotsModel,
    time::{Micros, micros},
};

/// A request, reduced to what decides about waiting and missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) arrival: Micros,
    /// How long it holds its slot.
    pub(crate) service: Micros,
    /// How long it may wait for a slot and still attain the objective.
    pub(crate) patience: Micros,
}

/// The requests' jobs, in the same order.
pub(crate) fn jobs(model: SlotsModel, objective: &Objective, requests: &[Request]) -> Vec<Job> {
    let job = |request: &Request| {
        let prefill = model.prefill(request);
        Job {
            arrival: micros(request.arrival),
            service: model.service(request),
            patience: objective.bound(prefill) - prefill,
        }
    };
    requests.iter().map(job).collect()
}

/// Requests that may miss: the most with which [`crate::Report::attainment`] still is the objective's share.
pub(crate) fn allowed_misses(objective: &Objective, sent: usize) -> u64 {
    let share = objective.percent / 100.0;
    let mut allowed = (sent as f64 * objective.allowance()).ceil() as u64;
    while allowed > 0 && (sent as u64 - allowed.min(sent as u64)) as f64 / (sent as f64) < share {
        allowed -= 1;
    }
    allowed
}

/// The most jobs at a time if there were slots without end, from `from` on: those that come earlier begin then.
pub(crate) fn crowd(jobs: &[Job], from: Micros) -> u32 {
    let mut ends: BinaryHeap<Reverse<Micros>> = BinaryHeap::new();
    let mut most = 0;
    for job in jobs {
        let start = job.arrival.max(from);
        while ends.peek().is_some_and(|&Reverse(end)| end <= start) {
            ends.pop();
        }
        ends.push(Reverse(start + job.service));
        most = most.max(ends.len());
    }
    most as u32
}
