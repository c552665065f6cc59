//! What an HPA's own fields get wrong.

use crate::lint::{
    finding::{Fix, Sink},
    world::{Kind, World},
};

/// FW024.
pub(in crate::lint) fn cpu_or_memory(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::Hpa) {
        for metric in manifest.root.list(&["spec", "metrics"]) {
            for source in ["resource", "containerResource"] {
                let Some(name) = metric.at(&[source, "name"]) else { continue };
                let shown = name.node.text().unwrap_or_default();
                let message = format!(
                    "{shown} says little about an inference engine: it busy-waits on its GPU, and its memory \
                     is taken at the start"
                );
                sink.at(manifest, &name, message, Fix::words("scale on waiting requests"));
            }
        }
    }
    for manifest in world.of_kind(Kind::ScaledObject) {
        for trigger in manifest.root.list(&["spec", "triggers"]) {
            let Some(kind) = trigger.get("type") else { continue };
            if let Some(shown @ ("cpu" | "memory")) = kind.node.text() {
                let message = format!("{shown} says little about an inference engine");
                sink.at(manifest, &kind, message, Fix::words("scale on waiting requests"));
            }
        }
    }
}

/// FW025.
pub(in crate::lint) fn zero_without_object_metric(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::Hpa) {
        let Some(min) = manifest.root.at(&["spec", "minReplicas"]) else { continue };
        let metrics = manifest.root.list(&["spec", "metrics"]);
        let has_outside_metric =
            metrics.iter().any(|metric| metric.get("object").is_some() || metric.get("external").is_some());
        if min.node.integer() == Some(0) && !has_outside_metric {
            let message = "minReplicas 0 needs an Object or External metric: with no pod there is no pod's \
                           metric to wake it";
            let fix = Fix::words(
                "add an Object or External metric of the queue (Kubernetes 1.37 or later), or keep 1",
            );
            sink.at(manifest, &min, message.into(), fix);
        }
    }
}

/// FW026.
pub(in crate::lint) fn whole_value_target(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::Hpa) {
        for metric in manifest.root.list(&["spec", "metrics"]) {
            for source in ["external", "object"] {
                let Some(kind) = metric.at(&[source, "target", "type"]) else { continue };
                if kind.node.text() == Some("Value") {
                    let message = "a `Value` target compares the whole with one pod's target and multiplies by \
                                   the ready pods: the count runs away while replicas start";
                    let fix = Fix::words("use `AverageValue`: the whole divided by what one pod is worth");
                    sink.at(manifest, &kind, message.into(), fix);
                }
            }
        }
    }
}
