//! What is written down about decisions, so that they can be explained, replayed and resumed.

use forewarm_core::{Decision, Observation, ScalerSpec, ScalerState};
use serde::{Deserialize, Serialize};

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Record {
    /// Everything that later decisions depend on: a replay starts here. Boxed: it is by far the largest.
    Checkpoint {
        /// What was asked for from here on.
        spec: Box<ScalerSpec>,
        /// What was remembered at this point.
        state: Box<ScalerState>,
    },
    /// What was seen, and what was decided on it: written before anything acts.
    Decision {
        /// What was seen.
        observation: Box<Observation>,
        /// What was decided.
        decision: Box<Decision>,
    },
    /// What came of acting on the decision before.
    Outcome {
        /// `None` when it was done; else why not.
        error: Option<String>,
    },
}
