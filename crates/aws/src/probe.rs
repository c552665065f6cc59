//! Asks one instance once whether its engine serves.

use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};

use crate::account::AccountError;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Answers that fail in a row before a ready instance counts as loading again: health may be slow under load.
const MAX_FAILED: u32 = 5;

/// What the answers so far say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) ready: bool,
    pub(crate) was_ready: bool,
    failed: u32,
}

impl Health {
    /// Takes in an answer; whether readiness changed.
    pub(crate) fn take(&mut self, serves: bool) -> bool {
        let before = self.ready;
        self.failed = if serves { 0 } else { self.failed + 1 };
        self.ready = serves || (before && self.failed < MAX_FAILED);
        self.was_ready |= self.ready;
        self.ready != before
    }
}

/// A client that sees each time whether the port is open.
pub(crate) fn client() -> Result<Client, AccountError> {
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| AccountError::Client(error.to_string()))
}

/// Whether the engine at `address` answers `200 OK`.
pub(crate) async fn serves(client: &Client, address: &str, path: &str) -> bool {
    let answer = client.get(format!("http://{address}{path}")).send().await;
    answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_engine_may_miss_some_answers_in_a_row() {
        let mut health = Health::default();
        assert!(!health.take(false));
        assert!(health.take(true) && health.ready);
        for _ in 0..4 {
            assert!(!health.take(false) && health.ready);
        }
        assert!(health.take(false) && !health.ready && health.was_ready);
        assert!(health.take(true));
    }
}
