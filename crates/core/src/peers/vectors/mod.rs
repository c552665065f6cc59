//! Recorded runs of the peers' own code, replayed through ours and compared step by step.
//!
//! A vector is one line of JSON: the inputs of a run and what the real code did at each step. Reading
//! files is the caller's business; here a line's text goes in and a comparison comes out.

mod account;
mod compare;
mod hpa;
mod keda;
mod kpa;

pub use account::Account;
pub use compare::{Mismatch, Report, StepReport};

/// Which peer's code recorded a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorKind {
    /// Kubernetes' HPA controller.
    Hpa,
    /// Knative's decisions.
    Kpa,
    /// Knative's windows.
    KpaWindow,
    /// Knative's configuration.
    KpaSpec,
    /// KEDA's loop and fallbacks.
    Keda,
}

impl VectorKind {
    /// Judged by the beginning of a file's name, so that further files of a kind need no new code.
    pub fn of_file(name: &str) -> Option<Self> {
        // The longer beginnings first.
        [
            ("hpa", Self::Hpa),
            ("kpa-window", Self::KpaWindow),
            ("kpa-spec", Self::KpaSpec),
            ("kpa", Self::Kpa),
            ("keda", Self::Keda),
        ]
        .into_iter()
        .find_map(|(prefix, kind)| name.starts_with(prefix).then_some(kind))
    }
}

/// A line that is no vector of its kind.
#[derive(Debug, thiserror::Error)]
#[error("not a {kind:?} vector")]
pub struct InvalidVector {
    kind: VectorKind,
    source: serde_json::Error,
}

/// Replays one vector.
///
/// # Errors
/// When the line does not have the shape of its kind; a different decision is a [`Mismatch`], not an error.
pub fn replay(kind: VectorKind, line: &str) -> Result<Report, InvalidVector> {
    match kind {
        VectorKind::Hpa => hpa::replay(line),
        VectorKind::Kpa => kpa::replay(line),
        VectorKind::KpaWindow => kpa::replay_window(line),
        VectorKind::KpaSpec => kpa::replay_spec(line),
        VectorKind::Keda => keda::replay(line),
    }
    .map_err(|source| InvalidVector { kind, source })
}
