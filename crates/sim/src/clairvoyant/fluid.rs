//! A first plan from a fluid picture of the queue, by dynamic programming.

use crate::{
    QueueOrder,
    clairvoyant::{
        Price,
        demand::{Bin, Demand},
        plan::{Change, Rules, add_changes},
    },
};

/// A state that is worth remembering, and where it came from.
#[derive(Clone, Copy, Debug)]
struct Node {
    replicas: u32,
    from: u32,
}

/// States by replicas and backlog: the costs of getting there.
#[derive(Clone, Debug)]
struct Level {
    /// By backlog in units; infinite: not worth considering.
    costs: Vec<(f64, u32)>,
}

const NONE: (f64, u32) = (f64::INFINITY, u32::MAX);

/// The cheapest plan when a miss costs `price`.
///
/// Time is cut into the bins of `demand`. In each, work comes as if there were slots without end, and `slots ×
/// replicas` of it is done; the rest is the backlog. In order of arrival, a request that comes while the backlog takes
/// longer than the patience misses. If late requests yield, only that misses by which the backlog outgrows what can
/// be done in time. Going up costs a cold start for each replica, going down nothing.
pub(crate) fn plan(demand: &Demand, order: QueueOrder, rules: Rules, price: Price) -> Vec<Change> {
    let width = demand.bin as f64 / 1e6;
    let start_cost = rules.cold_start as f64 / 1e6;
    let levels = (rules.min..=rules.max.min(demand.most_replicas.max(rules.initial).max(rules.min)))
        .collect::<Vec<_>>();
    let mut states: Vec<Level> = levels
        .iter()
        .map(|&replicas| Level { costs: if replicas == rules.initial { vec![(0.0, 0)] } else { Vec::new() } })
        .collect();
    let most = demand.most_backlog(rules.cold_start);
    let mut nodes: Vec<Vec<Node>> = Vec::with_capacity(demand.bins.len());
    for (index, bin) in demand.bins.iter().enumerate() {
        // Up, one replica at a time, from below; then down from above.
        if index as u64 * demand.bin >= rules.cold_start {
            for low in 1..states.len() {
                let (below, here) = states.split_at_mut(low);
                if let (Some(below), Some(here)) = (below.last(), here.first_mut()) {
                    here.take_if_cheaper(below, start_cost);
                }
            }
        }
        for high in (1..states.len()).rev() {
            let (below, here) = states.split_at_mut(high);
            if let (Some(below), Some(here)) = (below.last_mut(), here.first()) {
                below.take_if_cheaper(here, 0.0);
            }
        }
        // Work.
        let mut made: Vec<Node> = Vec::new();
        for (state, &replicas) in states.iter_mut().zip(&levels) {
            let capacity = demand.units_per_replica * replicas;
            let rate = f64::from(capacity) / width;
            let mut next: Vec<(f64, u32)> = Vec::with_capacity(state.costs.len() + bin.work as usize);
            for (backlog, &(cost, from)) in state.costs.iter().enumerate() {
                if cost == f64::INFINITY {
                    continue;
                }
                let mut left = (backlog as u32 + bin.work).saturating_sub(capacity);
                if left > most {
                    if Some(&replicas) != levels.last() {
                        continue;
                    }
                    left = most;
                }
                let misses = match order {
                    _ if bin.arrivals == 0 => 0.0,
                    QueueOrder::Arrival => {
                        f64::from(bin.arrivals)
                            * late(backlog as f64 / rate, f64::from(left) / rate, bin.patience)
                    }
                    QueueOrder::LateYields => crowded_out(bin, backlog as f64, f64::from(left), rate),
                };
                let cost = cost + width * f64::from(replicas) + price * misses;
                if next.len() <= left as usize {
                    next.resize(left as usize + 1, NONE);
                }
                if let Some(slot) = next.get_mut(left as usize)
                    && cost < slot.0
                {
                    *slot = (cost, from);
                }
            }
            state.costs = next;
        }
        prune(&mut states, start_cost);
        for (state, &replicas) in states.iter_mut().zip(&levels) {
            for slot in &mut state.costs {
                if slot.0 < f64::INFINITY {
                    made.push(Node { replicas, from: slot.1 });
                    slot.1 = made.len() as u32 - 1;
                }
            }
        }
        nodes.push(made);
    }
    let best = states.iter().flat_map(|state| &state.costs).min_by(|left, right| left.0.total_cmp(&right.0));
    let mut changes = Vec::new();
    let mut from = best.map_or(0, |best| best.1);
    let mut after: Option<u32> = None;
    for (index, made) in nodes.iter().enumerate().rev() {
        let Some(node) = made.get(from as usize) else { break };
        if let Some(after) = after {
            add_changes(&mut changes, (index as u64 + 1) * demand.bin, node.replicas, after);
        }
        after = Some(node.replicas);
        from = node.from;
    }
    if let Some(after) = after {
        add_changes(&mut changes, 0, rules.initial, after);
    }
    changes.reverse();
    rules.fill_short_pauses(&mut changes);
    changes
}

/// Share of a bin in which the wait, going evenly from one value to the other, is longer than the patience.
fn late(from: f64, to: f64, patience: f64) -> f64 {
    let (low, high) = (from.min(to), from.max(to));
    if high <= patience {
        0.0
    } else if low >= patience || low.is_nan() || high.is_infinite() {
        1.0
    } else {
        (high - patience) / (high - low)
    }
}

/// Arrivals of a bin that will be late although they come before those that are: as many of them as are of the work by
/// which the backlog grows beyond what is done within their patience.
fn crowded_out(bin: &Bin, from: f64, to: f64, rate: f64) -> f64 {
    let grows = to - from.max(bin.patience * rate);
    f64::from(bin.arrivals) * (grows / f64::from(bin.work.max(1))).clamp(0.0, 1.0)
}

impl Level {
    fn take_if_cheaper(&mut self, other: &Level, extra: f64) {
        if self.costs.len() < other.costs.len() {
            self.costs.resize(other.costs.len(), NONE);
        }
        for (mine, theirs) in self.costs.iter_mut().zip(&other.costs) {
            if theirs.0 + extra < mine.0 {
                *mine = (theirs.0 + extra, theirs.1);
            }
        }
    }
}

/// Forgets what is no better than a state with less backlog, or than what changing replicas makes of another.
fn prune(states: &mut [Level], start_cost: f64) {
    let keep_below = |state: &mut Level, bound: &[f64], extra: f64| {
        let mut best = f64::INFINITY;
        let mut last = 0;
        for (index, slot) in state.costs.iter_mut().enumerate() {
            best = best.min(bound.get(index).map_or(f64::INFINITY, |bound| bound + extra));
            if slot.0 >= best {
                *slot = NONE;
            } else {
                best = slot.0;
                last = index + 1;
            }
        }
        state.costs.truncate(last);
    };
    let mut bound: Vec<f64> = Vec::new();
    for state in states.iter_mut().rev() {
        keep_below(state, &bound, 0.0);
        merge(&mut bound, state, 0.0);
    }
    bound.clear();
    for state in states.iter_mut() {
        keep_below(state, &bound, 0.0);
        for value in &mut bound {
            *value += start_cost;
        }
        merge(&mut bound, state, start_cost);
    }
}

/// `bound` becomes the least cost at this backlog or less, over the states merged so far.
fn merge(bound: &mut Vec<f64>, state: &Level, extra: f64) {
    let last = bound.last().copied().unwrap_or(f64::INFINITY);
    if bound.len() < state.costs.len() {
        bound.resize(state.costs.len(), last);
    }
    let mut best = f64::INFINITY;
    for (index, value) in bound.iter_mut().enumerate() {
        best = best.min(state.costs.get(index).map_or(f64::INFINITY, |slot| slot.0 + extra));
        *value = value.min(best);
    }
}
