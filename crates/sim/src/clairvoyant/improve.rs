//! A plan is made better change by change; each trial is replayed exactly, as far as it makes a difference.

use std::collections::BTreeSet;

use crate::{
    clairvoyant::{
        Price,
        jobs::Job,
        machine::{Machine, Moment},
        plan::{Change, Rules},
        rate,
    },
    time::Micros,
};

/// A plan and its replay.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    machine: Machine<'a>,
    rules: Rules,
    changes: Vec<Change>,
    /// The replay, every `spacing`.
    moments: Vec<Moment>,
    spacing: Micros,
    end: Moment,
    /// Jobs replayed in trials so far.
    effort: u64,
    /// Where the last pass and this one changed something; before the first, everything counts as changed.
    changed_before: Option<BTreeSet<Micros>>,
    changed: BTreeSet<Micros>,
}

/// What a trial would bring.
#[derive(Debug)]
struct Trial {
    changes: Vec<Change>,
    billed: i64,
    missed: i64,
    first: usize,
    moments: Vec<Moment>,
    end: Option<Moment>,
}

/// When a trial is worth it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// If it lowers the cost with this price for a miss.
    Price(Price),
    /// If it lowers the cost and no more than so many miss.
    Within(u64),
}

/// Distances by which a change is moved, in microseconds.
const SHIFTS: [Micros; 8] =
    [160_000_000, 80_000_000, 40_000_000, 20_000_000, 10_000_000, 5_000_000, 2_000_000, 500_000];

/// A change makes no more difference to misses after this, in microseconds.
const AFTERMATH: Micros = 600_000_000;
/// Changes farther apart than this hardly depend on each other, in microseconds.
const NEAR: Micros = 300_000_000;
/// By how much the work that a drained replica ends may change the cost, in microseconds.
const SPREAD: i64 = 20_000_000;

/// Copying and checking so many changes takes as long as replaying a job.
const CHANGES_AS_A_JOB: usize = 8;

/// How far apart a replay is remembered: a few hundred jobs.
pub(crate) fn spacing(jobs: &[Job]) -> Micros {
    ((500.0 / rate(jobs)) as Micros).clamp(5_000_000, 60_000_000)
}

impl<'a> Search<'a> {
    pub(crate) fn new(machine: Machine<'a>, rules: Rules, changes: Vec<Change>, spacing: Micros) -> Self {
        let beginning = machine.beginning(rules.initial);
        let mut search = Self {
            machine,
            rules,
            changes,
            moments: Vec::new(),
            spacing,
            end: beginning,
            effort: 0,
            changed_before: None,
            changed: BTreeSet::new(),
        };
        search.replay();
        search
    }

    fn replay(&mut self) {
        let mut moment = self.machine.beginning(self.rules.initial);
        self.moments.clear();
        loop {
            self.moments.push(moment.clone());
            let until = self.moments.len() as u64 * self.spacing;
            if self.machine.go_on(&mut moment, &self.changes, until) {
                break;
            }
        }
        self.end = moment;
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    fn worth(&self, aim: Aim, billed: i64, missed: i64) -> bool {
        match aim {
            Aim::Price(price) => billed as f64 / 1e6 + price * (missed as f64) < -1e-3,
            Aim::Within(allowed) => {
                billed < -1_000
                    && self.end.missed.saturating_add_signed(missed) <= allowed.max(self.end.missed)
            }
        }
    }

    /// The most misses that a change of the plan in this span can avoid.
    fn avoidable(&self, from: Micros, to: Micros) -> u64 {
        let at = |time: Micros| (time / self.spacing) as usize;
        let lost = |moment: Option<&Moment>| moment.unwrap_or(&self.end).lost();
        let mut after = (at(to) + 1..=at(to + AFTERMATH)).map_while(|index| self.moments.get(index));
        lost(after.find(|moment| moment.is_calm())).saturating_sub(lost(self.moments.get(at(from))))
    }

    /// Replays other changes, which differ from the plan's in the span from `from` to `to` and by `cost` of
    /// replica-time in microseconds, until nothing is different any more.
    fn trial(
        &mut self,
        changes: Vec<Change>,
        (from, to): (Micros, Micros),
        cost: i64,
        aim: Aim,
    ) -> Option<Trial> {
        if cost >= 0 && !self.worth(aim, cost, -(self.avoidable(from, to) as i64)) {
            return None;
        }
        let first = ((from / self.spacing) as usize).min(self.moments.len() - 1);
        let mut moment = self.moments.get(first)?.clone();
        let mut moments = Vec::new();
        for index in first + 1.. {
            let until = index as u64 * self.spacing;
            let before = moment.arrived();
            let ended = self.machine.go_on(&mut moment, &changes, until);
            self.effort += (moment.arrived() - before) as u64;
            let base = if ended { &self.end } else { self.moments.get(index).unwrap_or(&self.end) };
            let billed = moment.billed() - base.billed();
            let missed = moment.lost() as i64 - base.lost() as i64;
            let settled = match aim {
                Aim::Price(_) => moment.goes_on_nearly_like(base),
                Aim::Within(_) => moment.goes_on_like(base),
            };
            if ended || (until > to && settled) {
                return self.worth(aim, billed, missed).then(|| Trial {
                    changes,
                    billed,
                    missed,
                    first,
                    moments,
                    end: ended.then_some(moment),
                });
            }
            // With less capacity, misses only become more.
            if cost < 0 && !self.worth(aim, cost - SPREAD, missed) {
                return None;
            }
            if until > to + AFTERMATH && !self.worth(aim, billed - SPREAD, missed) {
                return None;
            }
            moments.push(moment.clone());
        }
        None
    }

    fn take(&mut self, trial: Trial) {
        self.changes = trial.changes;
        let merged = trial.first + 1 + trial.moments.len();
        if let Some(end) = trial.end {
            self.moments.truncate(trial.first + 1);
            self.moments.extend(trial.moments);
            self.end = end;
            return;
        }
        for (slot, moment) in self.moments.iter_mut().skip(trial.first + 1).zip(trial.moments) {
            *slot = moment;
        }
        for moment in self.moments.iter_mut().skip(merged) {
            moment.shift(trial.billed, trial.missed);
        }
        self.end.shift(trial.billed, trial.missed);
    }

    fn attempt(&mut self, remove: &[usize], add: &[Change], aim: Aim) -> bool {
        let mut changes = self.changes.clone();
        self.effort += (changes.len() / CHANGES_AS_A_JOB) as u64;
        let mut span = (Micros::MAX, 0);
        for &index in remove.iter().rev() {
            let change = changes.remove(index);
            span = (span.0.min(change.at), span.1.max(change.at));
        }
        for &change in add {
            let index = changes.partition_point(|other| *other <= change);
            changes.insert(index, change);
            span = (span.0.min(change.at), span.1.max(change.at));
        }
        if !self.rules.allow(&changes) {
            return false;
        }
        let worth = |change: &Change| {
            let at = change.at as i64;
            if change.down { at } else { self.rules.cold_start as i64 - at }
        };
        let removed = remove.iter().filter_map(|&index| self.changes.get(index));
        let cost = add.iter().map(worth).sum::<i64>() - removed.map(worth).sum::<i64>();
        let Some(trial) = self.trial(changes, span, cost, aim) else { return false };
        self.changed.extend([span.0, span.1]);
        self.take(trial);
        true
    }

    /// Whether the last pass or this one changed something near by: only then a trial may turn out otherwise.
    fn may_turn_out_otherwise(&self, at: Micros) -> bool {
        let near = at.saturating_sub(NEAR)..=at + NEAR;
        self.changed_before.as_ref().is_none_or(|before| {
            before.range(near.clone()).next().is_some() || self.changed.range(near).next().is_some()
        })
    }

    /// Tries each change of the plan earlier, later, and left out together with the next, as long as no more than
    /// `effort` jobs have been replayed. Returns whether another pass is worth while.
    pub(crate) fn pass(&mut self, aim: Aim, effort: u64) -> bool {
        let mut index = 0;
        while let Some(&change) = self.changes.get(index)
            && self.effort < effort
        {
            if !self.may_turn_out_otherwise(change.at) {
                index += 1;
                continue;
            }
            if let Some(next) = self.changes.get(index + 1)
                && next.down != change.down
                && self.attempt(&[index, index + 1], &[], aim)
            {
                continue;
            }
            for shift in SHIFTS {
                self.move_by(index, shift, aim);
            }
            index += 1;
        }
        // Trials forget how requests are spread over replicas; the replay does not.
        self.replay();
        let changed = std::mem::take(&mut self.changed);
        let again = !changed.is_empty() && self.effort < effort;
        self.changed_before = Some(changed);
        again
    }

    /// Tries a replica more from the last calm moment before requests miss to the next one, as often as it helps.
    pub(crate) fn add_where_missed(&mut self, price: Price, effort: u64) -> bool {
        let mut added = false;
        let mut index = 0;
        while index + 1 < self.moments.len() && self.effort < effort {
            let calm = |moment: &&Moment| moment.is_calm();
            let first = index;
            let Some((from, rest)) = self.moments.get(first..).and_then(<[Moment]>::split_first) else {
                break;
            };
            let to = rest.iter().find(calm).unwrap_or(&self.end);
            index += 1 + rest.iter().position(|moment| moment.is_calm()).unwrap_or(rest.len());
            let (at, until) = (from.at.max(self.rules.cold_start), to.at);
            let cost = (self.rules.cold_start + until.saturating_sub(at)) as f64 / 1e6;
            if at >= until || price * ((to.lost() - from.lost()) as f64) <= cost {
                continue;
            }
            let pair = [Change { at, down: false }, Change { at: until, down: true }];
            while self.attempt(&[], &pair, Aim::Price(price)) {
                added = true;
            }
        }
        added
    }

    /// Moves a change by this much, later and earlier, as often as it helps.
    fn move_by(&mut self, index: usize, shift: Micros, aim: Aim) {
        for later in [true, false] {
            while let Some(&change) = self.changes.get(index) {
                let at = if later { change.at + shift } else { change.at.saturating_sub(shift) };
                if at == change.at || !self.attempt(&[index], &[Change { at, ..change }], aim) {
                    break;
                }
            }
        }
    }
}
