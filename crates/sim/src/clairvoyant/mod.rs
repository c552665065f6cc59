//! What an autoscaler could do that knows every request beforehand: the measure of the others' regret.
//!
//! The algorithm is specified in `docs/research/clairvoyant.md`. It makes a plan and replays it in the simulator,
//! so that what it claims was attained, with cold starts paid as anybody pays them. It is a very good plan, not
//! provably the best; [`crate::lower_bound`] says how much better a plan could be at most.

mod demand;
mod fluid;
mod improve;
pub(crate) mod jobs;
mod levels;
mod machine;
mod plan;

use forewarm_workload::Request;

use crate::{
    DataPlane, Decider, QueueOrder, Report, Step, World,
    clairvoyant::{
        demand::Demand,
        improve::{Aim, Search},
        jobs::{Job, allowed_misses, crowd, jobs},
        levels::Levels,
        machine::Machine,
        plan::{Change, Rules},
    },
    engine::EngineModel,
    simulate,
    time::Micros,
};

/// A timetable made in the knowledge of all requests, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Clairvoyant {
    /// Replicas wanted over time.
    pub timetable: Vec<Step>,
    /// The timetable's replay, with the shared queue. If no plan can attain the objective (because of what comes
    /// before the first start can be ready, say), its attainment is below the objective's.
    pub report: Report,
}

/// The price of a miss, in replica-seconds.
pub(crate) type Price = f64;

/// How much is tried to improve the plan of one price: passes over it, and jobs that may be replayed in them.
const PASSES: u32 = 4;
const EFFORT: u64 = 12_000_000;
/// Jobs that may be replayed to improve the plan in the end.
const LAST_EFFORT: u64 = 25_000_000;
/// With more jobs than this a first plan is as good as it gets: trials would take minutes for a thousandth of its cost.
const MANY_JOBS: usize = 1_000_000;
/// Trials of prices for a miss.
const PRICES: u32 = 11;
/// The first price, in replica-seconds.
const FIRST_PRICE: Price = 8.0;
/// The least factor to the second price, and that to the next until the objective lies between two.
const PRICE_FACTORS: (f64, f64) = (1.3, 3.0);
const HIGHEST_PRICE: Price = 10_000.0;
/// Prices closer than this make no difference.
const CLOSE_PRICES: f64 = 1.002;
/// The part of the patience that the fluid picture may use up: real queues wait longer than fluid ones. The second
/// is for objectives that the first cannot attain at any price. The first for many jobs, whose plans are not improved.
const PATIENCE: [f64; 2] = [0.6, 0.0];
const PATIENCE_FOR_MANY: f64 = 0.45;
/// Of many jobs, a picture is given up when a higher price leaves more than this part of the misses.
const NO_USE: f64 = 0.95;
/// A plan whose misses come this close to what is allowed is as good as the price can make it.
const CLOSE_ENOUGH: f64 = 0.003;
/// Starts drawn to learn how long they take, and the shares of them that a plan may count on.
const SAMPLE: u32 = 1_000;
const COUNTED_ON: [f64; 3] = [0.5, 0.9, 0.99];
/// If no plan can attain the objective, the share of requests that may miss beyond the fewest: the last of them are
/// dear, and nothing is attained by them.
const BEYOND_FEWEST: f64 = 0.0002;

/// The cheapest timetable that this algorithm finds to attain the objective, within `(min, max)` replicas.
///
/// Requests must be in the order of their arrival. They wait in the shared queue, whatever the world's data plane.
pub fn clairvoyant(world: &World, (min, max): (u32, u32), requests: &[Request]) -> Clairvoyant {
    let EngineModel::Slots(model) = world.engine else {
        // Plans are made for the simple engine only; of another one there is just the beginning.
        let report = simulate(world, &Decider::Timetable(Vec::new()), requests, false);
        return Clairvoyant { timetable: Vec::new(), report };
    };
    let world = World { data_plane: DataPlane::Gateway, ..world.clone() };
    let jobs = jobs(model, &world.objective, requests);
    let allowed = allowed_misses(&world.objective, jobs.len());
    let max = max.min(world.provider_capacity.unwrap_or(max)).max(min);
    let exact = world.cold_start.always();
    let leads = match exact {
        Some(span) => vec![span],
        None => world.cold_start.quantiles(world.seed, SAMPLE, &COUNTED_ON),
    };
    let replay = |timetable: Vec<Step>| {
        let report = simulate(&world, &Decider::Timetable(timetable.clone()), requests, false);
        Clairvoyant { timetable, report }
    };
    let machine =
        |cold_start| Machine { jobs: &jobs, slots: model.slots, cold_start, queue_order: world.queue_order };
    let rules = |cold_start| Rules { initial: world.initial_replicas, min, max, cold_start };
    // What misses, and what is billed in microseconds. If starts are random, only a run says so.
    let outcome = |lead, changes: &[Change]| match exact {
        Some(_) => machine(lead).play(world.initial_replicas, changes),
        None => {
            let report = replay(rules(lead).timetable(changes)).report;
            (report.sent - report.attained, (report.replica_hours * 3.6e9) as i64)
        }
    };
    // Nobody does better than with enough replicas for everybody, from the beginning on.
    let fewest = leads.iter().map(|&lead| {
        let most = crowd(&jobs, lead).div_ceil(model.slots).min(max);
        let changes: Vec<Change> =
            (world.initial_replicas..most).map(|_| Change { at: lead, down: false }).collect();
        outcome(lead, &changes).0
    });
    let fewest = fewest.min().unwrap_or(0);
    let allowed =
        if fewest > allowed { fewest + (BEYOND_FEWEST * jobs.len() as f64).ceil() as u64 } else { allowed };
    let results = leads.iter().map(|&lead| {
        let (machine, rules) = (machine(lead), rules(lead));
        let outcome = |changes: &[Change]| outcome(lead, changes);
        let mut found = (u64::MAX, Vec::new());
        for picture in Picture::of(world.queue_order, jobs.len()) {
            let plan = picture.planner(machine, rules);
            let tried = best_changes(machine, rules, &*plan, allowed, exact.is_some(), &outcome);
            if tried.0 < found.0 {
                found = tried;
            }
            if found.0 == 0 {
                break;
            }
        }
        let changes = found.1;
        replay(rules.timetable(&changes))
    });
    let rank = |result: &Clairvoyant| {
        let missed = result.report.sent - result.report.attained;
        (missed.saturating_sub(allowed), result.report.replica_hours)
    };
    let better = |left: &Clairvoyant, right: &Clairvoyant| {
        let (left, right) = (rank(left), rank(right));
        left.0.cmp(&right.0).then(left.1.total_cmp(&right.1))
    };
    results.min_by(better).unwrap_or_else(|| replay(Vec::new()))
}

/// How the queue is pictured to make a first plan.
#[derive(Clone, Copy, Debug)]
enum Picture {
    /// As if what misses depended on the replicas of the moment only.
    Levels,
    /// As a fluid backlog that may use up this part of the patience.
    Backlog(f64),
}

impl Picture {
    /// The pictures to try, one after the other, until the objective is attained.
    fn of(order: QueueOrder, jobs: usize) -> impl Iterator<Item = Self> {
        let many = jobs > MANY_JOBS;
        let levels = (order == QueueOrder::LateYields && !many).then_some(Self::Levels);
        let [patience, none] = PATIENCE;
        let patience = if many { PATIENCE_FOR_MANY } else { patience };
        levels.into_iter().chain([patience, none].map(Self::Backlog))
    }

    /// What makes a plan for a price.
    fn planner(self, machine: Machine<'_>, rules: Rules) -> Box<dyn Fn(Price) -> Vec<Change>> {
        match self {
            Self::Levels => {
                let levels = Levels::new(machine, rules);
                Box::new(move |price| levels.plan(rules, price))
            }
            Self::Backlog(patience) => {
                let demand = Demand::new(machine.jobs, machine.slots, patience);
                Box::new(move |price| fluid::plan(&demand, machine.queue_order, rules, price))
            }
        }
    }
}

/// Looks for the price of a miss at which as many miss as may, and returns the cheapest plan seen on the way and how
/// many requests too many miss with it.
fn best_changes(
    machine: Machine<'_>,
    rules: Rules,
    plan: &dyn Fn(Price) -> Vec<Change>,
    allowed: u64,
    exact: bool,
    outcome: &dyn Fn(&[Change]) -> (u64, i64),
) -> (u64, Vec<Change>) {
    let spacing = improve::spacing(machine.jobs);
    // The best so far: misses too many, replica-time, changes.
    let mut best: Option<(u64, i64, Vec<Change>)> = None;
    let (mut low, mut high) = (None, None);
    let many = machine.jobs.len() > MANY_JOBS;
    for _ in 0..PRICES {
        let price = next_price(low, high, allowed).unwrap_or(FIRST_PRICE);
        let mut changes = plan(price);
        let (mut misses, mut billed) = outcome(&changes);
        if !many {
            let mut search = Search::new(machine, rules, changes, spacing);
            for round in 0..PASSES {
                // Moving what is there is cheaper than a start: so it comes first.
                let moved = search.pass(Aim::Price(price), EFFORT);
                let added = round + 1 < PASSES && search.add_where_missed(price, EFFORT);
                if !moved && !added {
                    break;
                }
            }
            changes = search.changes().to_vec();
            (misses, billed) = outcome(&changes);
        }
        let rank = (misses.saturating_sub(allowed), billed);
        if best.as_ref().is_none_or(|best| rank < (best.0, best.1)) {
            best = Some((rank.0, rank.1, changes));
        }
        if misses > allowed {
            let no_use = |(_, before): (Price, u64)| misses as f64 > NO_USE * before as f64;
            if price > HIGHEST_PRICE || (many && high.is_none() && low.is_some_and(no_use)) {
                break;
            }
            low = Some((price, misses));
        } else {
            high = Some((price, misses));
            if (allowed - misses) as f64 <= CLOSE_ENOUGH * allowed as f64 {
                break;
            }
        }
        if low.zip(high).is_some_and(|(low, high)| high.0 < low.0 * CLOSE_PRICES) {
            break;
        }
    }
    let Some((too_many, _, changes)) = best else { return (u64::MAX, Vec::new()) };
    if too_many > 0 || !exact || many {
        return (too_many, changes);
    }
    let mut search = Search::new(machine, rules, changes, spacing);
    while search.pass(Aim::Within(allowed), LAST_EFFORT) {}
    (0, search.changes().to_vec())
}

/// The next price to try, after prices that are too low and too high, each with what misses. Misses are taken to be
/// inverse to the price, or to a power of it once two are known.
fn next_price(low: Option<(Price, u64)>, high: Option<(Price, u64)>, allowed: u64) -> Option<Price> {
    let wanted = (allowed as f64 * (1.0 - CLOSE_ENOUGH / 2.0)).max(0.5);
    let times_wanted = |misses: u64| (misses as f64).max(0.5) / wanted;
    let factor = |times: f64| times.clamp(PRICE_FACTORS.0, PRICE_FACTORS.1);
    Some(match (low, high) {
        (None, None) => return None,
        (Some((price, misses)), None) if price <= FIRST_PRICE => price * factor(times_wanted(misses)),
        (Some((price, _)), None) => price * PRICE_FACTORS.1,
        (None, Some((price, misses))) if price >= FIRST_PRICE => price / factor(1.0 / times_wanted(misses)),
        (None, Some((price, _))) => price / PRICE_FACTORS.1,
        (Some((low, more)), Some((high, fewer))) => {
            let (more, fewer) = (times_wanted(more).ln(), times_wanted(fewer).ln());
            low * (high / low).powf((more / (more - fewer)).clamp(0.1, 0.9))
        }
    })
}

/// The jobs' mean number per microsecond.
fn rate(jobs: &[Job]) -> f64 {
    let length: Micros = jobs.last().map_or(0, |job| job.arrival);
    jobs.len() as f64 / (length as f64).max(1.0)
}
