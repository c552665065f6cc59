//! Conditions of a status, as Kubernetes' API conventions (KEP-1623) have them.

use forewarm_core::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest text of a condition; its place in the status is shared with the decisions.
const MAX_MESSAGE: usize = 1024;

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Says {
    /// `Ready`, `Contested`…
    pub kind: &'static str,
    /// Whether it is so; `None`: not known.
    pub is_so: Option<bool>,
    /// A word for machines.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// Writes conditions down. Returns those that became another: their status or their reason changed.
pub fn set(conditions: &mut Vec<Condition>, says: Vec<Says>, generation: i64, now: Timestamp) -> Vec<Says> {
    let mut changed = Vec::new();
    for said in says {
        let status = match said.is_so {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let message = cut(&said.message, MAX_MESSAGE);
        let before = conditions.iter_mut().find(|condition| condition.type_ == said.kind);
        let is_new =
            before.as_ref().is_none_or(|there| there.status != status || there.reason != said.reason);
        let moved = before.as_ref().is_none_or(|there| there.status != status);
        let kept = before.as_ref().map(|there| there.last_transition_time.clone());
        let condition = Condition {
            type_: said.kind.to_owned(),
            status: status.to_owned(),
            reason: said.reason.to_owned(),
            message,
            observed_generation: Some(generation),
            last_transition_time: kept.filter(|_| !moved).unwrap_or_else(|| time(now)),
        };
        match before {
            Some(there) => *there = condition,
            None => conditions.push(condition),
        }
        if is_new {
            changed.push(said);
        }
    }
    changed
}

/// The text, cut to whole characters.
pub fn cut(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let end = (0..=max_bytes - '…'.len_utf8()).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// A moment as the API has it, in whole seconds as its conventions want.
pub fn time(at: Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(at.as_millis().div_euclid(1000)).unwrap_or_default())
}
