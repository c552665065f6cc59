//! What the requests ask for over time, whoever serves them.

use crate::{clairvoyant::jobs::Job, time::Micros};

/// What comes in a bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Bin {
    /// Work that would be done in it with slots without end, in units.
    pub(crate) work: u32,
    pub(crate) arrivals: u32,
    /// How long the arrivals may wait in the mean, in seconds.
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
}

/// A fleet of fewer replicas is looked at more closely, since each of them matters more.
const SMALL: f64 = 6.0;
/// Backlogs that would keep the largest fleet busy for longer than this are not considered, unless they come about
/// before the first start can be ready.
const LONGEST: Micros = 60_000_000;

impl Demand {
    /// `patience` is the part of the jobs' patience that may be used up.
    pub(crate) fn new(jobs: &[Job], slots: u32, patience: f64) -> Self {
        let work: Micros = jobs.iter().map(|job| job.service).sum();
        let length = jobs.last().map_or(1, |job| job.arrival.max(1));
        let replicas = work as f64 / length as f64 / f64::from(slots);
        let (bin, units_per_replica) = if replicas < SMALL { (5_000_000, 8) } else { (10_000_000, 2) };

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
                slot.patience *= patience / f64::from(slot.arrivals);
            }
        }
        let most = work.iter().copied().max().unwrap_or(0).div_ceil(capacity) as u32;
        Self { bin, bins, units_per_replica, most_replicas: most + 1 }
    }

    /// The longest backlog that is considered, in units.
    pub(crate) fn most_backlog(&self, cold_start: Micros) -> u32 {
        let first = (cold_start / self.bin + 2) as usize;
        let at_first: u32 = self.bins.iter().take(first).map(|bin| bin.work).sum();
        let bins = LONGEST.div_ceil(self.bin) as u32;
        at_first.max(self.most_replicas * self.units_per_replica * bins)
    }
}
