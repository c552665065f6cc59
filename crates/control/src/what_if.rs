//! What another policy would have decided on what a journal recorded.

use forewarm_core::{ScalerSpec, ScalerState, Timestamp, plan};

use crate::journal::Record;

/// What another policy would have decided. The observations are the recorded ones: they show the fleet and the
/// queue that the recorded decisions made, and do not react to the other policy's.
#[derive(Clone, Debug, Default)]
pub struct WhatIf {
    /// Recorded observations that were decided on again.
    pub decisions: usize,
    /// Those after which the two want different numbers.
    pub differing: usize,
    /// Where the difference begins, changes or ends.
    pub turns: Vec<Turn>,
    /// Replica-hours that were wanted, as recorded.
    pub recorded_replica_hours: f64,
    /// Replica-hours that the other policy would have wanted.
    pub other_replica_hours: f64,
}

/// A moment at which the difference between the two changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When.
    pub at: Timestamp,
    /// The number wanted, as recorded.
    pub recorded: u32,
    /// The number that the other policy wants.
    pub other: u32,
    /// The other policy's decision in a line.
    pub summary: String,
}

/// Decides on every recorded observation with another policy, which begins without a memory and keeps its own from
/// there on. `other` makes its specification of the recorded one, at each checkpoint.
pub fn what_if(records: &[Record], other: impl Fn(&ScalerSpec) -> ScalerSpec) -> WhatIf {
    let mut result = WhatIf::default();
    let mut spec: Option<ScalerSpec> = None;
    let mut state = ScalerState::default();
    let mut before: Option<(Timestamp, u32, u32)> = None;
    for record in records {
        match record {
            Record::Checkpoint { spec: recorded, .. } => spec = Some(other(recorded)),
            Record::Decision { observation, decision } => {
                let Some(spec) = &spec else { continue };
                let others = plan(spec, &mut state, observation);
                let (recorded, other) = (decision.to.0, others.to.0);
                let last = before.replace((decision.at, recorded, other));
                if let Some((since, recorded, other)) = last {
                    let hours = decision.at.since(since).as_secs_f64() / 3_600.0;
                    result.recorded_replica_hours += f64::from(recorded) * hours;
                    result.other_replica_hours += f64::from(other) * hours;
                }
                result.decisions += 1;
                result.differing += usize::from(recorded != other);
                let same_as_last = last.is_some_and(|(_, was, others)| (was, others) == (recorded, other));
                let differed = last.is_some_and(|(_, was, others)| was != others);
                if !same_as_last && (recorded != other || differed) {
                    result.turns.push(Turn { at: decision.at, recorded, other, summary: others.summary() });
                }
            }
            Record::Outcome { .. } => {}
        }
    }
    result
}
