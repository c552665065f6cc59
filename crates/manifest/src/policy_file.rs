//! Policies from whatever manifest people have: an HPA, a ScaledObject, a Knative Service or PodAutoscaler,
//! or an InferenceScaler of ours.

use std::collections::BTreeMap;

use forewarm_core::{Bounds, HpaPolicy, KedaPolicy, KpaPolicy, Policy, ScalerSpec, peers::keda::Annotations};

use crate::{
    cursor::{Cursor, Fields},
    policy,
    problem::{Collector, Problems},
    scaler::{self, MAX_REPLICAS},
    yaml::{self, Node, Span},
};

/// KEDA's `maxReplicaCount` when none is given.
const KEDA_MAX: u32 = 100;

/// Every policy of a text, each with the bounds that it has; documents of other kinds are left out.
///
/// Of a foreign manifest only what decides is looked at: unknown fields are for `lint` to find. A minimum of
/// 0 is its author's word that the target may go to zero.
///
/// # Errors
/// Every problem at once: text that is no YAML, no policy at all, fields that decide and are missing or wrong.
pub fn read_policy(file_name: &str, text: &str) -> Result<Vec<ScalerSpec>, Problems> {
    let documents = yaml::parse(text).map_err(|error| Problems::of_yaml(file_name, error))?;
    let out = Collector::default();
    let mut policies = Vec::new();
    for document in documents.iter().flat_map(items) {
        match document.at(&["kind"]).and_then(Node::text) {
            Some(scaler::KIND) => {
                policies.extend(scaler::read_one(document, "", &out).map(|scaler| scaler.spec));
            }
            Some(kind) => {
                out.set_foreign(true);
                policies.extend(foreign(kind, document, &out));
                out.set_foreign(false);
            }
            None => {}
        }
    }
    if policies.is_empty() {
        let wanted = "an HPA, ScaledObject, Knative Service, PodAutoscaler or InferenceScaler";
        out.add_if_empty(Span::default(), "no policy", wanted);
    }
    out.finish(file_name, policies)
}

/// The items of a `List`, else the document itself.
fn items(document: &Node) -> &[Node] {
    match document.get("items") {
        Some(items)
            if document.get("kind").and_then(Node::text).is_some_and(|kind| kind.ends_with("List")) =>
        {
            items.items()
        }
        _ => std::slice::from_ref(document),
    }
}

fn foreign(kind: &str, document: &Node, out: &Collector) -> Option<ScalerSpec> {
    let read = match kind {
        "HorizontalPodAutoscaler" => hpa,
        "ScaledObject" => keda,
        "PodAutoscaler" => pod_autoscaler,
        "Service" if version(document).starts_with("serving.knative.dev/") => knative_service,
        _ => return None,
    };
    let fields = Cursor::new(document, "", out).fields()?;
    let name = document.at(&["metadata", "name"]).and_then(Node::text).unwrap_or("(no name)").to_owned();
    let (bounds, policy) = read(&fields)?;
    let mut spec = ScalerSpec::new(name, bounds, policy);
    spec.allow_scale_to_zero = bounds.min.0 == 0;
    Some(spec)
}

fn version(document: &Node) -> &str {
    document.get("apiVersion").and_then(Node::text).unwrap_or_default()
}

fn hpa(fields: &Fields<'_>) -> Option<(Bounds, Policy)> {
    const VERSION: &str = "autoscaling/v2";
    let version = fields.require("apiVersion", VERSION)?;
    if version.node.text() != Some(VERSION) {
        version.wanted(VERSION);
        return None;
    }
    let spec = fields.require("spec", "the HPA's specification")?.fields()?;
    let min = spec.get("minReplicas").map_or(Some(1), |at| at.whole(0, MAX_REPLICAS));
    let max = spec.require("maxReplicas", "the most replicas").and_then(|at| at.whole(1, MAX_REPLICAS));
    let metrics = spec.get("metrics").map_or(Some(Vec::new()), |at| policy::metrics(&at));
    let behavior = spec.get("behavior").map_or(Some(None), |at| policy::behavior(&at).map(Some));
    let bounds = bounds(&spec, min?, max?, "maxReplicas")?;
    Some((bounds, Policy::Hpa(Box::new(HpaPolicy::new(metrics?, behavior?)))))
}

fn keda(fields: &Fields<'_>) -> Option<(Bounds, Policy)> {
    let spec = fields.require("spec", "the ScaledObject's specification")?.fields()?;
    let max = spec.get("maxReplicaCount").map_or(Some(KEDA_MAX), |at| at.whole(1, MAX_REPLICAS));
    let mut object = policy::object(&spec)?;
    object.max_replica_count = max.and_then(|max| i32::try_from(max).ok());
    if let Err(error) = object.check_bounds() {
        spec.at.problem(error.to_string(), "bounds that KEDA takes");
        return None;
    }
    // What is kept at all times is what is kept while idle.
    let min = object.idle_replica_count.unwrap_or(object.min_replica_count.unwrap_or(0));
    let bounds = bounds(&spec, u32::try_from(min).ok()?, max?, "maxReplicaCount")?;
    if object.idle_replica_count.is_none() {
        object.min_replica_count = None;
    }
    object.max_replica_count = None;
    let annotations = annotations(fields.at.node, &["metadata", "annotations"], "autoscaling.keda.sh/");
    let policy = KedaPolicy { annotations: Annotations(annotations), ..KedaPolicy::new(object) };
    Some((bounds, Policy::Keda(Box::new(policy))))
}

fn knative_service(fields: &Fields<'_>) -> Option<(Bounds, Policy)> {
    kpa(
        fields,
        &["spec", "template", "metadata", "annotations"],
        &["spec", "template", "spec", "containerConcurrency"],
    )
}

fn pod_autoscaler(fields: &Fields<'_>) -> Option<(Bounds, Policy)> {
    kpa(fields, &["metadata", "annotations"], &["spec", "containerConcurrency"])
}

fn kpa(fields: &Fields<'_>, place: &[&str], concurrency: &[&str]) -> Option<(Bounds, Policy)> {
    const GROUP: &str = "autoscaling.knative.dev/";
    let at = fields.at.down(place);
    if let Some(at) = &at {
        policy::check_annotations(at);
    }
    let annotations = annotations(fields.at.node, place, GROUP);
    let class = annotations.get("autoscaling.knative.dev/class").map(String::as_str);
    if let Some(class) = class.filter(|class| *class != "kpa.autoscaling.knative.dev") {
        fields.at.problem(format!("the class {class}"), "kpa.autoscaling.knative.dev");
        return None;
    }
    let count = |names: [&str; 2], default: u32| {
        let found = at
            .as_ref()
            .and_then(|at| names.iter().find_map(|name| at.down(&[format!("{GROUP}{name}").as_str()])));
        found.map_or(Some(default), |at| at.written_whole(MAX_REPLICAS))
    };
    let (min, max) = (count(["min-scale", "minScale"], 0), count(["max-scale", "maxScale"], 0));
    // 0 is Knative's word for no limit.
    let max = max.map(|max| if max == 0 { MAX_REPLICAS } else { max });
    let concurrency = fields.at.down(concurrency).map_or(Some(0), |at| at.whole(0, 1000));
    let bounds = bounds(fields, min?, max?, "max-scale")?;
    let policy = KpaPolicy::new(annotations, BTreeMap::new(), concurrency?.into())
        .map_err(|error| fields.at.problem(error.to_string(), "what Knative takes"))
        .ok()?;
    Some((bounds, Policy::Kpa(Box::new(policy))))
}

fn annotations(document: &Node, place: &[&str], group: &str) -> BTreeMap<String, String> {
    let entries = document.at(place).map_or(&[][..], Node::entries);
    entries
        .iter()
        .filter(|entry| entry.key.starts_with(group))
        .filter_map(|entry| Some((entry.key.clone(), entry.value.text()?.to_owned())))
        .collect()
}

fn bounds(fields: &Fields<'_>, min: u32, max: u32, name: &str) -> Option<Bounds> {
    let bounds = Bounds::new(min, max);
    if bounds.is_err() {
        fields.at.problem_at(name, format!("at least the minimum, which is {min}"));
    }
    bounds.ok()
}
