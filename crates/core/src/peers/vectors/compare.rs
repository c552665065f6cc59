//! What a replay gives: per step, what differs and why ours decided so.

use std::fmt;

use serde::{Deserialize, Deserializer, de::Error};

/// A replayed vector.
#[derive(Clone, Debug)]
pub struct Report {
    /// The vector's name.
    pub name: String,
    /// Its steps, in order.
    pub steps: Vec<StepReport>,
}

/// A replayed step.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Which, such as `t=15`.
    pub label: String,
    /// What differs; empty when the step matches.
    pub mismatches: Vec<Mismatch>,
    /// Our reasons, as sentences.
    pub reasons: Vec<String>,
}

impl StepReport {
    pub(super) fn new(label: impl fmt::Display) -> Self {
        Self { label: label.to_string(), mismatches: Vec::new(), reasons: Vec::new() }
    }

    /// Notes a field whose values differ.
    pub(super) fn expect<T: PartialEq + fmt::Debug>(&mut self, field: &'static str, expected: &T, got: &T) {
        if expected != got {
            let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
            self.mismatches.push(Mismatch { field, expected, got });
        }
    }
}

/// A field in which we decide otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// As the vector names it.
    pub field: &'static str,
    /// What the peer's own code did.
    pub expected: String,
    /// What ours does.
    pub got: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.field, self.expected, self.got)
    }
}

/// An error that is recorded as its text or only as a fact; absent, `false` and empty mean none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failure(pub(super) Option<String>);

impl<'de> Deserialize<'de> for Failure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Null | serde_json::Value::Bool(false) => Ok(Self(None)),
            serde_json::Value::Bool(true) => Ok(Self(Some("failed".to_owned()))),
            serde_json::Value::String(text) => Ok(Self((!text.is_empty()).then_some(text))),
            other @ (serde_json::Value::Number(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_)) => {
                Err(D::Error::custom(format!("{other} is no error: expected a text or true")))
            }
        }
    }
}
