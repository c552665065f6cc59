//! What was seen, when, and how old it was. A missing value is a value of its own, never 0.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    FailedStart, ReplicaId, SignalName, Standby, Timestamp,
    fleet::{Phase, Replica},
};

/// Everything the core may know when it plans: one line of the journal, and of `forewarm decide`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observation {
    /// The moment of the observation.
    #[serde(rename = "t", with = "at_seconds")]
    pub at: Timestamp,
    /// The fleet as it was seen.
    #[serde(default)]
    pub replicas: Vec<Replica>,
    /// Why the fleet could not be seen; then `replicas` says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet_error: Option<String>,
    /// Starts that failed since the observation before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_starts: Vec<FailedStart>,
    /// Instances that stand by, and are not spoken for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub standby: Standby,
    /// That somebody else set the number of replicas lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contested: Option<Contested>,
    /// Signals by name. A name that is not here was never asked for.
    #[serde(default)]
    pub signals: BTreeMap<SignalName, Signal>,
}

impl Observation {
    /// The signal's evidence, `None` when nobody was asked for it.
    pub fn evidence(&self, name: &str, max_age: Duration) -> Option<Evidence> {
        self.signals.get(name).map(|signal| signal.evidence(max_age))
    }

    /// Replicas in `phase`.
    pub fn count(&self, phase: Phase) -> u32 {
        self.count_where(|seen| seen == phase)
    }

    /// Replicas whose phase satisfies `predicate`.
    pub fn count_where(&self, predicate: impl Fn(Phase) -> bool) -> u32 {
        let count = self.replicas.iter().filter(|replica| predicate(replica.phase)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// Somebody else set the number of replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contested {
    /// Who, as far as it is known.
    pub by: String,
    /// The number before.
    pub from: u32,
    /// The number that they set.
    pub to: u32,
}

/// One signal as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SignalLine", into = "SignalLine")]
pub struct Signal {
    /// The value, or why there is none.
    pub reading: Reading,
    /// How old the reading was when it was observed.
    pub age: Duration,
}

/// A reading of a signal.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Seen whole.
    Value {
        /// The sum over replicas, or the only value.
        total: f64,
        /// Each replica's share, where the source knows.
        per_replica: BTreeMap<ReplicaId, f64>,
    },
    /// Seen in part: some replicas did not answer, so `total` is a lower bound.
    Partial {
        /// The sum over the replicas that answered.
        total: f64,
        /// Each answering replica's share.
        per_replica: BTreeMap<ReplicaId, f64>,
        /// How many answered.
        reporting: u32,
        /// How many were asked.
        expected: u32,
    },
    /// Not seen.
    Missing(Missing),
}

/// Why a value is missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Missing {
    /// The source answered, and has no such value.
    Absent,
    /// The last value is too old to act on.
    Stale {
        /// Its age in seconds.
        age_seconds: f64,
    },
    /// A counter went backwards: its rate is unknown until the next reading.
    Reset,
    /// The source could not be read.
    Failed(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Absent => f.write_str("the source has no such value"),
            Missing::Stale { age_seconds } => write!(f, "the last value is {age_seconds:.0} s old"),
            Missing::Reset => f.write_str("the counter was reset"),
            Missing::Failed(error) => write!(f, "the source could not be read: {error}"),
        }
    }
}

/// What a signal proves.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    /// Exactly this.
    Known(f64),
    /// This at least: enough to scale up on, never to scale down on.
    AtLeast(f64),
    /// Nothing.
    Unknown(Missing),
}

impl Signal {
    /// A whole, fresh value without shares by replica.
    pub fn value(total: f64) -> Self {
        Self { reading: Reading::Value { total, per_replica: BTreeMap::new() }, age: Duration::ZERO }
    }

    /// A value that is not there, and why.
    pub fn missing(why: Missing) -> Self {
        Self { reading: Reading::Missing(why), age: Duration::ZERO }
    }

    /// What the reading proves when readings older than `max_age` prove nothing. A value that is not a
    /// finite number proves nothing either.
    pub fn evidence(&self, max_age: Duration) -> Evidence {
        if let Reading::Missing(why) = &self.reading {
            return Evidence::Unknown(why.clone());
        }
        if self.age > max_age {
            return Evidence::Unknown(Missing::Stale { age_seconds: self.age.as_secs_f64() });
        }
        match &self.reading {
            Reading::Value { total, .. } | Reading::Partial { total, .. } if !total.is_finite() => {
                Evidence::Unknown(Missing::Failed(format!("the value is {total}")))
            }
            Reading::Value { total, .. } => Evidence::Known(*total),
            Reading::Partial { total, .. } => Evidence::AtLeast(*total),
            Reading::Missing(why) => Evidence::Unknown(why.clone()),
        }
    }
}

/// The signal as a line of JSON has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignalLine {
    value: Option<f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    per_replica: BTreeMap<ReplicaId, f64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    age_seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partial: Option<PartialLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing: Option<Missing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartialLine {
    reporting: u32,
    expected: u32,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl TryFrom<SignalLine> for Signal {
    type Error = String;

    fn try_from(line: SignalLine) -> Result<Self, String> {
        let age = Duration::try_from_secs_f64(line.age_seconds)
            .map_err(|error| format!("ageSeconds {} is not an age: {error}", line.age_seconds))?;
        let reading = match (line.value, line.error, line.missing) {
            (Some(total), None, None) => match line.partial {
                None => Reading::Value { total, per_replica: line.per_replica },
                Some(PartialLine { reporting, expected }) => {
                    Reading::Partial { total, per_replica: line.per_replica, reporting, expected }
                }
            },
            (Some(value), _, _) => {
                return Err(format!("value {value} beside `error` or `missing`: a signal has one of them"));
            }
            (None, Some(error), _) => Reading::Missing(Missing::Failed(error)),
            (None, None, Some(why)) => Reading::Missing(why),
            (None, None, None) => Reading::Missing(Missing::Absent),
        };
        Ok(Signal { reading, age })
    }
}

impl From<Signal> for SignalLine {
    fn from(signal: Signal) -> SignalLine {
        let mut line = SignalLine {
            value: None,
            per_replica: BTreeMap::new(),
            age_seconds: signal.age.as_secs_f64(),
            partial: None,
            missing: None,
            error: None,
        };
        match signal.reading {
            Reading::Value { total, per_replica } => {
                line.value = Some(total);
                line.per_replica = per_replica;
            }
            Reading::Partial { total, per_replica, reporting, expected } => {
                line.value = Some(total);
                line.per_replica = per_replica;
                line.partial = Some(PartialLine { reporting, expected });
            }
            Reading::Missing(Missing::Failed(error)) => line.error = Some(error),
            Reading::Missing(why) => line.missing = Some(why),
        }
        line
    }
}

mod at_seconds {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Timestamp;

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(at.as_seconds())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        f64::deserialize(deserializer).map(Timestamp::from_seconds)
    }
}
