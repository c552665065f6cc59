//! Numbers that carry their unit and cannot hold what arithmetic does not survive.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A count of replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Replicas(pub u32);

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} replica{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// A finite, non-negative number of requests: a queue depth, or a mean of queue depths.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Requests(f64);

impl Requests {
    /// # Errors
    /// When `value` is negative, infinite or not a number.
    pub fn new(value: f64) -> Result<Self, InvalidUnit> {
        if value.is_finite() && value >= 0.0 {
            Ok(Self(value))
        } else {
            Err(InvalidUnit { unit: "requests", value })
        }
    }

    /// The larger of two.
    pub fn max(self, other: Requests) -> Requests {
        Requests(self.0.max(other.0))
    }

    /// The number itself.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// How many replicas carry this many requests at `per_replica` each, rounded up; `None` when one
    /// replica carries nothing.
    pub fn replicas_at(self, per_replica: Requests) -> Option<Replicas> {
        // `as` saturates at u32::MAX, which the upper bound then cuts.
        (per_replica.0 > 0.0).then(|| Replicas((self.0 / per_replica.0).ceil() as u32))
    }
}

impl TryFrom<f64> for Requests {
    type Error = InvalidUnit;

    fn try_from(value: f64) -> Result<Self, InvalidUnit> {
        Self::new(value)
    }
}

impl From<Requests> for f64 {
    fn from(requests: Requests) -> f64 {
        requests.0
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One decimal at most: enough for a mean, and whole numbers stay whole.
        write!(f, "{}", (self.0 * 10.0).round() / 10.0)
    }
}

/// A number that its unit does not allow.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{value} is not a number of {unit}: it must be finite and not negative")]
pub struct InvalidUnit {
    unit: &'static str,
    value: f64,
}
