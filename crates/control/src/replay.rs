//! Decides again what a journal recorded, and compares byte for byte.

use forewarm_core::{Decision, Observation, ScalerSpec, ScalerState, plan};

use crate::journal::Record;

/// What a replay found.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Decisions made again.
    pub decisions: usize,
    /// Those that came out differently.
    pub mismatches: Vec<Mismatch>,
}

/// A decision that came out differently.
#[derive(Debug)]
pub struct Mismatch {
    /// Its place in the journal.
    pub index: usize,
    /// What was recorded, as JSON.
    pub recorded: String,
    /// What came out now, as JSON.
    pub replayed: String,
}

/// Runs every recorded observation through the same core. A checkpoint replaces specification and state,
/// as a restart or a changed file did; within a run of decisions the state is carried on.
pub fn replay(records: &[Record]) -> Replayed {
    let mut result = Replayed::default();
    let mut memory: Option<(ScalerSpec, ScalerState)> = None;
    for (index, record) in records.iter().enumerate() {
        match record {
            Record::Checkpoint { spec, state } => memory = Some(((**spec).clone(), (**state).clone())),
            Record::Decision { observation, decision } => {
                let Some((spec, state)) = &mut memory else { continue };
                result.decisions += 1;
                if let Some(mismatch) = compare(index, spec, state, observation, decision) {
                    result.mismatches.push(mismatch);
                }
            }
            Record::Outcome { .. } => {}
        }
    }
    result
}

fn compare(
    index: usize,
    spec: &ScalerSpec,
    state: &mut ScalerState,
    observation: &Observation,
    recorded: &Decision,
) -> Option<Mismatch> {
    let replayed = json(&plan(spec, state, observation));
    let recorded = json(recorded);
    (replayed != recorded).then_some(Mismatch { index, recorded, replayed })
}

fn json(decision: &Decision) -> String {
    // A decision has string keys and finite numbers only; an error here would show up as a mismatch.
    serde_json::to_string(decision).unwrap_or_else(|error| format!("not serialisable: {error}"))
}
