//! What a Knative Service's autoscaling annotations mean.

use std::collections::BTreeMap;

use forewarm_core::{KpaPolicy, QueueDepth};

use super::{
    intent::{Intent, Rules, Target, bound, metadata, positive},
    ledger::Ledger,
};
use crate::{
    lint::world::Loc,
    policy::{is_kpa_annotation, kpa_line},
    problem::Collector,
};

/// The most replicas when `max-scale` is absent: Knative has no limit, and a fleet of GPUs needs one.
const ASSUMED_MAX: u32 = 8;

pub(super) fn read(ledger: &mut Ledger<'_>, out: &Collector) -> Option<Intent> {
    let (name, metadata) = metadata(ledger, out)?;
    let min = take(ledger, &["min-scale", "minScale"]);
    let min = bound(min, Some(0), "min-scale", out);
    // 0 is Knative's word for no limit.
    let max = take(ledger, &["max-scale", "maxScale"]).filter(|max| max.node.integer() != Some(0));
    if max.is_none() {
        ledger.assume("spec.replicas.max", "Knative has no limit here; this one is a guess");
    }
    let max = bound(max, Some(ASSUMED_MAX.max(min.unwrap_or_default())), "max-scale", out);
    let metric = take(ledger, &["metric"]);
    let by_concurrency =
        metric.and_then(|metric| metric.node.text()).is_none_or(|metric| metric == "concurrency");
    let concurrency = if by_concurrency { take(ledger, &["target"]) } else { None };
    let concurrency =
        concurrency.or_else(|| ledger.take(&["spec", "template", "spec", "containerConcurrency"]));
    let max_concurrency =
        concurrency.as_ref().and_then(positive).map(|value| value.ceil() as u32).filter(|value| *value >= 1);
    let default = QueueDepth::DEFAULT_PER_REPLICA;
    ledger.assume(
        "spec.policy.queueDepth.perReplica",
        format!("Knative tracks requests in flight; forewarm gives a replica that many and counts those that wait: {default}"),
    );
    let rules = rules(ledger);
    ledger.drop_at(&["spec", "template", "spec"], "the pods belong to a Deployment of their own");
    Some(Intent {
        target: Target::Kubernetes {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: name.clone(),
        },
        name,
        metadata,
        min: min?,
        max: max?,
        per_replica: default,
        pre_warm: None,
        queries: Vec::new(),
        behavior: None,
        max_concurrency,
        cold_start_seconds: None,
        rules,
    })
}

/// The annotations that decide, as they are; `None` where Knative would refuse them.
fn rules(ledger: &Ledger<'_>) -> Option<Rules> {
    let mut annotations = BTreeMap::new();
    let mut places = BTreeMap::new();
    for place in PLACES {
        let Some(loc) = ledger.root().at(place) else { continue };
        for entry in loc.node.entries() {
            if let Some(text) = entry.value.text().filter(|_| !annotations.contains_key(&entry.key)) {
                annotations.insert(entry.key.clone(), text.to_owned());
                places.insert(entry.key.clone(), loc.path_of(&entry.key));
            }
        }
    }
    let concurrency = ledger.root().at(&["spec", "template", "spec", "containerConcurrency"]);
    let concurrency = concurrency.and_then(|loc| loc.node.integer()).unwrap_or(0);
    let policy = KpaPolicy::new(annotations, BTreeMap::new(), concurrency).ok()?;
    let fields = kpa_line(&policy).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    places.retain(|key, _| is_kpa_annotation(key));
    let places = places.into_values().collect();
    Some(Rules::Kpa(fields, places))
}

/// Where a Service has its annotations; the revision's count more.
const PLACES: [&[&str]; 2] = [&["spec", "template", "metadata", "annotations"], &["metadata", "annotations"]];

fn take<'a>(ledger: &mut Ledger<'a>, names: &[&str]) -> Option<Loc<'a>> {
    for place in PLACES {
        for name in names {
            let key = format!("autoscaling.knative.dev/{name}");
            if let Some(loc) = ledger.take(&[place, &[key.as_str()]].concat()) {
                return Some(loc);
            }
        }
    }
    None
}
