//! The simple engine's fleet behind the shared queue, event by event as in a run, but without a report: fast,
//! and able to stop at any moment and go on from there.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    QueueOrder,
    clairvoyant::{jobs::Job, plan::Change},
    line::Line,
    time::Micros,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Replica {
    /// Its number, counted in the order of becoming ready.
    serial: u32,
    busy: u32,
    draining: bool,
}

/// When a request ends, and on which replica. One number is compared faster than two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End(u128);

impl End {
    fn new(at: Micros, serial: u32) -> Self {
        Self(u128::from(at) << 32 | u128::from(serial))
    }

    fn at(self) -> Micros {
        (self.0 >> 32) as Micros
    }

    fn serial(self) -> u32 {
        self.0 as u32
    }
}

/// Where a replay is.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Everything before this moment has happened.
    pub(crate) at: Micros,
    replicas: Vec<Replica>,
    ends: BinaryHeap<Reverse<End>>,
    /// A sum over the requests in service, to tell two states apart quickly.
    mark: u64,
    free: u32,
    /// No replica before this one has room.
    full: usize,
    serials: u32,
    /// Jobs that wait, and the next to arrive.
    line: Line,
    next_arrival: usize,
    /// Replica-time of the replicas that stopped, less the moments at which the others were asked for.
    billed: i64,
    pub(crate) missed: u64,
}

/// What is replayed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) jobs: &'a [Job],
    pub(crate) slots: u32,
    pub(crate) cold_start: Micros,
    pub(crate) queue_order: QueueOrder,
}

impl Machine<'_> {
    /// The beginning, with so many replicas ready.
    pub(crate) fn beginning(&self, replicas: u32) -> Moment {
        Moment {
            at: 0,
            replicas: (0..replicas).map(|serial| Replica { serial, busy: 0, draining: false }).collect(),
            ends: BinaryHeap::new(),
            mark: 0,
            free: replicas * self.slots,
            full: 0,
            serials: replicas,
            line: Line::new(self.queue_order),
            next_arrival: 0,
            billed: 0,
            missed: 0,
        }
    }

    /// What misses, and the replica-time in microseconds, with these changes.
    pub(crate) fn play(&self, initial: u32, changes: &[Change]) -> (u64, i64) {
        let mut moment = self.beginning(initial);
        self.go_on(&mut moment, changes, Micros::MAX);
        (moment.missed, moment.billed())
    }

    /// Goes on until everything before `until` has happened. `changes` are all changes of the plan. Returns
    /// whether the last job has ended, and with it the run.
    pub(crate) fn go_on(&self, moment: &mut Moment, changes: &[Change], until: Micros) -> bool {
        let mut next = changes.partition_point(|change| change.at < moment.at);
        loop {
            let arriving = self.jobs.get(moment.next_arrival);
            let arrival = arriving.map_or(Micros::MAX, |job| job.arrival);
            let end = moment.ends.peek().map_or(Micros::MAX, |Reverse(end)| end.at());
            if arrival == Micros::MAX && end == Micros::MAX && moment.line.is_empty() {
                return true;
            }
            let change = changes.get(next);
            let change_at = change.map_or(Micros::MAX, |change| change.at);
            let now = arrival.min(end).min(change_at);
            if now >= until {
                moment.at = until;
                return false;
            }
            moment.at = now;
            if end == now {
                moment.finish(self.slots);
            } else if let Some(change) = change
                && change_at == now
            {
                if change.down {
                    moment.drain(self.slots);
                } else {
                    moment.serve_one_more(self.slots, self.cold_start);
                }
                next += 1;
            } else if let Some(job) = arriving {
                moment.line.push(now, moment.next_arrival as u32, job.patience);
                moment.next_arrival += 1;
            }
            while moment.free > 0
                && let Some(index) = moment.line.pop(now)
                && let Some(job) = self.jobs.get(index as usize)
            {
                moment.start(job, self.slots);
            }
        }
    }
}

impl Moment {
    /// Replica-time from the request of each replica until it stopped, or until now.
    pub(crate) fn billed(&self) -> i64 {
        self.billed + self.at as i64 * self.replicas.len() as i64
    }

    /// Jobs that have arrived.
    pub(crate) fn arrived(&self) -> usize {
        self.next_arrival
    }

    /// Whether what follows is the same, up to how the requests are spread over the replicas.
    pub(crate) fn goes_on_like(&self, other: &Self) -> bool {
        self.mark == other.mark
            && self.line.goes_on_like(&other.line)
            && self.free == other.free
            && self.replicas.len() == other.replicas.len()
    }

    /// Jobs that have missed, or will for certain.
    pub(crate) fn lost(&self) -> u64 {
        self.missed + self.line.late() as u64
    }

    /// Whether nobody waits who could still be in time.
    pub(crate) fn is_calm(&self) -> bool {
        self.line.is_calm()
    }

    /// Whether nearly the same follows: as many replicas, and nobody waits for one in time.
    pub(crate) fn goes_on_nearly_like(&self, other: &Self) -> bool {
        self.replicas.len() == other.replicas.len() && self.is_calm() && other.is_calm()
    }

    /// Adds what has happened differently before.
    pub(crate) fn shift(&mut self, billed: i64, missed: i64) {
        self.billed += billed;
        self.missed = self.missed.saturating_add_signed(missed);
    }

    fn finish(&mut self, slots: u32) {
        let Some(Reverse(end)) = self.ends.pop() else { return };
        let (end, serial) = (end.at(), end.serial());
        self.mark = self.mark.wrapping_sub(mark(end));
        let Ok(index) = self.replicas.binary_search_by_key(&serial, |replica| replica.serial) else { return };
        let Some(replica) = self.replicas.get_mut(index) else { return };
        replica.busy -= 1;
        debug_assert!(replica.busy < slots, "a replica works on more than it has slots for");
        if !replica.draining {
            self.free += 1;
            self.full = self.full.min(index);
        } else if replica.busy == 0 {
            self.replicas.remove(index);
            self.full = 0;
            self.billed += end as i64;
        }
    }

    fn serve_one_more(&mut self, slots: u32, cold_start: Micros) {
        self.replicas.push(Replica { serial: self.serials, busy: 0, draining: false });
        self.serials += 1;
        self.free += slots;
        self.billed -= self.at as i64 - cold_start as i64;
    }

    /// Drains the replica with the least work, the youngest of them.
    fn drain(&mut self, slots: u32) {
        let serving = self.replicas.iter_mut().enumerate().filter(|(_, replica)| !replica.draining);
        let Some((index, replica)) =
            serving.min_by_key(|(_, replica)| (replica.busy, u32::MAX - replica.serial))
        else {
            return;
        };
        replica.draining = true;
        self.free -= slots - replica.busy;
        if replica.busy == 0 {
            self.replicas.remove(index);
            self.full = 0;
            self.billed += self.at as i64;
        }
    }

    /// Gives a job a slot of the oldest replica with room.
    fn start(&mut self, job: &Job, slots: u32) {
        let mut later = self.replicas.iter_mut().enumerate().skip(self.full);
        let Some((index, replica)) = later.find(|(_, replica)| !replica.draining && replica.busy < slots)
        else {
            return;
        };
        self.full = index;
        replica.busy += 1;
        self.free -= 1;
        let end = self.at + job.service;
        self.mark = self.mark.wrapping_add(mark(end));
        self.missed += u64::from(self.at - job.arrival > job.patience);
        self.ends.push(Reverse(End::new(end, replica.serial)));
    }
}

/// Spreads the bits of a moment, so that sums of several are unlikely to be the same by chance.
fn mark(end: Micros) -> u64 {
    let mixed = (end ^ (end >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forewarm_workload::Request;

    use super::*;
    use crate::{
        ColdStartLaw, DataPlane, Decider, Objective, World,
        clairvoyant::{jobs::jobs, plan::Rules},
        engine::{EngineModel, SlotsModel},
        simulate,
    };

    #[test]
    fn a_replay_in_pieces_counts_and_bills_what_a_run_does() {
        let model = SlotsModel { slots: 3 };
        let objective = Objective { ttft: Duration::from_secs(5), percent: 99.0 };
        let requests: Vec<Request> = (0..4_000_u32)
            .map(|index| Request {
                arrival: Duration::from_millis(u64::from(index * 250 + index % 11 * 20)),
                input_tokens: index * 37 % 3_000,
                output_tokens: 1 + index * 53 % (100 + index / 8),
                cached_tokens: 0,
            })
            .collect();
        let rules = Rules { initial: 1, min: 1, max: 20, cold_start: 60_000_000 };
        let change = |second: u64, down| Change { at: second * 1_000_000, down };
        let changes: Vec<Change> = [70, 70, 75, 101]
            .map(|second| change(second, false))
            .into_iter()
            .chain([300, 300, 330].map(|second| change(second, true)))
            .chain([400, 401, 500, 600, 700].map(|second| change(second, false)))
            .chain([900, 950].map(|second| change(second, true)))
            .collect();
        assert!(rules.allow(&changes));
        let jobs = jobs(model, &objective, &requests);
        for queue_order in [QueueOrder::Arrival, QueueOrder::LateYields] {
            let machine = Machine { jobs: &jobs, slots: 3, cold_start: rules.cold_start, queue_order };
            let mut moment = machine.beginning(1);
            let mut until = 7_000_000;
            while !machine.go_on(&mut moment, &changes, until) {
                until += 7_000_000;
            }
            assert_eq!(machine.play(1, &changes), (moment.missed, moment.billed()));
            let world = World {
                engine: EngineModel::Slots(model),
                cold_start: ColdStartLaw::fixed(60.0),
                data_plane: DataPlane::Gateway,
                queue_order,
                objective,
                initial_replicas: 1,
                provider_capacity: None,
                seed: 1,
            };
            let report = simulate(&world, &Decider::Timetable(rules.timetable(&changes)), &requests, false);
            assert!(report.attained > 0 && report.attained < report.sent, "{report:?}");
            assert_eq!(moment.missed, report.sent - report.attained);
            assert!((moment.billed() as f64 / 3.6e9 - report.replica_hours).abs() < 1e-9, "{report:?}");
        }
    }
}
