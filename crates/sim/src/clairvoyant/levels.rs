//! A first plan for a queue in which late requests yield, by dynamic programming.
//!
//! Late requests hardly hold up those that are in time, so what misses at a moment depends on the replicas of that
//! moment only. That is counted first, for every number of replicas; the rest is when to go up and down.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    clairvoyant::{
        Price,
        jobs::{Job, crowd},
        machine::Machine,
        plan::{Change, Rules, add_changes},
    },
    line::Line,
    parallel,
    time::Micros,
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
/// Spans that are counted exactly, or not.
const SPAN: Micros = 600_000_000;
/// A count begins so long before its span, to have the slots filled at its beginning.
const LEAD: Micros = 120_000_000;
/// With fewer slots than the mean demand less so many times its root, what it would vary by if it were noise, a fluid
/// is counted: these levels are for no plan.
const HOPELESS: f64 = 4.0;

/// What would be asked for in a span of time if there were slots without end, in slots.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    mean: f64,
    most: u32,
}

impl Levels {
    pub(crate) fn new(machine: Machine<'_>, rules: Rules) -> Self {
        let jobs = machine.jobs;
        let most = crowd(jobs, 0).div_ceil(machine.slots).clamp(rules.min, rules.max).max(rules.initial);
        let replicas: Vec<u32> = (rules.min.min(rules.initial)..=most).take(MOST_LEVELS).collect();
        let end = jobs.iter().map(|job| job.arrival + job.service).max().unwrap_or(0);
        let bin = SHORTEST_BIN.max(end * replicas.len() as u64 / MOST_CELLS);
        let bins = (end / bin) as usize + 1;
        let asked = asked(jobs, end);
        let counts = parallel::map(
            &replicas,
            |&replicas| Count { machine, initial: rules.initial, replicas, bin, asked: &asked }.misses(bins),
            || (),
        );
        let mut misses = vec![0; bins * replicas.len()];
        for (index, count) in counts.into_iter().enumerate() {
            for (cell, count) in misses.iter_mut().skip(index).step_by(replicas.len()).zip(count) {
                *cell = count;
            }
        }
        Self { bin, replicas, misses }
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

/// What is asked for, by span.
fn asked(jobs: &[Job], end: Micros) -> Vec<Asked> {
    let mut spans = vec![Asked::default(); (end / SPAN) as usize + 1];
    let mut ends: BinaryHeap<Reverse<Micros>> = BinaryHeap::new();
    for job in jobs {
        let end = job.arrival + job.service;
        while ends.peek().is_some_and(|&Reverse(end)| end <= job.arrival) {
            ends.pop();
        }
        ends.push(Reverse(end));
        let (first, last) = ((job.arrival / SPAN) as usize, (end / SPAN) as usize);
        for (index, span) in spans.iter_mut().enumerate().take(last + 1).skip(first) {
            let from = job.arrival.max(index as u64 * SPAN);
            span.mean += (end.min((index as u64 + 1) * SPAN) - from) as f64 / SPAN as f64;
            span.most = span.most.max(if index == first { ends.len() as u32 } else { 1 });
        }
    }
    spans
}

/// Counts what misses with so many replicas.
struct Count<'a> {
    machine: Machine<'a>,
    initial: u32,
    replicas: u32,
    bin: Micros,
    asked: &'a [Asked],
}

/// How a span is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nobody waits, so nobody misses.
    Nobody,
    /// Job by job.
    Exact,
    /// What is asked for beyond the capacity misses.
    Fluid,
}

impl Count<'_> {
    fn slots(&self) -> u32 {
        self.replicas * self.machine.slots
    }

    fn way(&self, index: usize) -> Option<Way> {
        let asked = self.asked.get(index)?;
        let before = index.checked_sub(1).and_then(|before| self.asked.get(before));
        let waits = |asked: &Asked| asked.most > self.slots();
        Some(if index as u64 * SPAN <= self.machine.cold_start {
            Way::Exact
        } else if f64::from(self.slots()) < asked.mean - HOPELESS * asked.mean.sqrt() {
            Way::Fluid
        } else if waits(asked) || before.is_some_and(waits) {
            Way::Exact
        } else {
            Way::Nobody
        })
    }

    /// By bin.
    fn misses(&self, bins: usize) -> Vec<u32> {
        let mut misses = vec![0; bins];
        let mut index = 0;
        while let Some(way) = self.way(index) {
            let first = index;
            while self.way(index) == Some(way) {
                index += 1;
            }
            let (from, to) = (first as u64 * SPAN, index as u64 * SPAN);
            match way {
                Way::Nobody => {}
                Way::Exact => self.count(from, to, &mut misses),
                Way::Fluid => self.count_fluid(from, to, &mut misses),
            }
        }
        misses
    }

    fn miss(&self, job: &Job, misses: &mut [u32]) {
        if let Some(misses) = misses.get_mut((job.arrival / self.bin) as usize) {
            *misses += 1;
        }
    }

    /// Counts what misses of the jobs that come in a span. Late jobs vanish, those apart that came before there can be
    /// that many replicas: any plan has to do them.
    fn count(&self, from: Micros, to: Micros, misses: &mut [u32]) {
        let Machine { jobs, cold_start, .. } = self.machine;
        let begin = if from <= cold_start { 0 } else { from - LEAD.min(from) };
        let arrives_before = |moment| jobs.partition_point(|job| job.arrival < moment);
        let (mut arriving, last) = (arrives_before(begin), arrives_before(to));
        let (mut slots, mut settled_at) = if begin < cold_start {
            ((self.initial * self.machine.slots) as usize, cold_start)
        } else {
            (self.slots() as usize, Micros::MAX)
        };
        let mut ends: BinaryHeap<Reverse<Micros>> = BinaryHeap::new();
        let mut line = Line::new(self.machine.queue_order);
        loop {
            let next = if arriving < last { jobs.get(arriving) } else { None };
            let arrival = next.map_or(Micros::MAX, |job| job.arrival);
            let end = ends.peek().map_or(Micros::MAX, |&Reverse(end)| end);
            let now = end.min(settled_at).min(arrival);
            if now == Micros::MAX {
                break;
            }
            if end == now {
                ends.pop();
            } else if settled_at == now {
                slots = self.slots() as usize;
                settled_at = Micros::MAX;
            } else if let Some(job) = next {
                line.push(now, arriving as u32, job.patience);
                arriving += 1;
            }
            while ends.len() < slots
                && let Some(job) = line.pop(now).and_then(|index| jobs.get(index as usize))
            {
                let is_late = now - job.arrival > job.patience;
                if is_late && job.arrival >= from {
                    self.miss(job, misses);
                }
                if !is_late || job.arrival < cold_start {
                    ends.push(Reverse(now + job.service));
                }
            }
        }
        // Without any replica nobody is ever called.
        while let Some(job) = line.pop(Micros::MAX).and_then(|index| jobs.get(index as usize)) {
            self.miss(job, misses);
        }
    }

    /// Takes the jobs of a span for a fluid: what is asked for beyond the capacity misses.
    fn count_fluid(&self, from: Micros, to: Micros, misses: &mut [u32]) {
        let jobs = self.machine.jobs;
        let arrives_before = |moment| jobs.partition_point(|job| job.arrival < moment);
        let mut missed = 0.0;
        for job in jobs.get(arrives_before(from)..arrives_before(to)).unwrap_or_default() {
            let mean = self.asked.get((job.arrival / SPAN) as usize).map_or(0.0, |asked| asked.mean);
            missed += 1.0 - f64::from(self.slots()) / mean;
            if missed >= 1.0 {
                missed -= 1.0;
                self.miss(job, misses);
            }
        }
    }
}
