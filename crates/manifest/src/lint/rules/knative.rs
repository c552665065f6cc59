//! Knative Serving's autoscaler in front of a model.

use crate::lint::{
    finding::{Fix, Sink},
    world::{Kind, Loc, Manifest, World},
};

/// The annotations of the revision: those of a Service's template, or the object's own.
fn annotations<'a>(manifest: &Manifest<'a>) -> Option<Loc<'a>> {
    manifest
        .root
        .at(&["spec", "template", "metadata", "annotations"])
        .or_else(|| manifest.root.at(&["metadata", "annotations"]))
}

/// An annotation of the autoscaler, in either of its spellings.
fn annotation<'a>(manifest: &Manifest<'a>, name: &str) -> Option<Loc<'a>> {
    let annotations = annotations(manifest)?;
    let camel: String = name.split('-').enumerate().map(|(index, word)| capital(index, word)).collect();
    annotations
        .get(&format!("autoscaling.knative.dev/{name}"))
        .or_else(|| annotations.get(&format!("autoscaling.knative.dev/{camel}")))
}

fn capital(index: usize, word: &str) -> String {
    let mut chars = word.chars();
    match chars.next() {
        Some(first) if index > 0 => first.to_uppercase().chain(chars).collect(),
        Some(_) | None => word.to_owned(),
    }
}

/// The revision's own specification.
fn revision<'a>(manifest: &Manifest<'a>) -> Option<Loc<'a>> {
    manifest.root.at(&["spec", "template", "spec"]).or_else(|| manifest.spec())
}

/// FW060.
pub(in crate::lint) fn to_zero(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::Knative) {
        let min = annotation(manifest, "min-scale");
        if min.as_ref().and_then(|min| min.node.integer()).unwrap_or(0) == 0 {
            let message = "it goes to zero when idle, and Knative charges the cold start to the request's \
                           response timeout: a model that takes minutes answers 504";
            let at = min.or_else(|| annotations(manifest)).unwrap_or_else(|| manifest.root.clone());
            sink.at(manifest, &at, message.into(), Fix::words("autoscaling.knative.dev/min-scale: \"1\""));
        }
    }
}

/// FW061.
pub(in crate::lint) fn progress_deadline(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::Knative) {
        let deadline = annotations(manifest).and_then(|a| a.get("serving.knative.dev/progress-deadline"));
        if deadline.is_none() {
            let message = "a revision that is not ready after 10 minutes is given up and scaled to zero, whether \
                           or not it is still loading";
            let at = annotations(manifest).unwrap_or_else(|| manifest.root.clone());
            let fix = Fix::words("serving.knative.dev/progress-deadline: \"30m\"");
            sink.at(manifest, &at, message.into(), fix);
        }
    }
}

/// FW062.
pub(in crate::lint) fn no_concurrency(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::Knative) {
        let revision = revision(manifest);
        let limit = revision.as_ref().and_then(|revision| revision.number(&["containerConcurrency"]));
        if annotation(manifest, "target").is_none() && limit.unwrap_or(0.0) == 0.0 {
            let message = "no target and no containerConcurrency: a replica is thought to carry 100 requests at \
                           a time, whatever the model";
            let at = annotations(manifest).or(revision).unwrap_or_else(|| manifest.root.clone());
            let fix =
                Fix::words("autoscaling.knative.dev/target: what one replica carries within its objective");
            sink.at(manifest, &at, message.into(), fix);
        }
    }
}

/// FW063.
pub(in crate::lint) fn no_upper_bound(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::Knative) {
        let max = annotation(manifest, "max-scale");
        if max.as_ref().and_then(|max| max.node.integer()).unwrap_or(0) == 0 {
            let at = max.or_else(|| annotations(manifest)).unwrap_or_else(|| manifest.root.clone());
            let message = "no max-scale: a burst may ask for any number of GPUs";
            sink.at(manifest, &at, message.into(), Fix::words("autoscaling.knative.dev/max-scale"));
        }
    }
}

/// FW064.
pub(in crate::lint) fn request_timeout(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::Knative) {
        let Some(revision) = revision(manifest).filter(|_| manifest.kind == Kind::Knative) else { continue };
        if revision.get("containers").is_some() && revision.get("timeoutSeconds").is_none() {
            let message = "no timeoutSeconds: a generation is cut after 300 s, cold start included";
            sink.at(
                manifest,
                &revision,
                message.into(),
                Fix::words("timeoutSeconds: 600, the most it takes"),
            );
        }
    }
}
