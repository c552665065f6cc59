//! What the requests ask for over time, whoever serves them.

use crate::{clairvoyant::jobs::Job, time::Micros};

/// What comes in a bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Bin {
    /// Work that would be done in it with slots without end, in units.
    pub(crate) work: u32,
    pub(crate) arrivals: u32,
    /// Mean patience of the arrivals, in seconds.
    pub(crate) patience: f64,
}

/// Demand in bins.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// Width of a bin.
    pub(crate) bin: Micros,
    pub(crate) bins: Vec<Bin>,
    /// What a replica does in a bin, in units.
    pub(crate) units_per_replica: u32,
    /// More replicas than this never have work in a bin's mean.
    pub(crate) most_replicas: u32,
    seconds_per_unit: f64,
    slots: u32,
}

/// Beyond this wait, how long it is makes no difference to the plan.
const LONGEST_WAIT_SECONDS: f64 = 600.0;

impl Demand {
    pub(crate) fn new(jobs: &[Job], slots: u32, bin: Micros, units_per_replica: u32) -> Self {
        let end = jobs.iter().map(|job| job.arrival + job.service).max().unwrap_or(0);
        let count = (end / bin + 1) as usize;
        // Microseconds of work by bin.
        let mut work = vec![0_u64; count];
        let mut bins = vec![Bin::default(); count];
        for job in jobs {
            let end = job.arrival + job.service;
            let (first, last) = ((job.arrival / bin) as usize, (end / bin) as usize);
            if let Some(slot) = bins.get_mut(first) {
                slot.arrivals += 1;
                slot.patience += job.patience as f64 / 1e6;
            }
            for (index, work) in work.iter_mut().enumerate().take(last + 1).skip(first) {
                let from = job.arrival.max(index as u64 * bin);
                *work += end.min((index as u64 + 1) * bin) - from;
            }
        }
        let capacity = u64::from(slots) * bin;
        let unit = capacity as f64 / f64::from(units_per_replica);
        let (mut sum, mut given) = (0_u64, 0_u64);
        for (slot, &work) in bins.iter_mut().zip(&work) {
            sum += work;
            let upto = (sum as f64 / unit) as u64;
            slot.work = (upto - given) as u32;
            given = upto;
            if slot.arrivals > 0 {
                slot.patience /= f64::from(slot.arrivals);
            }
        }
        let most = work.iter().copied().max().unwrap_or(0).div_ceil(capacity) as u32;
        Self { bin, bins, units_per_replica, most_replicas: most + 1, seconds_per_unit: unit / 1e6, slots }
    }

    /// The longest backlog worth telling apart, in units.
    pub(crate) fn most_backlog(&self, replicas: u32) -> u32 {
        let rate = f64::from(replicas.max(1) * self.slots) / self.seconds_per_unit;
        (LONGEST_WAIT_SECONDS * rate) as u32
    }
}
