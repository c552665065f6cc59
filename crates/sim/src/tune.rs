//! Searches the settings of a policy on a trace.
//!
//! Coordinate search: from the settings as they are, one knob after the other is tried at each of its values, the
//! best is kept, and so on until a round changes nothing. Every candidate that was run counts for the frontier.

use std::collections::BTreeSet;

use forewarm_core::ScalerSpec;

use crate::parallel;

/// A setting that may be turned.
#[derive(Clone, Debug)]
pub struct Knob {
    /// Its name in the manifest.
    pub name: &'static str,
    /// Values worth trying.
    pub values: Vec<f64>,
    /// What it is set to; `None` where the policy has no such setting.
    pub get: fn(&ScalerSpec) -> Option<f64>,
    /// Sets it.
    pub set: fn(&mut ScalerSpec, f64),
}

/// What came of a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Share of the requests that attained the objective's bound.
    pub attained: f64,
    /// Replica-hours.
    pub replica_hours: f64,
}

impl Outcome {
    /// Whether this is preferred: meeting the objective first, then the lower cost; where neither meets it, the
    /// larger share.
    fn beats(&self, other: &Outcome, wanted: f64) -> bool {
        match (self.attained >= wanted, other.attained >= wanted) {
            (true, true) => self.replica_hours < other.replica_hours,
            (false, false) => self.attained > other.attained,
            (meets, _) => meets,
        }
    }
}

/// A candidate and what came of it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its settings.
    pub spec: ScalerSpec,
    /// On the trace it was tuned on.
    pub outcome: Outcome,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Search {
    /// All candidates in the order they were run; the first is the one as given.
    pub candidates: Vec<Candidate>,
    /// Which of them is preferred.
    pub best: usize,
}

/// Rounds over all knobs after which the search ends, whether or not it still gains.
const MAX_ROUNDS: usize = 4;

/// Searches from `start`. `wanted` is the share of requests that are to attain the objective's bound; `run` runs a
/// candidate, and is called on all cores.
pub fn search(
    start: &ScalerSpec,
    knobs: &[Knob],
    wanted: f64,
    run: impl Fn(&ScalerSpec) -> Outcome + Sync,
    done: impl Fn() + Sync,
) -> Search {
    let mut tried = BTreeSet::from([settings(knobs, start)]);
    let mut search =
        Search { candidates: vec![Candidate { spec: start.clone(), outcome: run(start) }], best: 0 };
    done();
    for _ in 0..MAX_ROUNDS {
        let before = search.best;
        for knob in knobs {
            let Some(best) = search.candidates.get(search.best) else { break };
            let specs: Vec<ScalerSpec> = knob
                .values
                .iter()
                .map(|&value| {
                    let mut spec = best.spec.clone();
                    (knob.set)(&mut spec, value);
                    spec
                })
                .filter(|spec| tried.insert(settings(knobs, spec)))
                .collect();
            let outcomes = parallel::map(&specs, &run, &done);
            for (spec, outcome) in specs.into_iter().zip(outcomes) {
                if search.candidates.get(search.best).is_some_and(|best| outcome.beats(&best.outcome, wanted))
                {
                    search.best = search.candidates.len();
                }
                search.candidates.push(Candidate { spec, outcome });
            }
        }
        if search.best == before {
            break;
        }
    }
    search
}

/// The knobs' positions, so that no candidate is run twice.
fn settings(knobs: &[Knob], spec: &ScalerSpec) -> Vec<Option<u64>> {
    knobs.iter().map(|knob| (knob.get)(spec).map(f64::to_bits)).collect()
}
