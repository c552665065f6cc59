//! From what the metrics ask for to what may be asked of the target: stabilisation, speed limits, bounds
//! (`normalizeDesiredReplicas*` of `horizontal.go`).

use std::time::Duration;

use super::{
    conditions::ConditionType,
    defaults::Rules,
    observation::ControllerConfig,
    rate,
    reason::HpaReason,
    spec::Behavior,
    state::{HpaState, Recommendation},
};
use crate::{Timestamp, peers::go_arith};

/// Without a behavior the count may at most double in one step, or reach four.
const SCALE_UP_FACTOR: f64 = 2.0;
const SCALE_UP_MINIMUM: f64 = 4.0;

/// Which limit cut the wish, in the words of the `ScalingLimited` condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
}

pub(super) const TOO_MANY: Limit = Limit {
    reason: "TooManyReplicas",
    message: "the desired replica count is more than the maximum replica count",
};
pub(super) const TOO_FEW: Limit = Limit {
    reason: "TooFewReplicas",
    message: "the desired replica count is less than the minimum replica count",
};
pub(super) const UP_RATE: Limit = Limit {
    reason: "ScaleUpLimit",
    message: "the desired replica count is increasing faster than the maximum scale rate",
};
pub(super) const DOWN_RATE: Limit = Limit {
    reason: "ScaleDownLimit",
    message: "the desired replica count is decreasing faster than the maximum scale rate",
};
const WITHIN: Limit =
    Limit { reason: "DesiredWithinRange", message: "the desired count is within the acceptable range" };

/// The numbers that normalising starts from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) now: Timestamp,
    pub(super) current: i32,
    pub(super) desired: i32,
    pub(super) min: i32,
    pub(super) max: i32,
}

/// Stabilises and limits a wish, sets the conditions, and says what it did.
pub(super) fn normalize(
    wish: Wish,
    behavior: Option<&Behavior>,
    config: &ControllerConfig,
    state: &mut HpaState,
    steps: &mut Vec<HpaReason>,
) -> i32 {
    let stabilised = match behavior {
        None => stabilise_by_flag(wish, config, state),
        Some(behavior) => stabilise(wish, behavior, config, state),
    };
    let conditions = &mut state.status.conditions;
    if stabilised.replicas == wish.desired {
        let message = "recommended size matches current size";
        conditions.set(ConditionType::AbleToScale, true, "ReadyForNewScale", message);
    } else {
        conditions.set(ConditionType::AbleToScale, true, stabilised.reason, stabilised.message);
    }
    steps.push(HpaReason::Stabilised {
        wish: wish.desired,
        result: stabilised.replicas,
        lowest_recent: stabilised.lowest_recent,
        highest_recent: stabilised.highest_recent,
    });

    let limited = Wish { desired: stabilised.replicas, ..wish };
    let (replicas, limit, rate_limit) = match behavior {
        None => limit_by_factor(limited),
        Some(behavior) => rate::limit(limited, behavior, state),
    };
    let limit = limit.unwrap_or(WITHIN);
    let cut = replicas != stabilised.replicas;
    state.status.conditions.set(ConditionType::ScalingLimited, cut, limit.reason, limit.message);
    if let Some(allowed) = rate_limit {
        let result = if wish.current < stabilised.replicas {
            stabilised.replicas.min(allowed)
        } else {
            stabilised.replicas.max(allowed)
        };
        steps.push(HpaReason::RateLimited { wish: stabilised.replicas, allowed, result });
    }
    steps.push(HpaReason::Bounded {
        wish: stabilised.replicas,
        min: wish.min,
        max: wish.max,
        result: replicas,
    });
    replicas
}

struct Stabilised {
    replicas: i32,
    lowest_recent: i32,
    highest_recent: i32,
    reason: &'static str,
    message: &'static str,
}

/// Without a behavior: the highest recommendation within the flag's window, its edge included; it may be
/// above the current count.
fn stabilise_by_flag(wish: Wish, config: &ControllerConfig, state: &mut HpaState) -> Stabilised {
    let cutoff = wish.now - config.downscale_stabilization;
    let recommendations = state.recommendations.get_or_insert_default();
    let recent = recommendations.iter().filter(|past| past.at >= cutoff).map(|past| past.replicas);
    let highest = recent.max().unwrap_or(wish.desired).max(wish.desired);
    let slot = recommendations.iter().rposition(|past| past.at < cutoff);
    record(recommendations, slot, wish);
    Stabilised {
        replicas: highest,
        lowest_recent: wish.desired,
        highest_recent: highest,
        reason: "ScaleDownStabilized",
        message: "recent recommendations were higher than current one, applying the highest recent recommendation",
    }
}

/// With a behavior: the current count, clamped between the lowest recommendation of the window for
/// growing and the highest of the window for shrinking, their edges excluded.
fn stabilise(wish: Wish, behavior: &Behavior, config: &ControllerConfig, state: &mut HpaState) -> Stabilised {
    let up_window = Rules::scale_up(behavior).window_seconds.unwrap_or(0);
    // The controller keeps its flag in whole seconds here.
    let down_window = Rules::scale_down(behavior)
        .window_seconds
        .unwrap_or_else(|| go_arith::to_i32(config.downscale_stabilization.as_secs_f64()));
    let (up_cutoff, down_cutoff) = (before(wish.now, up_window), before(wish.now, down_window));
    let recommendations = state.recommendations.get_or_insert_default();
    let (mut lowest, mut highest) = (wish.desired, wish.desired);
    let mut slot = None;
    for (index, past) in recommendations.iter().enumerate() {
        if past.at > up_cutoff {
            lowest = lowest.min(past.replicas);
        }
        if past.at > down_cutoff {
            highest = highest.max(past.replicas);
        }
        if past.at < up_cutoff && past.at < down_cutoff {
            slot = Some(index);
        }
    }
    record(recommendations, slot, wish);
    // Not `clamp`: the bounds may cross when windows differ, and then the upper one wins.
    let replicas = wish.current.max(lowest).min(highest);
    let (reason, message) = if wish.desired >= wish.current {
        (
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent recommendation",
        )
    } else {
        (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        )
    };
    Stabilised { replicas, lowest_recent: lowest, highest_recent: highest, reason, message }
}

/// The unstabilised wish is what gets remembered, in the place of one that is too old.
fn record(recommendations: &mut Vec<Recommendation>, slot: Option<usize>, wish: Wish) {
    let recommendation = Recommendation { replicas: wish.desired, at: wish.now };
    match slot.and_then(|index| recommendations.get_mut(index)) {
        Some(old) => *old = recommendation,
        None => recommendations.push(recommendation),
    }
}

/// `seconds` before `now`; a negative span lies in the future.
pub(super) fn before(now: Timestamp, seconds: i32) -> Timestamp {
    let span = Duration::from_secs(u64::from(seconds.unsigned_abs()));
    if seconds < 0 { now + span } else { now - span }
}

/// Without a behavior: bounds, and at most a doubling or four.
fn limit_by_factor(wish: Wish) -> (i32, Option<Limit>, Option<i32>) {
    let up_limit = go_arith::to_i32(f64::max(SCALE_UP_FACTOR * f64::from(wish.current), SCALE_UP_MINIMUM));
    let (highest, limit) = if wish.max > up_limit { (up_limit, UP_RATE) } else { (wish.max, TOO_MANY) };
    let rate_limit = (wish.desired > up_limit).then_some(up_limit);
    if wish.desired < wish.min {
        (wish.min, Some(TOO_FEW), rate_limit)
    } else if wish.desired > highest {
        (highest, Some(limit), rate_limit)
    } else {
        (wish.desired, None, rate_limit)
    }
}
