//! How long a start takes, learned from the starts that were seen.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::ColdStartSpec;

/// Durations of the latest starts of one scaler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ColdStarts {
    /// Milliseconds from request to ready, oldest first.
    millis: VecDeque<u64>,
}

impl ColdStarts {
    /// Starts that are remembered: enough for a p90, few enough to follow a new image or node type.
    const REMEMBERED: usize = 32;
    /// Starts needed before their quantile replaces the prior.
    const NEEDED: usize = 3;

    /// Remembers a start.
    pub fn observe(&mut self, duration: Duration) {
        if self.millis.len() == Self::REMEMBERED {
            self.millis.pop_front();
        }
        self.millis.push_back(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    }

    /// How many starts are remembered.
    pub fn samples(&self) -> usize {
        self.millis.len()
    }

    /// The `q`-quantile (0 to 1, nearest rank) of the starts that were seen; `None` when too few were.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        if self.millis.len() < Self::NEEDED {
            return None;
        }
        let mut sorted: Vec<u64> = self.millis.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (q.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).map(|&millis| Duration::from_millis(millis))
    }

    /// How long to expect a start to take: its p90 once learned, the prior before.
    pub fn expected(&self, spec: &ColdStartSpec) -> Duration {
        self.quantile(0.9).unwrap_or(spec.expected)
    }
}
