//! What became of every request: sent = succeeded + refused + failed + lost.

use std::collections::BTreeMap;

use serde::Serialize;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A whole answer.
    Succeeded,
    /// An honest 429 or 503 instead of a place.
    Refused,
    /// An honest error after it had been accepted.
    Failed(FailureCause),
    /// No answer, a hang, or a stream that ended without `[DONE]` or an error.
    Lost,
}

/// Why an accepted request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// It waited longer than it may.
    Deadline,
    /// Others took its place in the gateway's full queue.
    Shed,
    /// Its replica died after the first byte.
    ReplicaDiedMidStream,
    /// An error of the engine, or no replica could answer.
    UpstreamError,
    /// The gateway could not be reached, or ended before it answered.
    GatewayDied,
    /// The load tool was stopped.
    ClientLeft,
}

impl FailureCause {
    /// The cause that an error's `code` names; anything else is the engine's own error.
    pub fn from_code(code: &str) -> Self {
        match code {
            "deadline" => FailureCause::Deadline,
            "shed" => FailureCause::Shed,
            "replica_died_mid_stream" => FailureCause::ReplicaDiedMidStream,
            "gateway_died" => FailureCause::GatewayDied,
            "client_left" => FailureCause::ClientLeft,
            _ => FailureCause::UpstreamError,
        }
    }
}

/// The account of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Requests that were sent.
    pub sent: u64,
    /// Whole answers.
    pub succeeded: u64,
    /// Refused before they had a place.
    pub refused: u64,
    /// Failed after they had one.
    pub failed: u64,
    /// Without any honest end.
    pub lost: u64,
    /// `failed`, by cause.
    pub failed_by_cause: BTreeMap<FailureCause, u64>,
}

impl Account {
    /// Counts a request that ended.
    pub fn end(&mut self, ending: Ending) {
        match ending {
            Ending::Succeeded => self.succeeded += 1,
            Ending::Refused => self.refused += 1,
            Ending::Failed(cause) => {
                self.failed += 1;
                *self.failed_by_cause.entry(cause).or_default() += 1;
            }
            Ending::Lost => self.lost += 1,
        }
    }

    /// Requests that have ended.
    pub fn ended(&self) -> u64 {
        self.succeeded + self.refused + self.failed + self.lost
    }
}
