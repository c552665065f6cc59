//! A plan: when replicas become ready, and when they are drained.

use crate::{Step, time::Micros};

/// A replica more or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Change {
    pub(crate) at: Micros,
    /// `false`: a replica becomes ready, having been asked for one cold start earlier. `true`: one is drained.
    /// (In this order at the same moment, as in a run.)
    pub(crate) down: bool,
}

/// Adds what leads from so many replicas to so many others.
pub(crate) fn add_changes(changes: &mut Vec<Change>, at: Micros, before: u32, after: u32) {
    changes.extend((after..before).map(|_| Change { at, down: true }));
    changes.extend((before..after).map(|_| Change { at, down: false }));
}

/// What a plan must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) initial: u32,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) cold_start: Micros,
}

impl Rules {
    /// Whether a run would do what the changes say: nothing is asked for before the run begins, the bounds are
    /// kept, and nothing is drained while a replica is starting (the run would give up the start instead).
    pub(crate) fn allow(&self, changes: &[Change]) -> bool {
        let mut level = self.initial;
        let mut ups = changes.iter().filter(|change| !change.down).peekable();
        let mut asked = self.initial;
        for change in changes {
            while let Some(up) = ups.next_if(|up| up.at - up.at.min(self.cold_start) <= change.at) {
                if up.at < self.cold_start {
                    return false;
                }
                asked += 1;
                if asked > self.max {
                    return false;
                }
            }
            if change.down {
                if asked != level || level <= self.min {
                    return false;
                }
                level -= 1;
                asked -= 1;
            } else {
                level += 1;
            }
        }
        true
    }

    /// Leaves out pauses no longer than a cold start, which cost more than they save.
    pub(crate) fn fill_short_pauses(&self, changes: &mut Vec<Change>) {
        let mut kept: Vec<Change> = Vec::with_capacity(changes.len());
        for &change in changes.iter() {
            match kept.last() {
                Some(last) if last.down && !change.down && change.at - last.at <= self.cold_start => {
                    kept.pop();
                }
                _ => kept.push(change),
            }
        }
        *changes = kept;
    }

    /// The timetable that makes a run do what the changes say.
    pub(crate) fn timetable(&self, changes: &[Change]) -> Vec<Step> {
        let mut asks: Vec<(Micros, i64)> = changes
            .iter()
            .map(|change| if change.down { (change.at, -1) } else { (change.at - self.cold_start, 1) })
            .collect();
        asks.sort_unstable();
        let mut steps = vec![Step { at: 0, replicas: self.initial }];
        let mut wanted = i64::from(self.initial);
        for (at, by) in asks {
            wanted += by;
            let replicas = wanted.max(0) as u32;
            match steps.last_mut() {
                Some(last) if last.at == at => last.replicas = replicas,
                _ => steps.push(Step { at, replicas }),
            }
        }
        steps
    }
}
