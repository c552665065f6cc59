//! SkyServe's request-rate autoscaler, as of SkyPilot 0.14 (`RequestRateAutoscaler` of
//! `sky/serve/autoscalers.py`).
//!
//! Decides every [`DECISION_INTERVAL`] ([`NO_REPLICA_DECISION_INTERVAL`] while the target is zero); delays
//! are counted in decisions, so one that is late or early stretches or shrinks them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::go_arith;

/// The span over which requests are counted (`AUTOSCALER_QPS_WINDOW_SIZE_SECONDS`).
pub const RATE_WINDOW: Duration = Duration::from_secs(60);
/// Between decisions (`AUTOSCALER_DEFAULT_DECISION_INTERVAL_SECONDS`).
pub const DECISION_INTERVAL: Duration = Duration::from_secs(20);
/// Between decisions while the target is zero (`AUTOSCALER_NO_REPLICA_DECISION_INTERVAL_SECONDS`).
pub const NO_REPLICA_DECISION_INTERVAL: Duration = Duration::from_secs(5);

/// A service's `replica_policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SkyServeSpec {
    /// Kept at all times.
    pub min_replicas: i32,
    /// Never exceeded.
    pub max_replicas: i32,
    /// Requests per second that one replica should have; absent, the minimum is kept.
    pub target_qps_per_replica: Option<f64>,
    /// How long an increase must be wished (300 s by default).
    #[serde(rename = "upscale_delay_seconds", with = "crate::time::seconds")]
    pub upscale_delay: Duration,
    /// How long a decrease must be wished (1200 s by default).
    #[serde(rename = "downscale_delay_seconds", with = "crate::time::seconds")]
    pub downscale_delay: Duration,
}

impl Default for SkyServeSpec {
    /// The defaults of SkyPilot 0.14.
    fn default() -> Self {
        Self {
            min_replicas: 1,
            max_replicas: 1,
            target_qps_per_replica: None,
            upscale_delay: Duration::from_secs(300),
            downscale_delay: Duration::from_secs(1200),
        }
    }
}

/// What the autoscaler remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkyServeState {
    /// Replicas asked for.
    target: i32,
    /// Decisions in a row that wished for more.
    wishes_up: u32,
    /// Decisions in a row that wished for fewer.
    wishes_down: u32,
}

impl SkyServeState {
    /// A new service starts at its minimum.
    pub fn new(spec: &SkyServeSpec) -> Self {
        Self { target: spec.min_replicas, wishes_up: 0, wishes_down: 0 }
    }
}

/// Why the autoscaler decided so.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SkyServeReason {
    /// Requests per second over the window.
    pub requests_per_second: f64,
    /// The replicas for them, within the bounds.
    pub wish: i32,
    /// Decisions in a row that wished the same way, and how many it takes.
    pub wished: (u32, u32),
}

impl fmt::Display for SkyServeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wished, of) = self.wished;
        write!(f, "{:.3} requests/s → {}, wished {wished} times of {of}", self.requests_per_second, self.wish)
    }
}

/// The new target and why, from the requests that arrived within [`RATE_WINDOW`].
pub fn decide(spec: &SkyServeSpec, state: &mut SkyServeState, requests: u64) -> (i32, SkyServeReason) {
    let rate = requests as f64 / RATE_WINDOW.as_secs_f64();
    let wish = match spec.target_qps_per_replica {
        None => spec.min_replicas,
        Some(per_replica) => {
            let replicas = go_arith::to_i32((rate / per_replica).ceil().min(f64::from(i32::MAX)));
            replicas.min(spec.max_replicas).max(spec.min_replicas)
        }
    };
    let needed = |delay: Duration| (delay.as_secs() / DECISION_INTERVAL.as_secs()) as u32;
    let mut wished = (0, 0);
    if state.target == 0 {
        // From nothing at once; the counters stay as they are.
        state.target = wish;
    } else if wish > state.target {
        state.wishes_up += 1;
        state.wishes_down = 0;
        wished = (state.wishes_up, needed(spec.upscale_delay));
        if state.wishes_up >= wished.1 {
            state.wishes_up = 0;
            state.target = wish;
        }
    } else if wish < state.target {
        state.wishes_down += 1;
        state.wishes_up = 0;
        wished = (state.wishes_down, needed(spec.downscale_delay));
        if state.wishes_down >= wished.1 {
            state.wishes_down = 0;
            state.target = wish;
        }
    } else {
        // One quiet decision forgets all the others.
        state.wishes_up = 0;
        state.wishes_down = 0;
    }
    (state.target, SkyServeReason { requests_per_second: rate, wish, wished })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SkyServeSpec {
        let target_qps_per_replica = Some(1.0);
        SkyServeSpec { min_replicas: 1, max_replicas: 10, target_qps_per_replica, ..Default::default() }
    }

    #[test]
    fn fifteen_wishes_grow_and_sixty_shrink_the_fleet() {
        let mut state = SkyServeState::new(&spec());
        let targets: Vec<i32> = (0..15).map(|_| decide(&spec(), &mut state, 300).0).collect();
        assert_eq!((targets[13], targets[14]), (1, 5));
        let targets: Vec<i32> = (0..60).map(|_| decide(&spec(), &mut state, 60).0).collect();
        assert_eq!((targets[58], targets[59]), (5, 1));
    }

    #[test]
    fn one_quiet_decision_starts_the_count_again() {
        let mut state = SkyServeState::new(&spec());
        for _ in 0..14 {
            decide(&spec(), &mut state, 300);
        }
        decide(&spec(), &mut state, 60);
        assert_eq!(decide(&spec(), &mut state, 300).0, 1);
    }

    #[test]
    fn zero_is_left_at_once_and_the_maximum_kept() {
        let spec = SkyServeSpec { min_replicas: 0, ..spec() };
        assert_eq!(decide(&spec, &mut SkyServeState::new(&spec), 1_000_000).0, 10);
    }
}
