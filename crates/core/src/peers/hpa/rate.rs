//! The speed limits of a behavior, and the events that they count.

use super::{
    defaults::Rules,
    normalize::{DOWN_RATE, Limit, TOO_FEW, TOO_MANY, UP_RATE, Wish, before},
    spec::{Behavior, ScalingPolicy, ScalingPolicyType, SelectPolicy},
    state::{HpaState, ScaleEvent},
};
use crate::{Timestamp, peers::go_arith};

/// The bounded count, the limit that cut it, and how far the policies allow to go when they cut it.
pub(super) fn limit(wish: Wish, behavior: &Behavior, state: &HpaState) -> (i32, Option<Limit>, Option<i32>) {
    if wish.desired > wish.current {
        let rules = Rules::scale_up(behavior);
        // Below the current count the policies are exhausted: no growth until events expire.
        let allowed = allowance(&rules, wish, state, up_from).max(wish.current);
        let (highest, limit) = if wish.max > allowed { (allowed, UP_RATE) } else { (wish.max, TOO_MANY) };
        let rate_limit = (wish.desired > allowed).then_some(allowed);
        if wish.desired > highest {
            return (highest, Some(limit), rate_limit);
        }
    } else if wish.desired < wish.current {
        let rules = Rules::scale_down(behavior);
        let allowed = allowance(&rules, wish, state, down_from).min(wish.current);
        let (lowest, limit) = if wish.min < allowed { (allowed, DOWN_RATE) } else { (wish.min, TOO_FEW) };
        let rate_limit = (wish.desired < allowed).then_some(allowed);
        if wish.desired < lowest {
            return (lowest, Some(limit), rate_limit);
        }
    }
    (wish.desired, None, None)
}

/// How far the policies together allow to go from the counts at the starts of their periods.
fn allowance(
    rules: &Rules<'_>,
    wish: Wish,
    state: &HpaState,
    from: impl Fn(i32, &ScalingPolicy) -> i32,
) -> i32 {
    let growing = wish.desired > wish.current;
    let limits = rules.policies.iter().map(|policy| {
        let added = changes(&state.scale_ups, policy.period_seconds, wish.now);
        let removed = changes(&state.scale_downs, policy.period_seconds, wish.now);
        from(wish.current.wrapping_sub(added).wrapping_add(removed), policy)
    });
    // The largest change is the highest count when growing and the lowest when shrinking.
    let highest = match rules.select {
        SelectPolicy::Disabled => return wish.current,
        SelectPolicy::Max => growing,
        SelectPolicy::Min => !growing,
    };
    if highest { limits.fold(i32::MIN, i32::max) } else { limits.fold(i32::MAX, i32::min) }
}

fn up_from(start: i32, policy: &ScalingPolicy) -> i32 {
    match policy.r#type {
        ScalingPolicyType::Pods => start.wrapping_add(policy.value),
        // Rounded up, so that a small percentage of a small count still grows. Floating point makes
        // 50 pods + 10 % fifty-six.
        ScalingPolicyType::Percent => {
            go_arith::to_i32((f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil())
        }
    }
}

fn down_from(start: i32, policy: &ScalingPolicy) -> i32 {
    match policy.r#type {
        ScalingPolicyType::Pods => start.wrapping_sub(policy.value),
        ScalingPolicyType::Percent => {
            go_arith::to_i32(f64::from(start) * (1.0 - f64::from(policy.value) / 100.0))
        }
    }
}

/// The replicas changed within the period, its edge excluded.
fn changes(events: &[ScaleEvent], period_seconds: i32, now: Timestamp) -> i32 {
    let cutoff = before(now, period_seconds);
    events.iter().filter(|event| event.at > cutoff).fold(0_i32, |sum, event| sum.wrapping_add(event.change))
}

/// Remembers a change that was made. Without a behavior nothing counts events, and none is kept.
pub(super) fn record(behavior: Option<&Behavior>, state: &mut HpaState, from: i32, to: i32, now: Timestamp) {
    let Some(behavior) = behavior else { return };
    let (events, rules, change) = if to > from {
        (&mut state.scale_ups, Rules::scale_up(behavior), to.wrapping_sub(from))
    } else {
        (&mut state.scale_downs, Rules::scale_down(behavior), from.wrapping_sub(to))
    };
    let longest = rules.policies.iter().map(|policy| policy.period_seconds).fold(0, i32::max);
    let cutoff = before(now, longest);
    for event in events.iter_mut() {
        // Once outdated, always outdated, even if a later specification looks back further.
        event.outdated |= event.at < cutoff;
    }
    let event = ScaleEvent { change, at: now, outdated: false };
    match events.iter_mut().rfind(|event| event.outdated) {
        Some(old) => *old = event,
        None => events.push(event),
    }
}
