//! Windows and rates next to a cold start of minutes.

use crate::{
    lint::{
        finding::{Fix, Sink},
        world::{Manifest, World},
    },
    quantity::write_duration,
};

fn with_behavior<'w, 'a>(world: &'w World<'a>) -> impl Iterator<Item = &'w Manifest<'a>> {
    world.manifests.iter().filter(|manifest| manifest.behavior().is_some())
}

/// FW021.
pub(in crate::lint) fn rate_next_to_cold_start(world: &World<'_>, sink: &mut Sink) {
    for manifest in with_behavior(world) {
        let cold_start = world.cold_start(manifest);
        let Some(up) = manifest.behavior().and_then(|behavior| behavior.get("scaleUp")) else { continue };
        for policy in up.list(&["policies"]) {
            let (Some(period), Some(value)) = (policy.number(&["periodSeconds"]), policy.number(&["value"]))
            else {
                continue;
            };
            if policy.text(&["type"]) != Some("Pods") || period <= 0.0 || period >= cold_start.as_secs_f64() {
                continue;
            }
            let steps = (cold_start.as_secs_f64() / period).floor();
            let message = format!(
                "+{value} pods each {period} s next to a cold start of {}: a burst gets {value} at a time, and \
                 up to {} are started before the first of them serves",
                write_duration(cold_start),
                steps * value
            );
            let fix =
                Fix::words("start what the backlog needs at once, and count replicas that are starting");
            sink.at(manifest, &policy, message, fix);
        }
    }
}

/// FW022.
pub(in crate::lint) fn slow_to_start(world: &World<'_>, sink: &mut Sink) {
    for manifest in with_behavior(world) {
        let window = manifest.behavior().and_then(|b| b.at(&["scaleUp", "stabilizationWindowSeconds"]));
        let Some(window) = window else { continue };
        let Some(seconds) = window.node.number().filter(|seconds| *seconds > 0.0) else { continue };
        let message = format!(
            "{seconds} s are lost before a cold start of {} even begins",
            write_duration(world.cold_start(manifest))
        );
        sink.at(manifest, &window, message, Fix::words("0 for scaleUp: smooth the metric instead"));
    }
}

/// FW023.
pub(in crate::lint) fn quick_to_stop(world: &World<'_>, sink: &mut Sink) {
    for manifest in with_behavior(world) {
        let window = manifest.behavior().and_then(|b| b.at(&["scaleDown", "stabilizationWindowSeconds"]));
        let Some(window) = window else { continue };
        let cold_start = world.cold_start(manifest);
        if let Some(seconds) = window.node.number()
            && seconds < cold_start.as_secs_f64()
        {
            let message = format!(
                "a replica is given up after {seconds} s without need, and takes {} to come back",
                write_duration(cold_start)
            );
            let fix = Fix::words(format!("at least {}", cold_start.as_secs()));
            sink.at(manifest, &window, message, fix);
        }
    }
}

/// FW027.
pub(in crate::lint) fn disabled_direction(world: &World<'_>, sink: &mut Sink) {
    for manifest in with_behavior(world) {
        for (direction, word) in [("scaleUp", "up"), ("scaleDown", "down")] {
            let policy = manifest.behavior().and_then(|b| b.at(&[direction, "selectPolicy"]));
            let Some(policy) = policy.filter(|policy| policy.node.text() == Some("Disabled")) else {
                continue;
            };
            let message = format!("it never scales {word}");
            sink.at(manifest, &policy, message, Fix::words("`Max` or `Min`, unless somebody else does it"));
        }
    }
}
