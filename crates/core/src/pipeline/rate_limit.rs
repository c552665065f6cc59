//! Step 5: speed limits, with the meaning of `behavior.*.policies` in `autoscaling/v2` (KEP-853).

use std::time::Duration;

use crate::{
    RateLimit, RateUnit, Reason, Replicas, ScalerSpec, ScalerState, ScalingRules, SelectPolicy, Stage,
    Timestamp, pipeline::Draft, state::Change,
};

/// Cuts a change to what the limits allow.
pub(super) fn rate_limit(draft: &mut Draft<'_>, state: &ScalerState) {
    let (rules, up) = if draft.replicas > draft.standing {
        (&draft.spec.behavior.scale_up, true)
    } else if draft.replicas < draft.standing {
        (&draft.spec.behavior.scale_down, false)
    } else {
        return;
    };
    let Some((limit, text)) = limit(rules, state, draft.now, draft.standing, up) else { return };
    let cut = if up { draft.replicas.min(limit) } else { draft.replicas.max(limit) };
    if cut == draft.replicas {
        return;
    }
    let longest = rules.policies.iter().map(|policy| policy.period).max().unwrap_or_default();
    if let Some(oldest) = state.changes.iter().find(|change| change.at > draft.now - longest) {
        draft.wake(oldest.at + longest);
    }
    let reason = Reason::RateLimited { wish: Replicas(draft.replicas), limit: text };
    draft.set(Stage::RateLimit, cut, reason);
}

/// The number that the selected limit allows at most (up) or at least (down); `None`: no limit.
fn limit(
    rules: &ScalingRules,
    state: &ScalerState,
    now: Timestamp,
    current: u32,
    up: bool,
) -> Option<(u32, String)> {
    if rules.select_policy == SelectPolicy::Disabled {
        return Some((current, "no change in this direction (selectPolicy: Disabled)".to_owned()));
    }
    let allowed = rules.policies.iter().map(|policy| (allowed(policy, state, now, current, up), policy));
    // `Max` allows the largest change: the highest number upwards, the lowest downwards.
    let widest = (rules.select_policy == SelectPolicy::Max) == up;
    let chosen = if widest {
        allowed.max_by_key(|&(number, _)| number)
    } else {
        allowed.min_by_key(|&(number, _)| number)
    };
    chosen.map(|(number, policy)| (number, describe(policy, up)))
}

/// What one limit allows: counted from the number at the start of its period.
fn allowed(policy: &RateLimit, state: &ScalerState, now: Timestamp, current: u32, up: bool) -> u32 {
    let since = now - policy.period;
    let changed: i64 = state.changes.iter().filter(|change| change.at > since).map(|change| change.by).sum();
    let start = (i64::from(current) - changed).max(0);
    let value = i64::from(policy.value);
    let number = match (policy.unit, up) {
        (RateUnit::Pods, true) => start + value,
        (RateUnit::Pods, false) => start - value,
        // Up rounds up and down rounds down, so that a small percentage still moves something.
        (RateUnit::Percent, true) => start + (start * value + 99) / 100,
        (RateUnit::Percent, false) => start * (100 - value).max(0) / 100,
    };
    // A limit never turns a change round.
    let number = if up { number.max(i64::from(current)) } else { number.min(i64::from(current)) };
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

fn describe(policy: &RateLimit, up: bool) -> String {
    let sign = if up { '+' } else { '−' };
    let unit = match policy.unit {
        RateUnit::Pods if policy.value == 1 => " replica",
        RateUnit::Pods => " replicas",
        RateUnit::Percent => " %",
    };
    format!("{sign}{}{unit} in {} s", policy.value, policy.period.as_secs())
}

/// Remembers a change for as long as a limit, or the fuse of changes a minute, looks back.
pub(super) fn remember(
    spec: &ScalerSpec,
    state: &mut ScalerState,
    now: Timestamp,
    from: Replicas,
    to: Replicas,
) {
    let rules = [&spec.behavior.scale_up, &spec.behavior.scale_down];
    let longest = rules
        .into_iter()
        .flat_map(|rules| rules.policies.iter().map(|policy| policy.period))
        .max()
        .unwrap_or_default()
        .max(FUSE_PERIOD);
    while state.changes.front().is_some_and(|change| change.at <= now - longest) {
        state.changes.pop_front();
    }
    if from != to {
        state.changes.push_back(Change { at: now, by: i64::from(to.0) - i64::from(from.0) });
    }
}

/// The period of [`ScalerSpec::max_changes_per_minute`].
pub(super) const FUSE_PERIOD: Duration = Duration::from_secs(60);
