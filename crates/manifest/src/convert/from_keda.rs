//! What a ScaledObject means.

use forewarm_core::QueueDepth;

use super::{
    from_hpa::scale_target,
    intent::{Intent, KEDA_RULES, Query, Rules, behavior, bound, is_queue, metadata, positive},
    ledger::Ledger,
};
use crate::{lint::world::Loc, problem::Collector};

/// KEDA's `maxReplicaCount` when none is given.
const DEFAULT_MAX: u32 = 100;

pub(super) fn read(ledger: &mut Ledger<'_>, out: &Collector) -> Option<Intent> {
    let meta = metadata(ledger, out);
    let target = scale_target(ledger, out);
    let max = ledger.take(&["spec", "maxReplicaCount"]);
    if max.is_none() {
        ledger.assume("spec.replicas.max", format!("KEDA's default, {DEFAULT_MAX}"));
    }
    let max = bound(max, Some(DEFAULT_MAX), "spec.maxReplicaCount", out);
    let min = ledger.take(&["spec", "minReplicaCount"]);
    if min.is_none() {
        ledger.assume("spec.replicas.min", "KEDA's default, 0");
    }
    let min = bound(min, Some(0), "spec.minReplicaCount", out);
    let (per_replica, queries) = triggers(ledger);
    let behavior = behavior(ledger, &["spec", "advanced", "horizontalPodAutoscalerConfig", "behavior"]);
    let reasons = [
        (
            "cooldownPeriod",
            "acts on the step to zero only; the new manifest decides that by its scale-down window",
        ),
        (
            "initialCooldownPeriod",
            "acts on the step to zero only; the new manifest decides that by its scale-down window",
        ),
        ("pollingInterval", "KEDA's own rhythm; what reads the new manifest has another"),
        (
            "fallback",
            "what follows from a missing value is up to the reader of the new manifest (forewarm holds what it has)",
        ),
        ("idleReplicaCount", "the new manifest has one lower bound"),
    ];
    for (field, why) in reasons {
        ledger.drop_at(&["spec", field], why);
    }
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
        queries,
        behavior,
        max_concurrency: None,
        cold_start_seconds: None,
        rules: Some(Rules::Keda(Rules::fields(ledger.root().get("spec"), &KEDA_RULES))),
    })
}

/// The queue's threshold, and the queries of all prometheus triggers, the queue's first.
fn triggers(ledger: &mut Ledger<'_>) -> (f64, Vec<Query>) {
    let mut per_replica = None;
    let mut queries = Vec::new();
    for (index, trigger) in ledger.root().list(&["spec", "triggers"]).into_iter().enumerate() {
        let Some(query) = prometheus(&trigger, index) else {
            ledger.drop(&trigger, "only the queue in Prometheus is carried over");
            continue;
        };
        for key in ["serverAddress", "query"] {
            if let Some(loc) = trigger.at(&["metadata", key]) {
                ledger.carry(&loc);
            }
        }
        for key in ["type", "name"] {
            if let Some(loc) = trigger.get(key) {
                ledger.carry(&loc);
            }
        }
        let threshold = trigger.at(&["metadata", "threshold"]);
        let value = threshold.as_ref().and_then(positive).filter(|_| is_queue(&query.query));
        match (threshold, value) {
            (Some(threshold), Some(value)) if per_replica.is_none() => {
                per_replica = Some(value);
                ledger.carry(&threshold);
                queries.insert(0, query);
            }
            (threshold, _) => {
                if let Some(threshold) = threshold {
                    ledger.drop(&threshold, "only the threshold of the queue is carried over");
                }
                queries.push(query);
            }
        }
        for (key, why) in [
            ("metricName", "deprecated, and ignored by KEDA"),
            ("ignoreNullValues", "what follows from a missing value is up to the reader of the new manifest"),
            ("activationThreshold", "any waiting request wakes the fleet"),
        ] {
            if let Some(loc) = trigger.at(&["metadata", key]) {
                ledger.drop(&loc, why);
            }
        }
    }
    let per_replica = per_replica.unwrap_or_else(|| {
        let default = QueueDepth::DEFAULT_PER_REPLICA;
        ledger.assume("spec.policy.queueDepth.perReplica", format!("no queue among the triggers: {default}"));
        default
    });
    (per_replica, queries)
}

fn prometheus(trigger: &Loc<'_>, index: usize) -> Option<Query> {
    if trigger.text(&["type"]) != Some("prometheus") {
        return None;
    }
    let server_address = trigger.text(&["metadata", "serverAddress"])?.to_owned();
    if !(server_address.starts_with("http://") || server_address.starts_with("https://")) {
        return None;
    }
    let name = trigger.text(&["name"]).map_or_else(|| format!("trigger-{index}"), str::to_owned);
    Some(Query { name, server_address, query: trigger.text(&["metadata", "query"])?.to_owned() })
}
