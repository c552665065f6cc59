//! The new manifest.

use serde_json::{Map, Value, json};

use super::{
    Form,
    intent::{Intent, Query, Rules, Target, is_queue},
    ledger::Ledger,
};
use crate::scaler::{API_VERSION, KIND};

/// The queue's name in the custom metrics API, as adapter configurations for vLLM commonly have it.
const HPA_METRIC: &str = "vllm_num_requests_waiting";
/// The queue in PromQL.
const QUERY: &str = "sum(vllm:num_requests_waiting)";
/// Where Prometheus is when nobody says.
const SERVER: &str = "http://prometheus.monitoring.svc:9090";

pub(super) fn manifest(intent: &Intent, to: Form, ledger: &mut Ledger<'_>) -> Value {
    match to {
        Form::InferenceScaler => inference_scaler(intent, ledger),
        Form::Hpa => hpa(intent, ledger),
        Form::ScaledObject => scaled_object(intent, ledger),
    }
}

fn inference_scaler(intent: &Intent, ledger: &mut Ledger<'_>) -> Value {
    let mut spec = Map::new();
    let target = match &intent.target {
        Target::Kubernetes { api_version, kind, name } => {
            json!({"kubernetes": {"apiVersion": api_version, "kind": kind, "name": name}})
        }
        Target::AwsAutoScalingGroup { name } => {
            if name.contains('/') {
                let why = "forewarm scales groups of EC2 instances: name the group here";
                ledger.assume("spec.target.awsAutoScalingGroup.name", why);
            }
            json!({"awsAutoScalingGroup": {"name": name}})
        }
        Target::Processes(processes) => json!({"processes": processes}),
    };
    spec.insert("target".into(), target);
    if let Some(concurrency) = intent.max_concurrency {
        spec.insert("engine".into(), json!({"maxConcurrency": concurrency}));
    }
    spec.insert("replicas".into(), json!({"min": intent.min, "max": intent.max}));
    if intent.min == 0 {
        spec.insert("allowScaleToZero".into(), json!(true));
        ledger.assume("spec.allowScaleToZero", "the least is 0; in production forewarm wants that said");
    }
    if let Some(seconds) = intent.cold_start_seconds {
        spec.insert("coldStart".into(), json!({"expected": format!("{seconds}s")}));
    } else {
        ledger
            .assume("spec.coldStart.expected", "not said: 240s, then learned from the starts that are seen");
    }
    if let Some(rules) = &intent.rules {
        let (name, fields) = match rules {
            Rules::Hpa(fields) => ("hpa", fields),
            Rules::Keda(fields) => ("keda", fields),
            Rules::Kpa(fields, _) => ("kpa", fields),
        };
        let places = match rules {
            Rules::Hpa(fields) | Rules::Keda(fields) => paths(fields, "spec"),
            Rules::Kpa(_, places) => places.clone(),
        };
        keep(&places, ledger);
        spec.insert("policy".into(), json!({name: fields}));
    } else {
        let mut queue_depth = json!({"perReplica": intent.per_replica});
        if let Some(pre_warm) = &intent.pre_warm {
            queue_depth["preWarm"] = pre_warm.clone();
        }
        spec.insert("policy".into(), json!({"queueDepth": queue_depth}));
        if let Some(behavior) = &intent.behavior {
            spec.insert("behavior".into(), without_tolerance(behavior, ledger));
        }
    }
    if !intent.queries.is_empty() && intent.rules.is_none() {
        let signal = |query: &Query| {
            json!({
                "name": query.name,
                "prometheus": {"serverAddress": query.server_address, "query": query.query},
            })
        };
        spec.insert("signals".into(), intent.queries.iter().map(signal).collect());
    }
    json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": intent.metadata, "spec": spec})
}

/// Where the fields stand.
fn paths(fields: &Map<String, Value>, within: &str) -> Vec<String> {
    fields.keys().map(|field| format!("{within}.{field}")).collect()
}

/// The account of rules that are carried over as they are: nothing of them is dropped, nothing is chosen for them.
fn keep(places: &[String], ledger: &mut Ledger<'_>) {
    for place in places {
        ledger.restore(place);
    }
    for chosen in ["spec.policy.queueDepth.perReplica", "spec.behavior", "the queue's target"] {
        ledger.unassume(chosen);
    }
}

/// `behavior` without the one field that an `InferenceScaler` does not have.
fn without_tolerance(behavior: &Value, ledger: &mut Ledger<'_>) -> Value {
    let mut behavior = behavior.clone();
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = behavior.get_mut(direction).and_then(Value::as_object_mut) {
            rules.remove("tolerance");
        }
        for at in ["spec.behavior", "spec.advanced.horizontalPodAutoscalerConfig.behavior"] {
            let why = "forewarm has no tolerance: its stabilization window holds the count";
            ledger.withdraw(&format!("{at}.{direction}.tolerance"), why);
        }
    }
    behavior
}

/// The target of an HPA or ScaledObject; one that neither can scale is dropped with a word.
fn scale_target(intent: &Intent, ledger: &mut Ledger<'_>) -> Value {
    let why = "only objects of Kubernetes can be scaled: name the Deployment here";
    match &intent.target {
        Target::Kubernetes { api_version, kind, name } => {
            json!({"apiVersion": api_version, "kind": kind, "name": name})
        }
        Target::AwsAutoScalingGroup { .. } => {
            ledger.withdraw("AutoScalingGroupName", why);
            ledger.withdraw("ResourceId", why);
            ledger.withdraw("spec.target.awsAutoScalingGroup", why);
            ledger.assume("spec.scaleTargetRef.name", why);
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": intent.name.to_ascii_lowercase()})
        }
        Target::Processes(_) => {
            ledger.withdraw("spec.target.processes", why);
            ledger.assume("spec.scaleTargetRef.name", why);
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": intent.name})
        }
    }
}

fn hpa(intent: &Intent, ledger: &mut Ledger<'_>) -> Value {
    if let Some(Rules::Hpa(fields)) = &intent.rules {
        ledger.undrop("spec.policy.hpa");
        keep(&paths(fields, "spec.policy.hpa"), ledger);
        let bounds = [("minReplicas", intent.min), ("maxReplicas", intent.max)];
        let spec = as_it_is(intent, bounds, fields, ledger);
        return object("autoscaling/v2", "HorizontalPodAutoscaler", intent, spec);
    }
    ledger.assume(
        "spec.metrics[0].pods.metric.name",
        format!("an adapter must provide `{HPA_METRIC}` for each pod"),
    );
    for path in query_paths(ledger) {
        ledger.withdraw(&path, "an HPA names metrics; the query belongs to its adapter");
    }
    if intent.min == 0 {
        let why = "needs an Object or External metric of the queue; a Pods metric cannot wake it";
        ledger.assume("spec.minReplicas", why);
    }
    let mut spec = Map::new();
    spec.insert("scaleTargetRef".into(), scale_target(intent, ledger));
    spec.insert("minReplicas".into(), json!(intent.min));
    spec.insert("maxReplicas".into(), json!(intent.max));
    spec.insert(
        "metrics".into(),
        json!([{
            "type": "Pods",
            "pods": {
                "metric": {"name": HPA_METRIC},
                "target": {"type": "AverageValue", "averageValue": amount(intent.per_replica)},
            },
        }]),
    );
    if let Some(behavior) = &intent.behavior {
        spec.insert("behavior".into(), behavior.clone());
    }
    object("autoscaling/v2", "HorizontalPodAutoscaler", intent, spec)
}

/// A specification with target, bounds and rules.
fn as_it_is(
    intent: &Intent,
    bounds: [(&str, u32); 2],
    fields: &Map<String, Value>,
    ledger: &mut Ledger<'_>,
) -> Map<String, Value> {
    let mut spec = Map::new();
    spec.insert("scaleTargetRef".into(), scale_target(intent, ledger));
    spec.extend(bounds.map(|(name, bound)| (name.to_owned(), json!(bound))));
    spec.extend(fields.clone());
    spec
}

fn object(api_version: &str, kind: &str, intent: &Intent, spec: Map<String, Value>) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": intent.metadata, "spec": spec})
}

fn scaled_object(intent: &Intent, ledger: &mut Ledger<'_>) -> Value {
    if let Some(Rules::Keda(fields)) = &intent.rules {
        ledger.undrop("spec.policy.keda");
        keep(&paths(fields, "spec.policy.keda"), ledger);
        let bounds = [("minReplicaCount", intent.min), ("maxReplicaCount", intent.max)];
        let spec = as_it_is(intent, bounds, fields, ledger);
        return object("keda.sh/v1alpha1", "ScaledObject", intent, spec);
    }
    let queue = intent.queries.iter().find(|query| is_queue(&query.query));
    if queue.is_none() {
        ledger
            .assume("spec.triggers[0].metadata.query", format!("`{QUERY}`: narrow it to this target's pods"));
        ledger.assume("spec.triggers[0].metadata.serverAddress", "not said");
    }
    for (index, query) in intent.queries.iter().enumerate() {
        let chosen = queue.is_some_and(|queue| queue.name == query.name);
        let path = format!("spec.signals[{index}]");
        if chosen {
            if let Some(loc) = ledger.root().list(&["spec", "signals"]).get(index) {
                ledger.carry(loc);
            }
        } else {
            ledger.withdraw(&path, "shown by forewarm; a trigger would be scaled on");
        }
    }
    ledger.assume(
        "spec.fallback",
        "not said: while the metric cannot be read, KEDA keeps what there is, and the least at least",
    );
    let mut metadata = Map::new();
    metadata.insert("serverAddress".into(), json!(queue.map_or(SERVER, |queue| &queue.server_address)));
    metadata.insert("query".into(), json!(queue.map_or(QUERY, |queue| &queue.query)));
    metadata.insert("threshold".into(), json!(amount(intent.per_replica)));
    metadata.insert("ignoreNullValues".into(), json!("false"));
    let mut trigger = json!({"type": "prometheus"});
    if let Some(queue) = queue {
        trigger["name"] = json!(queue.name);
    }
    trigger["metadata"] = metadata.into();
    let mut spec = Map::new();
    spec.insert("scaleTargetRef".into(), scale_target(intent, ledger));
    spec.insert("minReplicaCount".into(), json!(intent.min));
    spec.insert("maxReplicaCount".into(), json!(intent.max));
    spec.insert(
        "fallback".into(),
        json!({"failureThreshold": 3, "replicas": intent.min.max(1), "behavior": "currentReplicasIfHigher"}),
    );
    if let Some(behavior) = &intent.behavior {
        spec.insert("advanced".into(), json!({"horizontalPodAutoscalerConfig": {"behavior": behavior}}));
    }
    spec.insert("triggers".into(), json!([trigger]));
    object("keda.sh/v1alpha1", "ScaledObject", intent, spec)
}

/// Where a ScaledObject's queries stand.
fn query_paths(ledger: &Ledger<'_>) -> Vec<String> {
    let triggers = ledger.root().list(&["spec", "triggers"]);
    let fields = ["serverAddress", "query"];
    let paths =
        triggers.iter().flat_map(|trigger| fields.map(|field| format!("{}.metadata.{field}", trigger.path)));
    let names = triggers.iter().map(|trigger| format!("{}.name", trigger.path));
    paths.chain(names).collect()
}

/// A number as quantities are written: whole where it is whole, else in thousandths.
fn amount(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{}m", (value * 1000.0).round()) }
}
