//! What a person may ask for: read from JSON, checked, handed over. Whether it is done is decided elsewhere.

use std::time::Duration;

use forewarm_core::{Replicas, ScalerId, Timestamp};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

/// A request by a person for one scaler.
#[derive(Debug)]
pub struct Command {
    /// For whom.
    pub scaler: ScalerId,
    /// What.
    pub action: Action,
    /// Whether it was done.
    pub reply: oneshot::Sender<Result<(), CommandError>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hold this number of replicas.
    Pause {
        /// The number.
        replicas: Replicas,
        /// Until when.
        end: PauseEnd,
    },
    /// Let the policy decide again.
    Resume,
}

/// When a pause ends. The admin port has no clock: a span counts from when the command is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseEnd {
    /// At this moment.
    At(Timestamp),
    /// After this much modelled time.
    After(Duration),
}

/// Why a command was not done. It changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// What was asked for is not allowed; the text names the field, the value and what would be right.
    #[error("{0}")]
    Refused(String),
    /// It was allowed and could not be done.
    #[error("{0}")]
    Failed(String),
}

/// A body that is not a pause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {value}: {right}")]
pub(crate) struct InvalidField {
    pub(crate) field: String,
    pub(crate) value: String,
    pub(crate) right: &'static str,
}

fn invalid(field: &str, value: Option<&Value>, right: &'static str) -> InvalidField {
    let value = value.map_or_else(|| "missing".to_owned(), Value::to_string);
    InvalidField { field: field.to_owned(), value, right }
}

/// Reads `{"replicas": 4, "for": "30m"}` or `{"replicas": 4, "until": "2026-11-24T12:00:00Z"}`.
pub(crate) fn pause(body: &[u8]) -> Result<Action, InvalidField> {
    const RIGHT_BODY: &str = r#"send a JSON object such as {"replicas": 4, "for": "30m"}"#;
    const RIGHT_REPLICAS: &str = "give a whole number of replicas from 0 to 4294967295, such as 4";
    const RIGHT_FOR: &str = "give a positive span such as \"30m\" or \"1h 30m\"";
    const RIGHT_UNTIL: &str = "give an RFC 3339 time with an offset such as \"2026-11-24T12:00:00Z\"";

    let fields: Map<String, Value> = serde_json::from_slice(body).map_err(|error| InvalidField {
        field: "body".to_owned(),
        value: format!("not readable ({error})"),
        right: RIGHT_BODY,
    })?;
    if let Some((field, value)) =
        fields.iter().find(|(field, _)| !["replicas", "for", "until"].contains(&field.as_str()))
    {
        return Err(invalid(field, Some(value), "the fields are `replicas` and one of `for` and `until`"));
    }
    let replicas = fields.get("replicas");
    let count = replicas.and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok());
    let count = count.ok_or_else(|| invalid("replicas", replicas, RIGHT_REPLICAS))?;
    let end = match (fields.get("for"), fields.get("until")) {
        (Some(span), None) => span
            .as_str()
            .and_then(|text| text.parse::<jiff::SignedDuration>().ok())
            .filter(jiff::SignedDuration::is_positive)
            .map(|span| PauseEnd::After(span.unsigned_abs()))
            .ok_or_else(|| invalid("for", Some(span), RIGHT_FOR))?,
        (None, Some(until)) => until
            .as_str()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .map(|at| PauseEnd::At(Timestamp::from_millis(at.as_millisecond())))
            .ok_or_else(|| invalid("until", Some(until), RIGHT_UNTIL))?,
        (Some(_), Some(until)) => {
            return Err(invalid("until", Some(until), "give one of `for` and `until`, not both"));
        }
        (None, None) => {
            return Err(invalid(
                "for",
                None,
                "say how long, such as \"30m\", or give `until`: a pause always ends",
            ));
        }
    };
    Ok(Action::Pause { replicas: Replicas(count), end })
}
