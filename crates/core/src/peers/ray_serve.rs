//! Ray Serve's default policy, as of Ray 2.56 (`ray/serve/autoscaling_policy.py`,
//! `AutoscalingConfig` in `ray/serve/config.py`).
//!
//! The load is the mean number of ongoing requests over `look_back_period_s` (30 s), pushed by replicas
//! every 10 s; the loop runs every 0.1 s. Averaging is the observer's business.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::go_arith;
use crate::Timestamp;

/// A deployment's `autoscaling_config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RayServeSpec {
    /// Kept at all times.
    pub min_replicas: i32,
    /// Never exceeded.
    pub max_replicas: i32,
    /// Ongoing requests that one replica should have.
    pub target_ongoing_requests: f64,
    /// How much of a wished increase is taken.
    pub upscaling_factor: f64,
    /// How much of a wished decrease is taken.
    pub downscaling_factor: f64,
    /// How long an increase must be wished.
    #[serde(rename = "upscale_delay_s", with = "crate::time::seconds")]
    pub upscale_delay: Duration,
    /// How long a decrease must be wished.
    #[serde(rename = "downscale_delay_s", with = "crate::time::seconds")]
    pub downscale_delay: Duration,
    /// How long zero must be wished, in seconds; as any decrease when absent.
    #[serde(rename = "downscale_to_zero_delay_s")]
    pub downscale_to_zero_delay_seconds: Option<f64>,
}

impl Default for RayServeSpec {
    /// The defaults of Ray 2.56.
    fn default() -> Self {
        Self {
            min_replicas: 1,
            max_replicas: 1,
            target_ongoing_requests: 2.0,
            upscaling_factor: 1.0,
            downscaling_factor: 1.0,
            upscale_delay: Duration::from_secs(30),
            downscale_delay: Duration::from_secs(600),
            downscale_to_zero_delay_seconds: None,
        }
    }
}

/// What the policy remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RayServeState {
    /// Which way the last wishes went, and since when.
    wish: Option<(Direction, Timestamp)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Direction {
    Up,
    Down,
}

/// What is seen at one decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RayServeObservation {
    /// When.
    pub now: Timestamp,
    /// Running replicas.
    pub running: i32,
    /// Replicas asked for.
    pub target: i32,
    /// Ongoing requests of the whole deployment, averaged.
    pub ongoing_requests: f64,
}

/// Why the policy decided so.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RayServeReason {
    /// Nothing runs and requests came: at once.
    ColdStart,
    /// Nothing runs, and what is asked for is on its way.
    Starting,
    /// Requests over the target.
    Load {
        /// Ongoing requests.
        ongoing_requests: f64,
        /// Per replica.
        target: f64,
        /// The replicas for them.
        wish: i32,
    },
    /// The wish is not old enough.
    Delayed {
        /// How long it must last, in seconds.
        delay_seconds: f64,
    },
}

impl fmt::Display for RayServeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ColdStart => f.write_str("nothing runs and requests came: started at once"),
            Self::Starting => f.write_str("nothing runs, and what is asked for is on its way"),
            Self::Load { ongoing_requests, target, wish } => {
                write!(f, "{ongoing_requests:.2} ongoing requests / target {target} → {wish}")
            }
            Self::Delayed { delay_seconds } => write!(f, "the wish must last {delay_seconds} s"),
        }
    }
}

/// The new target, within the bounds, and why.
pub fn decide(
    spec: &RayServeSpec,
    state: &mut RayServeState,
    seen: &RayServeObservation,
) -> (i32, Vec<RayServeReason>) {
    let bounded = |replicas: i32| replicas.min(spec.max_replicas).max(spec.min_replicas);
    let mut steps = Vec::new();
    if seen.running == 0 {
        // No delay and no state: either requests wake it, or what is asked for is on its way.
        if seen.ongoing_requests > 0.0 {
            steps.push(RayServeReason::ColdStart);
            return (bounded(go_arith::to_i32(spec.upscaling_factor.ceil()).max(seen.target)), steps);
        }
        if seen.target > 0 {
            steps.push(RayServeReason::Starting);
            return (bounded(seen.target), steps);
        }
    }
    let wish = if seen.running == 0 { 0 } else { scaled_wish(spec, seen) };
    steps.push(RayServeReason::Load {
        ongoing_requests: seen.ongoing_requests,
        target: spec.target_ongoing_requests,
        wish,
    });
    let (direction, delay, wish) = match wish.cmp(&seen.target) {
        std::cmp::Ordering::Equal => {
            state.wish = None;
            return (bounded(seen.target), steps);
        }
        std::cmp::Ordering::Greater => (Direction::Up, spec.upscale_delay, wish),
        // Only the last replica may go to zero.
        std::cmp::Ordering::Less if seen.target == 1 => {
            let own = spec.downscale_to_zero_delay_seconds.map(Duration::try_from_secs_f64);
            (Direction::Down, own.and_then(Result::ok).unwrap_or(spec.downscale_delay), wish)
        }
        std::cmp::Ordering::Less => (Direction::Down, spec.downscale_delay, wish.max(1)),
    };
    let since = match state.wish {
        Some((last, since)) if last == direction => since,
        _ => seen.now,
    };
    if seen.now.since(since) >= delay {
        state.wish = None;
        return (bounded(wish), steps);
    }
    state.wish = Some((direction, since));
    steps.push(RayServeReason::Delayed { delay_seconds: delay.as_secs_f64() });
    (bounded(seen.target), steps)
}

/// The replicas for the load; factors apply to the change (`_apply_scaling_factors`).
fn scaled_wish(spec: &RayServeSpec, seen: &RayServeObservation) -> i32 {
    let running = f64::from(seen.running);
    let desired = running * (seen.ongoing_requests / (spec.target_ongoing_requests * running));
    let change = desired - running;
    let factor = if change > 0.0 { spec.upscaling_factor } else { spec.downscaling_factor };
    let mut scaled = go_arith::to_i32((running + factor * change).ceil());
    if desired.ceil() < running && scaled == seen.running {
        // A small factor would otherwise never shrink the fleet.
        scaled -= 1;
    }
    scaled.max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> RayServeSpec {
        RayServeSpec { min_replicas: 0, max_replicas: 20, target_ongoing_requests: 7.0, ..Default::default() }
    }

    fn seen(seconds: i64, replicas: i32, ongoing_requests: f64) -> RayServeObservation {
        let now = Timestamp::from_millis(seconds * 1000);
        RayServeObservation { now, running: replicas, target: replicas, ongoing_requests }
    }

    #[test]
    fn an_increase_must_last_thirty_seconds_and_a_decrease_ten_minutes() {
        let mut state = RayServeState::default();
        assert_eq!(decide(&spec(), &mut state, &seen(0, 1, 60.0)).0, 1);
        assert_eq!(decide(&spec(), &mut state, &seen(29, 1, 60.0)).0, 1);
        assert_eq!(decide(&spec(), &mut state, &seen(30, 1, 60.0)).0, 9);
        assert_eq!(decide(&spec(), &mut state, &seen(40, 9, 5.0)).0, 9);
        assert_eq!(decide(&spec(), &mut state, &seen(639, 9, 5.0)).0, 9);
        assert_eq!(decide(&spec(), &mut state, &seen(640, 9, 5.0)).0, 1);
    }

    #[test]
    fn the_opposite_or_no_wish_resets_the_clock() {
        let mut state = RayServeState::default();
        decide(&spec(), &mut state, &seen(0, 1, 60.0));
        decide(&spec(), &mut state, &seen(20, 1, 5.0));
        assert_eq!(decide(&spec(), &mut state, &seen(31, 1, 60.0)).0, 1);
        assert_eq!(decide(&spec(), &mut state, &seen(61, 1, 60.0)).0, 9);
    }

    #[test]
    fn zero_is_left_at_once_and_reached_only_from_one() {
        let mut state = RayServeState::default();
        assert_eq!(decide(&spec(), &mut state, &seen(0, 0, 1.0)).0, 1);
        decide(&spec(), &mut state, &seen(0, 5, 0.0));
        assert_eq!(decide(&spec(), &mut state, &seen(600, 5, 0.0)).0, 1);
        decide(&spec(), &mut state, &seen(601, 1, 0.0));
        assert_eq!(decide(&spec(), &mut state, &seen(1201, 1, 0.0)).0, 0);
    }

    #[test]
    fn a_small_factor_still_shrinks_by_one() {
        let spec = RayServeSpec { downscaling_factor: 0.01, downscale_delay: Duration::ZERO, ..spec() };
        assert_eq!(decide(&spec, &mut RayServeState::default(), &seen(0, 5, 7.0)).0, 4);
    }
}
