//! A first plan for a queue in which late requests yield, by dynamic programming.
//!
//! Late requests hardly hold up those that are in time, so what misses at a moment depends on the replicas of that
//! moment only. That is counted first, for every number of replicas; the rest is when to go up and down.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    clairvoyant::{
        MANY_JOBS, Price,
        jobs::{Job, crowd},
        machine::Machine,
        plan::{Change, Rules, add_changes},
    },
    line::Line,
    time::{Micros, micros},
};

/// What would miss in each bin of time with so many replicas.
#[derive(Clone, Debug)]
pub(crate) struct Levels {
    bin: Micros,
    /// Replicas: from the least to the most that are worth considering.
    replicas: Vec<u32>,
    /// By bin, then by the index of the level.
    misses: Vec<u32>,
}

/// Width of a bin if that does not make too many of them.
const SHORTEST_BIN: Micros = 1_000_000;
/// Levels are numbered in 16 bits.
const MOST_LEVELS: usize = u16::MAX as usize;
/// The most bins, times levels.
const MOST_CELLS: u64 = 100_000_000;
/// Over so many times the objective's TTFT a fluid's demand is smoothed: waiting levels out what is shorter.
const SMOOTHED_OVER: u64 = 3;

impl Levels {
    pub(crate) fn new(machine: Machine<'_>, rules: Rules) -> Self {
        let jobs = machine.jobs;
        let most = crowd(jobs, 0).div_ceil(machine.slots).clamp(rules.min, rules.max).max(rules.initial);
        let replicas: Vec<u32> = (rules.min.min(rules.initial)..=most).take(MOST_LEVELS).collect();
        let end = jobs.iter().map(|job| job.arrival + job.service).max().unwrap_or(0);
        let bin = SHORTEST_BIN.max(end * replicas.len() as u64 / MOST_CELLS);
        let mut levels = Self { bin, misses: vec![0; ((end / bin) as usize + 1) * replicas.len()], replicas };
        if jobs.len() > MANY_JOBS {
            levels.count_fluid(machine);
        } else {
            for index in 0..levels.replicas.len() {
                levels.count(machine, rules.initial, index);
            }
        }
        levels
    }

    fn miss(&mut self, index: usize, job: &Job) {
        let cell = (job.arrival / self.bin) as usize * self.replicas.len() + index;
        if let Some(misses) = self.misses.get_mut(cell) {
            *misses += 1;
        }
    }

    /// Counts what misses if there are that many replicas as soon as there can be. Late jobs vanish, those apart that
    /// came before: any plan has to do them.
    fn count(&mut self, machine: Machine<'_>, initial: u32, index: usize) {
        let replicas = self.replicas.get(index).copied().unwrap_or(initial);
        let mut slots = (initial * machine.slots) as usize;
        let mut settled_at = machine.cold_start;
        let late_from = micros(machine.ttft);
        let mut ends: BinaryHeap<Reverse<Micros>> = BinaryHeap::new();
        let mut line = Line::new(machine.queue_order, machine.ttft);
        let mut arriving = 0;
        loop {
            let arrival = machine.jobs.get(arriving).map_or(Micros::MAX, |job| job.arrival);
            let end = ends.peek().map_or(Micros::MAX, |&Reverse(end)| end);
            let now = end.min(settled_at).min(arrival);
            if now == Micros::MAX {
                break;
            }
            if end == now {
                ends.pop();
            } else if settled_at == now {
                slots = (replicas * machine.slots) as usize;
                settled_at = Micros::MAX;
            } else {
                line.push(now, arriving as u32);
                arriving += 1;
            }
            while ends.len() < slots
                && let Some(job) = line.pop(now).and_then(|index| machine.jobs.get(index as usize))
            {
                let wait = now - job.arrival;
                if wait > job.patience {
                    self.miss(index, job);
                }
                if wait < late_from || job.arrival < machine.cold_start {
                    ends.push(Reverse(now + job.service));
                }
            }
        }
        // Without any replica nobody is ever called.
        while let Some(job) = line.pop(Micros::MAX).and_then(|index| machine.jobs.get(index as usize)) {
            self.miss(index, job);
        }
    }

    /// Takes jobs for a fluid: what is asked for beyond the capacity misses, and nothing else.
    fn count_fluid(&mut self, machine: Machine<'_>) {
        let bins = self.misses.len() / self.replicas.len();
        // Slot-time asked for, as if there were slots without end; and arrivals.
        let mut asked = vec![(0_u64, 0_u32); bins];
        for job in machine.jobs {
            let end = job.arrival + job.service;
            let (first, last) = ((job.arrival / self.bin) as usize, (end / self.bin) as usize);
            for (index, bin) in asked.iter_mut().enumerate().take(last + 1).skip(first) {
                bin.1 += u32::from(index == first);
                bin.0 += end.min((index as u64 + 1) * self.bin) - job.arrival.max(index as u64 * self.bin);
            }
        }
        let span = (SMOOTHED_OVER * micros(machine.ttft)).div_ceil(self.bin).max(1) as usize;
        let capacity = |replicas: u32| (u64::from(replicas * machine.slots) * self.bin) as f64;
        let capacities: Vec<f64> = self.replicas.iter().map(|&replicas| capacity(replicas)).collect();
        let mut sum = 0;
        let cells = self.misses.chunks_exact_mut(capacities.len());
        for (bin, (cells, &(work, arrivals))) in cells.zip(&asked).enumerate() {
            sum += work;
            if let Some(before) = bin.checked_sub(span).and_then(|before| asked.get(before)) {
                sum -= before.0;
            }
            let demand = sum as f64 / span.min(bin + 1) as f64;
            for (misses, capacity) in cells.iter_mut().zip(&capacities) {
                let share = if demand > *capacity { 1.0 - capacity / demand } else { 0.0 };
                *misses = (f64::from(arrivals) * share).round() as u32;
            }
        }
    }

    /// The cheapest plan when a miss costs `price` replica-seconds. A replica more costs a cold start.
    pub(crate) fn plan(&self, rules: Rules, price: Price) -> Vec<Change> {
        let width = self.bin as f64 / 1e6;
        let start_cost = rules.cold_start as f64 / 1e6;
        let count = self.replicas.len();
        // The cost of being at a level, and from which level of the bin before it comes.
        let mut costs: Vec<(f64, u16)> = self
            .replicas
            .iter()
            .map(|&replicas| (if replicas == rules.initial { 0.0 } else { f64::INFINITY }, 0))
            .collect();
        let mut came_from: Vec<u16> = Vec::with_capacity(self.misses.len());
        for (bin, misses) in self.misses.chunks_exact(count).enumerate() {
            for (index, cost) in costs.iter_mut().enumerate() {
                cost.1 = index as u16;
            }
            let may_start = bin as u64 * self.bin >= rules.cold_start;
            if may_start {
                let mut below = (f64::INFINITY, 0);
                for cost in &mut costs {
                    if below.0 + start_cost < cost.0 {
                        *cost = (below.0 + start_cost, below.1);
                    }
                    below = *cost;
                }
            }
            let mut above = (f64::INFINITY, 0);
            for cost in costs.iter_mut().rev() {
                if above.0 < cost.0 {
                    *cost = above;
                }
                above = *cost;
            }
            for ((cost, &misses), &replicas) in costs.iter_mut().zip(misses).zip(&self.replicas) {
                came_from.push(cost.1);
                if replicas > rules.max || (may_start && replicas < rules.min) {
                    cost.0 = f64::INFINITY;
                }
                cost.0 += width * f64::from(replicas) + price * f64::from(misses);
            }
        }
        let cheapest = costs.iter().enumerate().min_by(|left, right| left.1.0.total_cmp(&right.1.0));
        let mut level = cheapest.map_or(0, |(index, _)| index);
        let replicas = |level: usize| self.replicas.get(level).copied().unwrap_or(rules.initial);
        let mut changes = Vec::new();
        for (bin, from) in came_from.chunks_exact(count).enumerate().rev() {
            let before = from.get(level).map_or(level, |&from| usize::from(from));
            add_changes(&mut changes, bin as u64 * self.bin, replicas(before), replicas(level));
            level = before;
        }
        changes.reverse();
        rules.fill_short_pauses(&mut changes);
        changes
    }
}
