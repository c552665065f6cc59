//! Bounds, and the reconciler's rule for the last pod (`pkg/reconciler/autoscaling/kpa/scaler.go`).

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A revision that cannot start gets this much longer than its progress deadline, so that the reason is
/// found first (`activationTimeoutBuffer`).
const ACTIVATION_BUFFER: Duration = Duration::from_secs(30);

/// What the rule goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroRule {
    /// Whether the last pod may go at all.
    pub enabled: bool,
    /// How long a revision must have been active before it may become inactive.
    pub stable_window: Duration,
    /// How long the activator must have been in the path.
    pub grace_period: Duration,
    /// The least time that the last pod stays once inactive.
    pub last_pod_retention: Duration,
    /// How long a revision may take to start (`progressDeadline`, 600 s by default).
    pub progress_deadline: Duration,
}

/// The revision's `Active` condition, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Activity {
    /// It is starting.
    Activating(Timestamp),
    /// It serves.
    Active(Timestamp),
    /// It is meant to go.
    Inactive(Timestamp),
}

/// What is known when zero is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroObservation {
    /// When.
    pub now: Timestamp,
    /// The `Active` condition.
    pub activity: Activity,
    /// Whether requests were proven to reach the activator; always so with an unlimited burst capacity.
    pub activator_in_path: bool,
    /// Since when the activator proxies.
    pub proxying_since: Option<Timestamp>,
}

/// What becomes of a wish for zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ZeroVerdict {
    /// This count is written.
    Scale(i32),
    /// Nothing is written; the revision becomes inactive, and the activator takes over.
    Deactivate,
    /// Nothing is written yet; look again after this time.
    Wait(#[serde(with = "crate::time::seconds")] Duration),
    /// Nothing is written before the activator answers.
    WaitForActivator,
}

impl fmt::Display for ZeroVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scale(0) => f.write_str("the last pod goes"),
            Self::Scale(_) => f.write_str("the last pod stays: it may not go, or not yet"),
            Self::Deactivate => f.write_str("the last pod stays until the activator has taken over"),
            Self::Wait(rest) => write!(f, "the last pod stays for another {} s", rest.as_secs_f64()),
            Self::WaitForActivator => f.write_str("the last pod stays until the activator answers"),
        }
    }
}

/// Decides on a wish for zero.
pub fn to_zero(rule: &ZeroRule, seen: &ZeroObservation) -> ZeroVerdict {
    if !rule.enabled {
        return ZeroVerdict::Scale(1);
    }
    match seen.activity {
        Activity::Activating(since) => {
            let timeout = rule.progress_deadline + ACTIVATION_BUFFER;
            // Stuck for longer than it may take: given up.
            if seen.now.since(since) > timeout { ZeroVerdict::Scale(0) } else { ZeroVerdict::Wait(timeout) }
        }
        Activity::Active(since) if seen.now.since(since) >= rule.stable_window => ZeroVerdict::Deactivate,
        Activity::Active(_) => ZeroVerdict::Scale(1),
        Activity::Inactive(_) if !seen.activator_in_path => ZeroVerdict::WaitForActivator,
        Activity::Inactive(since) => {
            let inactive = seen.now.since(since);
            if inactive >= rule.grace_period.max(rule.last_pod_retention) {
                return ZeroVerdict::Scale(0);
            }
            if inactive < rule.last_pod_retention {
                return ZeroVerdict::Wait(rule.last_pod_retention - inactive);
            }
            // Proxying for the grace period already: no need to be inactive for as long.
            let proxied = seen.proxying_since.map_or(Duration::ZERO, |since| seen.now.since(since));
            match rule.grace_period.checked_sub(proxied) {
                Some(rest) if !rest.is_zero() => ZeroVerdict::Wait(rest),
                _ => ZeroVerdict::Scale(0),
            }
        }
    }
}

/// Applies a revision's bounds; a maximum of 0 is none. Until a reachable revision has once reached its
/// initial scale, it is kept at that (`applyBounds` and `scale`).
pub fn bounded(desired: i32, min: i32, max: i32, initial: Option<i32>) -> i32 {
    let min = initial.filter(|initial| *initial > 1).map_or(min, |initial| initial.max(min));
    if desired < min {
        min
    } else if max != 0 && desired > max {
        max
    } else {
        desired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: ZeroRule = ZeroRule {
        enabled: true,
        stable_window: Duration::from_secs(60),
        grace_period: Duration::from_secs(30),
        last_pod_retention: Duration::ZERO,
        progress_deadline: Duration::from_secs(600),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn seen(activity: Activity) -> ZeroObservation {
        ZeroObservation { now: at(100), activity, activator_in_path: true, proxying_since: None }
    }

    #[test]
    fn the_last_pod_goes_only_when_every_guard_agrees() {
        let disabled = ZeroRule { enabled: false, ..RULE };
        let retained = ZeroRule { last_pod_retention: Duration::from_secs(90), ..RULE };
        let inactive = seen(Activity::Inactive(at(50)));
        let fresh = seen(Activity::Inactive(at(95)));
        let cases = [
            ("disabled", disabled, inactive, ZeroVerdict::Scale(1)),
            ("active too shortly", RULE, seen(Activity::Active(at(41))), ZeroVerdict::Scale(1)),
            ("active long enough", RULE, seen(Activity::Active(at(40))), ZeroVerdict::Deactivate),
            ("inactive long enough", RULE, inactive, ZeroVerdict::Scale(0)),
            ("not long enough", RULE, fresh, ZeroVerdict::Wait(Duration::from_secs(30))),
            (
                "fast path: already proxied",
                RULE,
                ZeroObservation { proxying_since: Some(at(70)), ..fresh },
                ZeroVerdict::Scale(0),
            ),
            (
                "requests may still miss the activator",
                RULE,
                ZeroObservation { activator_in_path: false, ..inactive },
                ZeroVerdict::WaitForActivator,
            ),
            ("retention", retained, inactive, ZeroVerdict::Wait(Duration::from_secs(40))),
            (
                "starting",
                RULE,
                seen(Activity::Activating(at(50))),
                ZeroVerdict::Wait(Duration::from_secs(630)),
            ),
            ("starting for too long", RULE, seen(Activity::Activating(at(-531))), ZeroVerdict::Scale(0)),
        ];
        for (name, rule, seen, verdict) in cases {
            assert_eq!(to_zero(&rule, &seen), verdict, "{name}");
        }
    }

    #[test]
    fn bounds_respect_the_initial_scale_until_it_is_reached() {
        assert_eq!(bounded(0, 0, 0, None), 0);
        assert_eq!(bounded(9, 0, 5, None), 5);
        assert_eq!(bounded(1, 2, 5, None), 2);
        assert_eq!(bounded(1, 0, 0, Some(3)), 3);
        assert_eq!(bounded(1, 0, 0, Some(1)), 1);
    }
}
