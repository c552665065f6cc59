//! What an autoscaling manifest means, whatever its kind.

use serde_json::{Map, Value, json};

use super::ledger::Ledger;
use crate::{
    lint::world::Loc,
    problem::Collector,
    quantity::quantity,
    yaml::{self, Node, Scalar},
};

/// The meaning that all forms share.
pub(super) struct Intent {
    pub(super) name: String,
    /// `metadata` of the new manifest: name, namespace, labels, annotations.
    pub(super) metadata: Value,
    pub(super) target: Target,
    pub(super) min: u32,
    pub(super) max: u32,
    /// Waiting requests that one replica is worth.
    pub(super) per_replica: f64,
    /// The rest of `queueDepth`: its pre-warming.
    pub(super) pre_warm: Option<Value>,
    /// PromQL expressions that were scaled on or shown; the first one is the queue's.
    pub(super) queries: Vec<Query>,
    /// `behavior` of `autoscaling/v2`.
    pub(super) behavior: Option<Value>,
    /// Requests that one replica is given at a time.
    pub(super) max_concurrency: Option<u32>,
    /// How long a start takes, in seconds.
    pub(super) cold_start_seconds: Option<f64>,
    /// The autoscaler's own rules as they are, for a form that knows them.
    pub(super) rules: Option<Rules>,
}

/// The rules of one autoscaler: the fields of its specification that are neither target nor bounds.
pub(super) enum Rules {
    /// `metrics` and `behavior`.
    Hpa(Map<String, Value>),
    /// `triggers` and everything about them.
    Keda(Map<String, Value>),
    /// The annotations that decide, under their names in `policy.kpa`, and where they stand.
    Kpa(Map<String, Value>, Vec<String>),
}

impl Rules {
    /// The fields of `loc` of these names, as they are.
    pub(super) fn fields(loc: Option<Loc<'_>>, names: &[&str]) -> Map<String, Value> {
        let field = |name: &&str| Some(((*name).to_owned(), json(loc.as_ref()?.get(name)?.node)));
        names.iter().filter_map(field).collect()
    }
}

/// What decides in an HPA.
pub(super) const HPA_RULES: [&str; 2] = ["metrics", "behavior"];
/// What decides in a ScaledObject.
pub(super) const KEDA_RULES: [&str; 7] = [
    "triggers",
    "pollingInterval",
    "cooldownPeriod",
    "initialCooldownPeriod",
    "idleReplicaCount",
    "fallback",
    "advanced",
];

pub(super) enum Target {
    Kubernetes {
        api_version: String,
        kind: String,
        name: String,
    },
    AwsAutoScalingGroup {
        name: String,
    },
    /// Processes: no other form can scale them.
    Processes(Value),
}

pub(super) struct Query {
    pub(super) name: String,
    pub(super) server_address: String,
    pub(super) query: String,
}

/// A node as JSON, plain scalars by YAML's core schema.
pub(crate) fn json(node: &Node) -> Value {
    match &node.value {
        yaml::Value::Map(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect::<Map<_, _>>().into()
        }
        yaml::Value::Seq(items) => items.iter().map(json).collect(),
        yaml::Value::Scalar(_) if node.is_null() => Value::Null,
        yaml::Value::Scalar(Scalar { text, plain: true }) => match (node.bool(), node.integer()) {
            (Some(value), _) => value.into(),
            (None, Some(value)) => value.into(),
            (None, None) => node.number().map_or_else(|| json!(text), |value| json!(value)),
        },
        yaml::Value::Scalar(Scalar { text, .. }) => json!(text),
    }
}

/// `metadata` without what belongs to another autoscaler or to the API server.
pub(super) fn metadata(ledger: &mut Ledger<'_>, out: &Collector) -> Option<(String, Value)> {
    let mut metadata = Map::new();
    let name = ledger.take(&["metadata", "name"]);
    let Some(name) = name.as_ref().and_then(|name| name.node.text()) else {
        out.add("metadata.name", ledger.root().node.span, "nothing", "a name");
        return None;
    };
    metadata.insert("name".into(), name.into());
    for key in ["namespace", "labels"] {
        if let Some(loc) = ledger.take(&["metadata", key]) {
            metadata.insert(key.into(), json(loc.node));
        }
    }
    if let Some(annotations) = ledger.root().at(&["metadata", "annotations"]) {
        let mut kept = Map::new();
        for entry in annotations.node.entries() {
            let loc = Loc { node: &entry.value, path: annotations.path_of(&entry.key) };
            let foreign = ["autoscaling.", "serving.knative.dev/", "kubectl.kubernetes.io/", "meta.helm.sh/"];
            if foreign.iter().any(|prefix| entry.key.starts_with(prefix)) {
                continue;
            }
            ledger.carry(&loc);
            kept.insert(entry.key.clone(), json(&entry.value));
        }
        if !kept.is_empty() {
            metadata.insert("annotations".into(), kept.into());
        }
    }
    Some((name.to_owned(), metadata.into()))
}

/// A bound; `default` when it is absent.
pub(super) fn bound(loc: Option<Loc<'_>>, default: Option<u32>, path: &str, out: &Collector) -> Option<u32> {
    let Some(loc) = loc else {
        if default.is_none() {
            out.add(path, yaml::Span::default(), "nothing", "the most replicas");
        }
        return default;
    };
    let value = loc.node.integer().and_then(|value| u32::try_from(value).ok());
    if value.is_none() {
        out.add(&loc.path, loc.node.span, loc.node.describe(), "a whole number");
    }
    value
}

/// A quantity above zero.
pub(super) fn positive(loc: &Loc<'_>) -> Option<f64> {
    loc.node.text().and_then(|text| quantity(text).ok()).filter(|value| *value > 0.0)
}

/// Whether a metric's name or query speaks of waiting requests.
pub(super) fn is_queue(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["waiting", "pending", "queue", "backlog", "deferred"].iter().any(|word| text.contains(word))
}

/// `behavior`, as it is.
pub(super) fn behavior(ledger: &mut Ledger<'_>, keys: &[&str]) -> Option<Value> {
    let Some(loc) = ledger.root().at(keys) else {
        let why = "not said: its reader's default applies (forewarm: up at once and without a limit; HPA: up by 4 \
                   pods or 100 % each 15 s; both: down after 300 s)";
        ledger.assume("spec.behavior", why);
        return None;
    };
    for direction in ["scaleUp", "scaleDown"] {
        let Some(rules) = loc.get(direction) else { continue };
        for entry in rules.node.entries() {
            ledger.carry(&Loc { node: &entry.value, path: rules.path_of(&entry.key) });
        }
    }
    Some(json(loc.node))
}
