//! How long a request takes to its first token once it has a slot, by the length of its prompt.

use std::time::Duration;

/// The weight of an answer among those before it, once there were enough of them.
const WEIGHT: f64 = 1.0 / 256.0;

/// A line through the times seen, by least squares; the last ones count most. Before any was seen it is 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FirstToken {
    seen: f64,
    /// Means of prompt tokens and of seconds.
    tokens: f64,
    seconds: f64,
    /// Variance of the tokens, and their covariance with the seconds.
    variance: f64,
    covariance: f64,
}

impl FirstToken {
    /// An answer to a prompt of so many tokens began so long after its request had got a slot.
    pub(super) fn saw(&mut self, prompt_tokens: u64, took: Duration) {
        self.seen += 1.0;
        let weight = WEIGHT.max(1.0 / self.seen);
        let (tokens, seconds) = (prompt_tokens as f64 - self.tokens, took.as_secs_f64() - self.seconds);
        self.tokens += weight * tokens;
        self.seconds += weight * seconds;
        self.variance = (1.0 - weight) * (self.variance + weight * tokens * tokens);
        self.covariance = (1.0 - weight) * (self.covariance + weight * tokens * seconds);
    }

    /// What is to be expected of the next one. A longer prompt never takes less.
    pub(super) fn expected(&self, prompt_tokens: u64) -> Duration {
        let slope = if self.variance > 0.0 { (self.covariance / self.variance).max(0.0) } else { 0.0 };
        let seconds = self.seconds + slope * (prompt_tokens as f64 - self.tokens);
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
    }
}
