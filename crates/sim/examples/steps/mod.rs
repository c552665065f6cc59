//! What a workload comes to in steps of 15 s, before anybody serves it.

use forewarm_sim::engine::SlotsModel;
use forewarm_workload::Request;

/// Requests at a time of a replica.
pub(crate) const SLOTS: u32 = 8;
/// Step of the load, in microseconds.
pub(crate) const STEP: u64 = 15_000_000;

/// The mean number of requests that would be worked on if none waited, and the arrivals, in each step.
pub(crate) fn by_step(requests: &[Request]) -> (Vec<f64>, Vec<f64>) {
    let model = SlotsModel { slots: SLOTS };
    let (mut load, mut arrivals) = (Vec::new(), Vec::new());
    for request in requests {
        let mut at = request.arrival.as_micros() as u64;
        let end = at + model.service(request);
        let last = (end / STEP) as usize;
        if load.len() <= last {
            load.resize(last + 1, 0.0);
            arrivals.resize(last + 1, 0.0);
        }
        arrivals[(at / STEP) as usize] += 1.0;
        while at < end {
            let until = end.min((at / STEP + 1) * STEP);
            load[(at / STEP) as usize] += (until - at) as f64 / STEP as f64;
            at = until;
        }
    }
    (load, arrivals)
}
