//! What a request has to attain.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::time::{Micros, micros};

/// “99 % of requests see their first token within 5 s”.
///
/// A request attains it if its TTFT is at most the larger of `ttft` and twice its TTFT alone on an idle replica:
/// no autoscaler can help a prompt that takes longer by itself. Requests that are refused, failed or lost miss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Objective {
    /// The bound of the time to the first token.
    #[serde(rename = "ttftSeconds", serialize_with = "in_seconds")]
    pub ttft: Duration,
    /// Percent of the requests that are to attain it.
    pub percent: f64,
}

impl Objective {
    /// The latest TTFT of a request whose TTFT alone on an idle replica is `alone`.
    pub(crate) fn bound(&self, alone: Micros) -> Micros {
        micros(self.ttft).max(alone.saturating_mul(2))
    }

    /// Share of the requests that may miss.
    pub fn allowance(&self) -> f64 {
        (1.0 - self.percent / 100.0).max(0.0)
    }
}

impl fmt::Display for Objective {
    /// As it is written on a command line: `ttft=5s@99%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ttft={}s@{}%", self.ttft.as_secs_f64(), self.percent)
    }
}

fn in_seconds<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}
