//! The conditions of an HPA's status, in the controller's own words.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::observation::ConditionStatus;

/// The type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionType {
    /// Whether the scale can be read and written.
    AbleToScale,
    /// Whether the metrics give a count.
    ScalingActive,
    /// Whether a limit cut the wish.
    ScalingLimited,
    /// Whether the HPA itself went to zero; only then does it leave zero again.
    ScaledToZero,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AbleToScale => "AbleToScale",
            Self::ScalingActive => "ScalingActive",
            Self::ScalingLimited => "ScalingLimited",
            Self::ScaledToZero => "ScaledToZero",
        })
    }
}

/// A condition. They are sticky: a reconcile that does not set one leaves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which.
    pub r#type: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?} ({}): {}", self.r#type, self.status, self.reason, self.message)
    }
}

/// The conditions of one HPA, in the order in which they were first set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Conditions(Vec<Condition>);

impl Conditions {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Condition> {
        self.0.iter()
    }

    /// The one of this type.
    pub fn get(&self, r#type: ConditionType) -> Option<&Condition> {
        self.0.iter().find(|condition| condition.r#type == r#type)
    }

    pub(super) fn is_true(&self, r#type: ConditionType) -> bool {
        self.get(r#type).is_some_and(|condition| condition.status == ConditionStatus::True)
    }

    pub(super) fn set(
        &mut self,
        r#type: ConditionType,
        holds: bool,
        reason: &str,
        message: impl Into<String>,
    ) {
        let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
        let condition = Condition { r#type, status, reason: reason.to_owned(), message: message.into() };
        match self.0.iter_mut().find(|condition| condition.r#type == r#type) {
            Some(existing) => *existing = condition,
            None => self.0.push(condition),
        }
    }
}
