//! A cost that no autoscaler can go below, whatever it knows: the statement and its proof are in
//! `docs/research/bound.md`.

use forewarm_workload::Request;

use crate::{
    World,
    clairvoyant::jobs::{Job, allowed_misses, jobs},
    engine::EngineModel,
    time::Micros,
};

/// Width of a bin, and the steps in which a replica's work in a bin is counted: for fleets whose mean load is
/// below [`SMALL`] replicas, and for larger ones.
const FINE: (Micros, u32) = (5_000_000, 8);
const COARSE: (Micros, u32) = (10_000_000, 2);
const SMALL: f64 = 6.0;
/// Shorter cold starts than two of the shortest bins are taken for none.
const SHORTEST_BIN: Micros = 500_000;
/// Trials of prices for a miss.
const PRICES: u32 = 14;

/// Replica-hours below which no run of these requests can attain the objective, if at least `min` replicas are
/// billed all the time.
///
/// It holds for every order of serving, with and without knowledge of the future, and for starts that take as long
/// as the world's shortest. Starts that are drawn from a law without a shortest count as free. Nothing is proved for
/// engines whose requests slow each other: the bound is 0 there.
pub fn lower_bound(world: &World, min: u32, requests: &[Request]) -> f64 {
    let EngineModel::Slots(model) = world.engine else { return 0.0 };
    let jobs = jobs(model, &world.objective, requests);
    let allowed = allowed_misses(&world.objective, jobs.len()) as f64;
    let cold_start = world.cold_start.always().unwrap_or(0);
    let end = jobs.iter().map(|job| job.arrival + job.service).max().unwrap_or(0);
    let floor = f64::from(min) * end as f64 / 1e6;
    let by_work = kept_work(&jobs, allowed) / f64::from(model.slots);
    let mut best = floor.max(by_work);
    if cold_start >= 2 * SHORTEST_BIN {
        let relaxed = Relaxed::new(&jobs, model.slots, cold_start, end);
        let (mut low, mut high): (Option<f64>, Option<f64>) = (None, None);
        for _ in 0..PRICES {
            let price = match (low, high) {
                (None, None) => 8.0,
                (Some(low), None) => low * 4.0,
                (None, Some(high)) => high / 4.0,
                (Some(low), Some(high)) => f64::sqrt(low * high),
            };
            let (cost, missed) = relaxed.cheapest(world.initial_replicas, min, price);
            best = best.max(cost - price * allowed);
            if missed > allowed {
                low = Some(price);
            } else {
                high = Some(price);
            }
            if low.zip(high).is_some_and(|(low, high)| high < low * 1.02) {
                break;
            }
        }
    }
    best / 3600.0
}

/// Slot-seconds of the requests that are left when the longest ones miss and vanish.
fn kept_work(jobs: &[Job], allowed: f64) -> f64 {
    let mut services: Vec<Micros> = jobs.iter().map(|job| job.service).collect();
    services.sort_unstable();
    let kept = services.len() - (allowed as usize).min(services.len());
    services.iter().take(kept).map(|&service| service as f64 / 1e6).sum()
}

/// The relaxed problem: work may be put off as long as patience allows and dropped for its share of a miss.
struct Relaxed {
    cold_start_seconds: f64,
    bin_seconds: f64,
    units_per_replica: u32,
    /// Bins that end before a replica asked for at the beginning can be ready.
    bins_without_starts: usize,
    /// Seconds after the last whole bin.
    rest_seconds: f64,
    bins: Vec<Bin>,
    most_replicas: u32,
}

struct Bin {
    /// Work that comes, in units.
    work: u32,
    /// The most that may be put off beyond its end, in units.
    limit: u32,
    /// Misses that dropping so many units counts for, at least.
    dropped: Vec<f64>,
}

impl Relaxed {
    fn new(jobs: &[Job], slots: u32, cold_start: Micros, end: Micros) -> Self {
        let load = kept_work(jobs, 0.0) * 1e6 / (end.max(1) as f64 * f64::from(slots));
        let (bin, units_per_replica) = if load < SMALL { FINE } else { COARSE };
        let bin = bin.min(cold_start / 2);
        let unit = (u64::from(slots) * bin) as f64 / f64::from(units_per_replica);
        let mut bins = Vec::with_capacity((end / bin) as usize);
        // Jobs that may still be worked on, and the next to arrive.
        let mut active: Vec<Job> = Vec::new();
        let mut arriving = jobs.iter().peekable();
        let (mut sum, mut given) = (0_u64, 0_u64);
        for index in 0..end / bin {
            let (from, to) = (index * bin, (index + 1) * bin);
            active.retain(|job| job.arrival + job.patience + job.service > from);
            while let Some(&job) = arriving.next_if(|job| job.arrival < to) {
                active.push(job);
            }
            active.sort_unstable_by_key(|job| (std::cmp::Reverse(job.service), job.arrival));
            let pieces: Vec<(f64, u64)> = active
                .iter()
                .map(|job| (job.service as f64, done(job, 0, to) - done(job, 0, from)))
                .filter(|&(_, work)| work > 0)
                .collect();
            let put_off: u64 = active.iter().map(|job| done(job, 0, to) - done(job, job.patience, to)).sum();
            let work: u64 = pieces.iter().map(|piece| piece.1).sum();
            sum += work;
            let upto = (sum as f64 / unit) as u64;
            bins.push(Bin {
                work: (upto - given) as u32,
                limit: (put_off as f64 / unit) as u32 + 1,
                dropped: dropped(&pieces, unit),
            });
            given = upto;
        }
        let most = bins.iter().map(|bin| (bin.work + bin.limit + 1).div_ceil(units_per_replica)).max();
        Self {
            cold_start_seconds: cold_start as f64 / 1e6,
            bin_seconds: bin as f64 / 1e6,
            units_per_replica,
            bins_without_starts: (cold_start / bin) as usize,
            rest_seconds: (end - end / bin * bin) as f64 / 1e6,
            bins,
            most_replicas: most.unwrap_or(0),
        }
    }

    /// The least cost, and the misses that it comes with, when a miss costs `price` replica-seconds.
    fn cheapest(&self, initial: u32, min: u32, price: f64) -> (f64, f64) {
        let up = self.cold_start_seconds - self.bin_seconds;
        let top = self.most_replicas.max(initial).max(min);
        let levels: Vec<u32> = (min..=top).collect();
        // By replicas, then by the units put off plus one: cost and misses.
        let mut states: Vec<Vec<(f64, f64)>> = levels
            .iter()
            .map(|&level| if level == initial { vec![NONE, (0.0, 0.0)] } else { Vec::new() })
            .collect();
        for (index, bin) in self.bins.iter().enumerate() {
            if index >= self.bins_without_starts {
                for low in 1..states.len() {
                    let (below, here) = states.split_at_mut(low);
                    if let (Some(below), Some(here)) = (below.last(), here.first_mut()) {
                        take_if_cheaper(here, below, up);
                    }
                }
            }
            for (state, &level) in states.iter_mut().zip(&levels) {
                self.work(state, level, bin, price);
            }
            for high in (1..states.len()).rev() {
                let (below, here) = states.split_at_mut(high);
                if let (Some(below), Some(here)) = (below.last_mut(), here.first()) {
                    take_if_cheaper(below, here, -self.bin_seconds);
                }
            }
            // Before the first start can be ready, there is no way up.
            let starts_next = index + 1 >= self.bins_without_starts;
            prune(&mut states, if starts_next { up } else { f64::INFINITY });
        }
        let rest = f64::from(min) * self.rest_seconds;
        let (cost, missed) =
            states.iter().flatten().copied().min_by(|left, right| left.0.total_cmp(&right.0)).unwrap_or(NONE);
        (cost + rest, missed)
    }

    /// What a bin makes of the states with so many replicas.
    fn work(&self, state: &mut Vec<(f64, f64)>, level: u32, bin: &Bin, price: f64) {
        let capacity = i64::from(self.units_per_replica * level);
        let bill = self.bin_seconds * f64::from(level);
        let mut next: Vec<(f64, f64)> = Vec::new();
        for (put_off, &(cost, missed)) in state.iter().enumerate() {
            if cost == f64::INFINITY {
                continue;
            }
            let left = put_off as i64 + i64::from(bin.work) - capacity;
            let must = (left - 1 - i64::from(bin.limit)).max(0);
            for (units, misses) in bin.dropped.iter().enumerate().skip(must as usize) {
                let index = (left - units as i64).max(0) as usize;
                if next.len() <= index {
                    next.resize(index + 1, NONE);
                }
                let total = cost + bill + price * misses;
                if let Some(slot) = next.get_mut(index)
                    && total < slot.0
                {
                    *slot = (total, missed + misses);
                }
                if index == 0 {
                    break;
                }
            }
        }
        *state = next;
    }
}

const NONE: (f64, f64) = (f64::INFINITY, 0.0);

/// What of a job is done at a moment if it starts so long after its arrival.
fn done(job: &Job, wait: Micros, at: Micros) -> Micros {
    at.saturating_sub(job.arrival + wait).min(job.service)
}

/// Misses that count for 0, 1, 2… dropped units, when each piece of work counts for its part of its job and the
/// longest jobs, whose work counts least, go first. Each unit counts as its cheapest part does.
fn dropped(pieces: &[(f64, u64)], unit: f64) -> Vec<f64> {
    let mut table = vec![0.0];
    let (mut total, mut before) = (0.0, 0.0);
    for &(service, work) in pieces {
        let upto = before + work as f64;
        while (table.len() - 1) as f64 * unit < upto {
            total += unit / service;
            table.push(total);
        }
        before = upto;
    }
    table
}

fn take_if_cheaper(mine: &mut Vec<(f64, f64)>, theirs: &[(f64, f64)], extra: f64) {
    if mine.len() < theirs.len() {
        mine.resize(theirs.len(), NONE);
    }
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        if theirs.0 + extra < mine.0 {
            *mine = (theirs.0 + extra, theirs.1);
        }
    }
}

/// Forgets what is no better than a state with less put off, or than one replica less and a start.
fn prune(states: &mut [Vec<(f64, f64)>], up: f64) {
    let mut below: Vec<f64> = Vec::new();
    for state in states {
        let mut best = f64::INFINITY;
        let mut kept = 0;
        let mut bound = f64::INFINITY;
        let longest = below.len().max(state.len());
        below.resize(longest, below.last().copied().unwrap_or(f64::INFINITY));
        for (index, below) in below.iter_mut().enumerate() {
            bound = bound.min(*below + up);
            let mine = state.get_mut(index);
            if let Some(slot) = mine {
                if slot.0 >= best.min(bound) {
                    *slot = NONE;
                } else {
                    best = slot.0;
                    kept = index + 1;
                }
            }
            *below = bound.min(best);
        }
        state.truncate(kept);
    }
}
