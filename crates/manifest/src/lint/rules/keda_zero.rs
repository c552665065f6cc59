//! KEDA and zero replicas.

use crate::{
    lint::{
        finding::{Fix, Sink},
        world::{Kind, Loc, Manifest, World, triggers},
    },
    quantity::write_duration,
};

/// KEDA's `cooldownPeriod` when none is given, in seconds.
const DEFAULT_COOLDOWN_SECONDS: f64 = 300.0;

fn to_zero<'w, 'a>(world: &'w World<'a>) -> impl Iterator<Item = (&'w Manifest<'a>, Loc<'a>)> {
    world.of_kind(Kind::ScaledObject).filter_map(|manifest| {
        let spec = manifest.spec()?;
        let min = spec.get("minReplicaCount").and_then(|min| min.node.integer()).unwrap_or(0);
        (min == 0).then_some((manifest, spec))
    })
}

/// FW036.
pub(in crate::lint) fn zero_by_default(world: &World<'_>, sink: &mut Sink) {
    for (manifest, spec) in to_zero(world) {
        if spec.get("minReplicaCount").is_none() {
            let message = "no `minReplicaCount`: KEDA's default is 0, so this goes to zero when idle";
            sink.at(manifest, &spec, message.into(), Fix::words("minReplicaCount: 1, or 0 if that is meant"));
        }
    }
}

/// FW038.
pub(in crate::lint) fn straight_to_zero(world: &World<'_>, sink: &mut Sink) {
    for (manifest, spec) in to_zero(world) {
        let cooldown = spec.number(&["cooldownPeriod"]).unwrap_or(DEFAULT_COOLDOWN_SECONDS);
        let cold_start = world.cold_start(manifest);
        let at = spec
            .get("cooldownPeriod")
            .or_else(|| spec.get("minReplicaCount"))
            .unwrap_or_else(|| spec.clone());
        if cooldown < cold_start.as_secs_f64() * 2.0 {
            let message = format!(
                "{cooldown} s without traffic take it from any count straight to 0, and the next request waits \
                 a cold start of {}",
                write_duration(cold_start)
            );
            let fix = Fix::words("several times the cold start, or minReplicaCount: 1");
            sink.at(manifest, &at, message, fix);
        }
    }
}

/// FW039.
pub(in crate::lint) fn nothing_wakes_it(world: &World<'_>, sink: &mut Sink) {
    for (manifest, spec) in to_zero(world) {
        let triggers = triggers(manifest);
        let local = |trigger: &Loc<'_>| matches!(trigger.text(&["type"]), Some("cpu" | "memory"));
        if !triggers.is_empty() && triggers.iter().all(local) {
            let at = spec.get("triggers").unwrap_or(spec);
            let message = "minReplicaCount 0 with cpu and memory only: at zero there is no pod to measure, and \
                           KEDA refuses it";
            sink.at(manifest, &at, message.into(), Fix::words("add a trigger that sees waiting requests"));
        }
    }
}
