//! Every manifest of a run, and what it is, told by its content.

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::ColdStartSpec;

use super::Source;
use crate::yaml::{self, Entry, Node, Span, Value};

/// A node and the path that leads to it.
#[derive(Clone)]
pub(crate) struct Loc<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: String,
}

impl<'a> Loc<'a> {
    pub(crate) fn get(&self, key: &str) -> Option<Loc<'a>> {
        self.node.get(key).map(|node| Loc { node, path: self.path_of(key) })
    }

    pub(crate) fn at(&self, keys: &[&str]) -> Option<Loc<'a>> {
        keys.iter().try_fold(self.clone(), |loc, key| loc.get(key))
    }

    pub(crate) fn items(&self) -> Vec<Loc<'a>> {
        let items = self.node.items().iter().enumerate();
        items.map(|(index, node)| Loc { node, path: format!("{}[{index}]", self.path) }).collect()
    }

    pub(crate) fn list(&self, keys: &[&str]) -> Vec<Loc<'a>> {
        self.at(keys).map(|list| list.items()).unwrap_or_default()
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.node.entry(key)
    }

    pub(crate) fn text(&self, keys: &[&str]) -> Option<&'a str> {
        self.node.at(keys).and_then(Node::text)
    }

    pub(crate) fn number(&self, keys: &[&str]) -> Option<f64> {
        self.node.at(keys).and_then(Node::number)
    }

    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hpa,
    ScaledObject,
    ScaledJob,
    Knative,
    /// Deployment, StatefulSet and the like.
    Workload,
    InferenceScaler,
    /// The rules of prometheus-adapter.
    AdapterRules,
    /// `put_scaling_policy` of EC2 Auto Scaling.
    Ec2Policy,
    /// `put_scaling_policy` of Application Auto Scaling.
    ApplicationPolicy,
    Other,
}

/// One document, or one item of a `List`.
pub(crate) struct Manifest<'a> {
    pub(crate) source: &'a Source,
    pub(crate) kind: Kind,
    pub(crate) root: Loc<'a>,
}

/// What is scaled: enough to tell whether two autoscalers mean the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TargetRef {
    pub(crate) namespace: String,
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl<'a> Manifest<'a> {
    pub(crate) fn spec(&self) -> Option<Loc<'a>> {
        self.root.get("spec")
    }

    pub(crate) fn name(&self) -> &'a str {
        self.root.text(&["metadata", "name"]).unwrap_or("(no name)")
    }

    fn namespace(&self) -> String {
        self.root.text(&["metadata", "namespace"]).unwrap_or("default").to_owned()
    }

    /// Where an autoscaler names its target.
    pub(crate) fn target_loc(&self) -> Option<Loc<'a>> {
        match self.kind {
            Kind::Hpa | Kind::ScaledObject => self.root.at(&["spec", "scaleTargetRef"]),
            Kind::InferenceScaler => self.root.at(&["spec", "target", "kubernetes"]),
            Kind::ScaledJob
            | Kind::Knative
            | Kind::Workload
            | Kind::AdapterRules
            | Kind::Ec2Policy
            | Kind::ApplicationPolicy
            | Kind::Other => None,
        }
    }

    /// What an autoscaler scales.
    pub(crate) fn target(&self) -> Option<TargetRef> {
        let loc = self.target_loc()?;
        Some(TargetRef {
            namespace: self.namespace(),
            kind: loc.text(&["kind"]).unwrap_or("Deployment").to_owned(),
            name: loc.text(&["name"])?.to_owned(),
        })
    }

    /// What others name to scale this workload.
    pub(crate) fn identity(&self) -> TargetRef {
        TargetRef {
            namespace: self.namespace(),
            kind: self.root.text(&["kind"]).unwrap_or_default().to_owned(),
            name: self.name().to_owned(),
        }
    }

    /// `behavior` of `autoscaling/v2`, wherever this kind has it.
    pub(crate) fn behavior(&self) -> Option<Loc<'a>> {
        match self.kind {
            Kind::Hpa | Kind::InferenceScaler => self.root.at(&["spec", "behavior"]),
            Kind::ScaledObject => {
                self.root.at(&["spec", "advanced", "horizontalPodAutoscalerConfig", "behavior"])
            }
            Kind::ScaledJob
            | Kind::Knative
            | Kind::Workload
            | Kind::AdapterRules
            | Kind::Ec2Policy
            | Kind::ApplicationPolicy
            | Kind::Other => None,
        }
    }

    /// The PromQL expressions of this manifest.
    pub(crate) fn queries(&self) -> Vec<Loc<'a>> {
        let from = |items: Vec<Loc<'a>>, keys: &[&str]| -> Vec<Loc<'a>> {
            items.iter().filter_map(|item| item.at(keys)).collect()
        };
        match self.kind {
            Kind::ScaledObject | Kind::ScaledJob => from(prometheus_triggers(self), &["metadata", "query"]),
            Kind::InferenceScaler => from(self.root.list(&["spec", "signals"]), &["prometheus", "query"]),
            Kind::AdapterRules => {
                let rules = ["rules", "externalRules"].map(|key| self.root.list(&[key])).concat();
                [from(rules.clone(), &["seriesQuery"]), from(rules, &["metricsQuery"])].concat()
            }
            Kind::Hpa
            | Kind::Knative
            | Kind::Workload
            | Kind::Ec2Policy
            | Kind::ApplicationPolicy
            | Kind::Other => Vec::new(),
        }
    }

    /// The names of the metrics of an HPA, by where they stand.
    pub(crate) fn metric_names(&self) -> Vec<Loc<'a>> {
        let mut names = Vec::new();
        if self.kind == Kind::Hpa {
            for metric in self.root.list(&["spec", "metrics"]) {
                for source in ["pods", "object", "external"] {
                    // autoscaling/v2beta1 has `metricName` where v2 has `metric.name`.
                    names.extend(metric.at(&[source, "metric", "name"]));
                    names.extend(metric.at(&[source, "metricName"]));
                }
            }
        }
        names
    }
}

/// The triggers of a ScaledObject or ScaledJob.
pub(crate) fn triggers<'a>(manifest: &Manifest<'a>) -> Vec<Loc<'a>> {
    match manifest.kind {
        Kind::ScaledObject | Kind::ScaledJob => manifest.root.list(&["spec", "triggers"]),
        Kind::Hpa
        | Kind::Knative
        | Kind::Workload
        | Kind::InferenceScaler
        | Kind::AdapterRules
        | Kind::Ec2Policy
        | Kind::ApplicationPolicy
        | Kind::Other => Vec::new(),
    }
}

/// Those of type `prometheus`.
pub(crate) fn prometheus_triggers<'a>(manifest: &Manifest<'a>) -> Vec<Loc<'a>> {
    let mut triggers = triggers(manifest);
    triggers.retain(|trigger| trigger.text(&["type"]) == Some("prometheus"));
    triggers
}

/// Every manifest of a run.
pub(crate) struct World<'a> {
    pub(crate) manifests: Vec<Manifest<'a>>,
    /// Which of them scale a target, in their order.
    autoscalers: BTreeMap<TargetRef, Vec<usize>>,
}

impl<'a> World<'a> {
    pub(crate) fn of(documents: &'a [(&'a Source, Node)]) -> Self {
        let mut world = Self { manifests: Vec::new(), autoscalers: BTreeMap::new() };
        for (source, node) in documents {
            world.add(source, Loc { node, path: String::new() });
        }
        for (index, manifest) in world.manifests.iter().enumerate() {
            if let Some(target) = manifest.target() {
                world.autoscalers.entry(target).or_default().push(index);
            }
        }
        world
    }

    fn add(&mut self, source: &'a Source, root: Loc<'a>) {
        let kind = root.text(&["kind"]).unwrap_or_default();
        if kind == "List" || (kind.ends_with("List") && root.get("items").is_some()) {
            for item in root.list(&["items"]) {
                self.add(source, item);
            }
            return;
        }
        self.manifests.push(Manifest { source, kind: kind_of(&root), root });
    }

    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Manifest<'a>> {
        self.manifests.iter().filter(move |manifest| manifest.kind == kind)
    }

    /// What scales a workload by its identity, in the order of the manifests.
    pub(crate) fn autoscalers_of(&self, identity: &TargetRef) -> impl Iterator<Item = &Manifest<'a>> {
        self.autoscalers.get(identity).into_iter().flatten().filter_map(|&index| self.manifests.get(index))
    }

    /// How long a start of this autoscaler's target takes: what an `InferenceScaler` for the same target
    /// says, else the usual.
    pub(crate) fn cold_start(&self, manifest: &Manifest<'a>) -> Duration {
        let target = manifest.target();
        let said = target
            .iter()
            .flat_map(|target| self.autoscalers_of(target))
            .filter(|scaler| scaler.kind == Kind::InferenceScaler)
            .find_map(|scaler| scaler.root.text(&["spec", "coldStart", "expected"]))
            .and_then(|text| crate::quantity::duration(text).ok());
        said.unwrap_or_else(|| ColdStartSpec::default().expected)
    }
}

fn kind_of(root: &Loc<'_>) -> Kind {
    let api = root.text(&["apiVersion"]).unwrap_or_default();
    match root.text(&["kind"]).unwrap_or_default() {
        "HorizontalPodAutoscaler" => Kind::Hpa,
        "ScaledObject" => Kind::ScaledObject,
        "ScaledJob" => Kind::ScaledJob,
        "InferenceScaler" => Kind::InferenceScaler,
        "Service" | "Revision" | "Configuration" | "PodAutoscaler" if api.contains("knative.dev") => {
            Kind::Knative
        }
        "Deployment" | "StatefulSet" | "ReplicaSet" | "LeaderWorkerSet" => Kind::Workload,
        "" if root.get("TargetTrackingScalingPolicyConfiguration").is_some()
            || root.get("ScalableDimension").is_some() =>
        {
            Kind::ApplicationPolicy
        }
        "" if root.get("AutoScalingGroupName").is_some()
            || root.get("TargetTrackingConfiguration").is_some() =>
        {
            Kind::Ec2Policy
        }
        "" if root.list(&["rules"]).iter().any(|rule| rule.get("seriesQuery").is_some())
            || root.list(&["externalRules"]).iter().any(|rule| rule.get("seriesQuery").is_some()) =>
        {
            Kind::AdapterRules
        }
        _ => Kind::Other,
    }
}

/// The adapter rules inside a ConfigMap's values. Their places are those of the values, and empty: a text
/// inside a text has no places of its own, and nothing in it is edited.
pub(crate) fn embedded_rules(node: &Node) -> Vec<Node> {
    if node.get("kind").and_then(Node::text) != Some("ConfigMap") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for entry in node.get("data").map(Node::entries).unwrap_or_default() {
        let Some(Ok(documents)) = entry.value.text().map(yaml::parse) else { continue };
        for mut inner in documents {
            let is_rules = kind_of(&Loc { node: &inner, path: String::new() }) == Kind::AdapterRules;
            if is_rules {
                place(&mut inner, Span { end: entry.value.span.start, ..entry.value.span });
                found.push(inner);
            }
        }
    }
    found
}

fn place(node: &mut Node, span: Span) {
    node.span = span;
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::Seq(items) => items.iter_mut().for_each(|item| place(item, span)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.key_span = span;
            place(&mut entry.value, span);
        }),
    }
}
