//! How many vectors of a file matched, and what differs in the others.

use std::{error::Error, fmt};

use super::{Report, VectorKind, replay};

/// The account of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Vectors, and those of them that matched in every step.
    pub scenarios: usize,
    /// Matched in every step, of which there is one at least.
    pub scenarios_matched: usize,
    /// Steps of all vectors.
    pub steps: usize,
    /// Steps without a difference.
    pub steps_matched: usize,
}

impl Account {
    /// Replays one line into the account; gives a text for each difference, our reasons below it.
    pub fn replay(&mut self, kind: VectorKind, line: &str) -> Vec<String> {
        self.scenarios += 1;
        match replay(kind, line) {
            Ok(report) => self.count(&report),
            Err(error) => {
                let source = error.source().map(ToString::to_string).unwrap_or_default();
                vec![format!("{error}: {source}")]
            }
        }
    }

    fn count(&mut self, report: &Report) -> Vec<String> {
        let mut differences = Vec::new();
        for step in &report.steps {
            self.steps += 1;
            self.steps_matched += usize::from(step.mismatches.is_empty());
            for mismatch in &step.mismatches {
                let mut text = format!("{} {}: {mismatch}", report.name, step.label);
                step.reasons.iter().for_each(|reason| text.extend(["\n    ", reason]));
                differences.push(text);
            }
        }
        // A scenario without a single step proves nothing.
        self.scenarios_matched += usize::from(differences.is_empty() && !report.steps.is_empty());
        differences
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenarios, scenarios_matched, steps, steps_matched } = self;
        write!(f, "{scenarios_matched}/{scenarios} scenarios, {steps_matched}/{steps} steps matched")
    }
}
