//! What a ScaledObject's fields do not do.

use crate::{
    lint::{
        finding::{Edit, Fix, Sink},
        world::{Kind, Loc, World, prometheus_triggers, triggers},
    },
    yaml::{Scalar, Value},
};

/// The least `minReplicaCount` KEDA assumes.
fn min_replicas(spec: &Loc<'_>) -> i64 {
    spec.get("minReplicaCount").and_then(|min| min.node.integer()).unwrap_or(0)
}

/// FW030.
pub(in crate::lint) fn cooldown_without_zero(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::ScaledObject) {
        let Some(spec) = manifest.spec() else { continue };
        let Some(entry) = spec.entry("cooldownPeriod") else { continue };
        if min_replicas(&spec) >= 1 && spec.get("idleReplicaCount").is_none() {
            let message = "`cooldownPeriod` acts on the step to zero only, and minReplicaCount is above 0: it \
                           does nothing";
            let edits = Edit::remove_entry(&manifest.source.text, entry).into_iter().collect();
            let text = "remove it; the way down is \
                        `advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds`";
            sink.entry(manifest, (&spec, entry), message.into(), Fix::edit(text, edits));
        }
    }
}

/// FW031.
pub(in crate::lint) fn metric_name_ignored(world: &World<'_>, sink: &mut Sink) {
    for manifest in &world.manifests {
        for trigger in prometheus_triggers(manifest) {
            let Some(metadata) = trigger.get("metadata") else { continue };
            let Some(entry) = metadata.entry("metricName") else { continue };
            let edits = Edit::remove_entry(&manifest.source.text, entry).into_iter().collect();
            let fix = Fix::edit("remove it; a trigger's own `name` tells it from others", edits);
            let message = "`metricName` is deprecated and ignored: KEDA makes the name";
            sink.entry(manifest, (&metadata, entry), message.into(), fix);
        }
    }
}

/// FW032.
pub(in crate::lint) fn null_is_zero(world: &World<'_>, sink: &mut Sink) {
    for manifest in &world.manifests {
        for trigger in prometheus_triggers(manifest) {
            let Some(metadata) = trigger.get("metadata") else { continue };
            let said = metadata.entry("ignoreNullValues");
            if said.is_some_and(|entry| entry.value.text() == Some("false")) {
                continue;
            }
            let message = "a query without an answer counts as 0 (`ignoreNullValues` is true by default): a \
                           scrape that fails scales the fleet down";
            let text = "ignoreNullValues: \"false\"";
            let edit = match said {
                Some(entry) => Some(Edit::replace(entry.value.span, "\"false\"")),
                None => metadata
                    .entry("query")
                    .and_then(|query| Edit::insert_after(&manifest.source.text, query, text)),
            };
            let fix = Fix::edit(format!("`{text}`"), edit.into_iter().collect());
            match said.or_else(|| metadata.entry("query")) {
                Some(entry) => sink.entry(manifest, (&metadata, entry), message.into(), fix),
                None => sink.at(manifest, &metadata, message.into(), fix),
            }
        }
    }
}

/// FW033.
pub(in crate::lint) fn no_fallback(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::ScaledObject) {
        let Some(spec) = manifest.spec() else { continue };
        if spec.get("fallback").is_none() && !prometheus_triggers(manifest).is_empty() {
            let message =
                "no `fallback`: while Prometheus cannot be read, nothing says how many replicas to keep";
            let fix = Fix::words(
                "`fallback: {failureThreshold: 3, replicas: N, behavior: currentReplicasIfHigher}`",
            );
            let at = spec.get("triggers").unwrap_or(spec);
            sink.at(manifest, &at, message.into(), fix);
        }
    }
}

/// FW034.
pub(in crate::lint) fn polling_interval(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::ScaledObject) {
        let Some(spec) = manifest.spec() else { continue };
        let Some(entry) = spec.entry("pollingInterval") else { continue };
        let cached = triggers(manifest).iter().any(|trigger| {
            trigger.get("useCachedMetrics").and_then(|cached| cached.node.bool()) == Some(true)
        });
        if min_replicas(&spec) >= 1 && !cached {
            let message = "`pollingInterval` is how often KEDA looks for the step from zero; between 1 and N \
                           the HPA asks every 15 s whatever it says";
            let edits = Edit::remove_entry(&manifest.source.text, entry).into_iter().collect();
            sink.entry(manifest, (&spec, entry), message.into(), Fix::edit("remove it", edits));
        }
    }
}

/// FW035.
pub(in crate::lint) fn metadata_not_text(world: &World<'_>, sink: &mut Sink) {
    for manifest in &world.manifests {
        for trigger in triggers(manifest) {
            let Some(metadata) = trigger.get("metadata") else { continue };
            for entry in metadata.node.entries() {
                let Value::Scalar(Scalar { text, plain: true }) = &entry.value.value else { continue };
                let no_text = text.parse::<f64>().is_ok() || entry.value.bool().is_some();
                if no_text {
                    let edit = Edit::replace(entry.value.span, format!("\"{text}\""));
                    let message =
                        format!("{text} is not text: the API server refuses trigger metadata that is not");
                    let fix = Fix::edit(format!("quote it: \"{text}\""), vec![edit]);
                    sink.entry(manifest, (&metadata, entry), message, fix);
                }
            }
        }
    }
}

/// FW029.
pub(in crate::lint) fn no_threshold(world: &World<'_>, sink: &mut Sink) {
    for manifest in &world.manifests {
        for trigger in prometheus_triggers(manifest) {
            let Some(metadata) = trigger.get("metadata") else { continue };
            for (field, example) in
                [("threshold", "\"5\""), ("query", "sum(…)"), ("serverAddress", "http://…")]
            {
                if metadata.get(field).is_none() {
                    let message = format!("a prometheus trigger needs `{field}`");
                    sink.at(manifest, &metadata, message, Fix::words(format!("{field}: {example}")));
                }
            }
        }
    }
}

/// FW037.
pub(in crate::lint) fn pause_annotations(world: &World<'_>, sink: &mut Sink) {
    const PAUSED: &str = "autoscaling.keda.sh/paused";
    const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";
    for manifest in world.of_kind(Kind::ScaledObject) {
        let Some(annotations) = manifest.root.at(&["metadata", "annotations"]) else { continue };
        if let Some(entry) = annotations.entry(PAUSED) {
            let value = entry.value.text().unwrap_or_default();
            if !["true", "false"].contains(&value) {
                let message = format!("`{value}` pauses it: every text that is not a boolean means true");
                sink.entry(manifest, (&annotations, entry), message, Fix::words("\"true\" or \"false\""));
            }
        }
        if let Some(entry) = annotations.entry(PAUSED_REPLICAS) {
            let message = "it is paused as long as this annotation is here; nothing ends it by itself";
            let fix = Fix::words("remove the annotation when the pause is over");
            sink.entry(manifest, (&annotations, entry), message.into(), fix);
        }
    }
}
