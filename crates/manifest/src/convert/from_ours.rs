//! What an `InferenceScaler` means, as far as other forms can say it. It is valid already.

use forewarm_core::QueueDepth;

use super::{
    intent::{
        HPA_RULES, Intent, KEDA_RULES, Query, Rules, Target, behavior, bound, json, metadata, positive,
    },
    ledger::Ledger,
};
use crate::problem::Collector;

pub(super) fn read(ledger: &mut Ledger<'_>, out: &Collector) -> Option<Intent> {
    let (name, metadata) = metadata(ledger, out)?;
    let target = if let Some(loc) = ledger.take(&["spec", "target", "kubernetes"]) {
        Target::Kubernetes {
            api_version: loc.text(&["apiVersion"]).unwrap_or("apps/v1").to_owned(),
            kind: loc.text(&["kind"])?.to_owned(),
            name: loc.text(&["name"])?.to_owned(),
        }
    } else if let Some(group) = ledger.take(&["spec", "target", "awsAutoScalingGroup"]) {
        Target::AwsAutoScalingGroup { name: group.text(&["name"])?.to_owned() }
    } else {
        Target::Processes(json(ledger.take(&["spec", "target", "processes"])?.node))
    };
    let (min, max) = (ledger.take(&["spec", "replicas", "min"]), ledger.take(&["spec", "replicas", "max"]));
    let min = bound(min, None, "spec.replicas.min", out);
    let max = bound(max, None, "spec.replicas.max", out);
    // An HPA or ScaledObject may reach zero without a further word.
    let _said = ledger.take(&["spec", "allowScaleToZero"]);
    let per_replica = ledger.take(&["spec", "policy", "queueDepth", "perReplica"]);
    for peer in ["hpa", "keda", "kpa", "rayServe", "skyServe", "dynamo"] {
        let place = ["spec", "policy", peer];
        if ledger.root().at(&place).is_some() {
            ledger.drop_at(&place, "only forewarm's own threshold of the queue is carried over");
            let default = QueueDepth::DEFAULT_PER_REPLICA;
            ledger.assume(
                "the queue's target",
                format!("the policy is `{peer}`, which has none of its own: {default}"),
            );
        }
    }
    let policy = |name| ledger.root().at(&["spec", "policy", name]);
    let rules = if let Some(hpa) = policy("hpa") {
        Some(Rules::Hpa(Rules::fields(Some(hpa), &HPA_RULES)))
    } else {
        policy("keda").map(|keda| Rules::Keda(Rules::fields(Some(keda), &KEDA_RULES)))
    };
    let pre_warm = ledger.root().at(&["spec", "policy", "queueDepth", "preWarm"]).map(|loc| json(loc.node));
    let mut queries = Vec::new();
    for (index, signal) in ledger.root().list(&["spec", "signals"]).iter().enumerate() {
        let Some(prometheus) = signal.get("prometheus") else { continue };
        queries.push(Query {
            name: signal.text(&["name"]).map_or_else(|| format!("signal-{index}"), str::to_owned),
            server_address: prometheus.text(&["serverAddress"])?.to_owned(),
            query: prometheus.text(&["query"])?.to_owned(),
        });
    }
    Some(Intent {
        name,
        metadata,
        target,
        min: min?,
        max: max?,
        per_replica: per_replica.as_ref().and_then(positive).unwrap_or(QueueDepth::DEFAULT_PER_REPLICA),
        pre_warm,
        queries,
        behavior: behavior(ledger, &["spec", "behavior"]),
        max_concurrency: None,
        cold_start_seconds: None,
        rules,
    })
}
