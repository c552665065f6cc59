//! What an HPA means.

use super::{
    intent::{HPA_RULES, Intent, Rules, Target, behavior, bound, is_queue, metadata, positive},
    ledger::Ledger,
};
use crate::{lint::world::Loc, problem::Collector};
use forewarm_core::QueueDepth;

pub(super) fn read(ledger: &mut Ledger<'_>, out: &Collector) -> Option<Intent> {
    let meta = metadata(ledger, out);
    let target = scale_target(ledger, out);
    let max = ledger.take(&["spec", "maxReplicas"]);
    let max = bound(max, None, "spec.maxReplicas", out);
    let min = ledger.take(&["spec", "minReplicas"]);
    let min = bound(min, Some(1), "spec.minReplicas", out);
    let per_replica = metrics(ledger);
    let behavior = behavior(ledger, &["spec", "behavior"]);
    ledger.drop_at(&["status"], "written by its controller");
    let (name, metadata) = meta?;
    Some(Intent {
        name,
        metadata,
        target: target?,
        min: min?,
        max: max?,
        per_replica,
        pre_warm: None,
        queries: Vec::new(),
        behavior,
        max_concurrency: None,
        cold_start_seconds: None,
        rules: Some(Rules::Hpa(Rules::fields(ledger.root().get("spec"), &HPA_RULES))),
    })
}

/// `scaleTargetRef`, as HPA and ScaledObject have it.
pub(super) fn scale_target(ledger: &mut Ledger<'_>, out: &Collector) -> Option<Target> {
    let keys = ["spec", "scaleTargetRef"];
    let Some(name) = ledger.take(&[keys[0], keys[1], "name"]) else {
        out.add("spec.scaleTargetRef.name", ledger.root().node.span, "nothing", "what is scaled");
        return None;
    };
    let mut or = |key: &str, default: &str| {
        let loc = ledger.take(&[keys[0], keys[1], key]);
        loc.and_then(|loc| loc.node.text()).unwrap_or(default).to_owned()
    };
    let (api_version, kind) = (or("apiVersion", "apps/v1"), or("kind", "Deployment"));
    Some(Target::Kubernetes { api_version, kind, name: name.node.text()?.to_owned() })
}

/// The target of the first metric that is a queue; the others go nowhere.
fn metrics(ledger: &mut Ledger<'_>) -> f64 {
    let mut per_replica = None;
    for metric in ledger.root().list(&["spec", "metrics"]) {
        let queue = queue_target(&metric).filter(|_| per_replica.is_none());
        match queue {
            Some((source, name, target, value)) => {
                per_replica = Some(value);
                ledger.carry(&target);
                if let Some(kind) = metric.get("type") {
                    ledger.carry(&kind);
                }
                if let Some(kind) = metric.at(&[source, "target", "type"]) {
                    ledger.carry(&kind);
                }
                ledger.drop(&name, "the new manifest names the queue in its own way");
            }
            None => {
                let why = if metric.get("resource").or_else(|| metric.get("containerResource")).is_some() {
                    "CPU and memory say nothing about an inference engine's load"
                } else {
                    "only the queue is carried over"
                };
                ledger.drop(&metric, why);
            }
        }
    }
    per_replica.unwrap_or_else(|| {
        let default = QueueDepth::DEFAULT_PER_REPLICA;
        ledger.assume("spec.policy.queueDepth.perReplica", format!("no queue among the metrics: {default}"));
        default
    })
}

type QueueTarget<'a> = (&'static str, Loc<'a>, Loc<'a>, f64);

fn queue_target<'a>(metric: &Loc<'a>) -> Option<QueueTarget<'a>> {
    ["pods", "external", "object"].into_iter().find_map(|source| {
        let name = metric
            .at(&[source, "metric", "name"])
            .or_else(|| metric.at(&[source, "metricName"]))
            .filter(|name| is_queue(name.node.text().unwrap_or_default()))?;
        let target = metric.at(&[source, "target", "averageValue"])?;
        let value = positive(&target)?;
        Some((source, name, target, value))
    })
}
