//! What is scaled: any object with a number of replicas, and who wrote that number.

use forewarm_core::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ManagedFieldsEntry};
use kube::{
    ResourceExt as _,
    core::{DynamicObject, Selector},
};
use serde_json::Value;

use crate::pod::timestamp;

/// The name under which forewarm writes; the same for each of its controllers, so that one takes over from another.
pub const FIELD_MANAGER: &str = "forewarm";

/// Where objects of a kind have what matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The number of replicas, such as `.spec.replicas`.
    pub replicas: String,
    /// The pods' labels: a selector object, or text.
    pub selector: String,
}

impl Default for Paths {
    /// As Kubernetes' own workloads have it.
    fn default() -> Self {
        Self { replicas: ".spec.replicas".to_owned(), selector: ".spec.selector".to_owned() }
    }
}

impl Paths {
    /// With the number at another place.
    pub fn with_replicas(path: &str) -> Self {
        Self { replicas: path.to_owned(), ..Self::default() }
    }
}

/// An object that can be scaled, as far as it matters.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetView {
    /// Its identity: one that was deleted and made again is another.
    pub uid: Box<str>,
    /// Its version, for writes that must not miss a change.
    pub resource_version: Box<str>,
    /// How many replicas it is asked for.
    pub desired: u32,
    /// Labels of its pods; `None` when it names none.
    pub selector: Option<Selector>,
    /// Who else than forewarm wrote the number last, if somebody did.
    pub writer: Option<Writer>,
    /// Why its pods cannot be made, as its controller says.
    pub failure: Option<Box<str>>,
}

/// Who wrote a number of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The name under which it writes.
    pub manager: Box<str>,
    /// Whether it used the scale subresource, as autoscalers do.
    pub by_scale: bool,
    /// When.
    pub at: Option<Timestamp>,
}

impl std::fmt::Display for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Writer { manager, by_scale, .. } = self;
        match &**manager {
            "kube-controller-manager" if *by_scale => f.write_str("a HorizontalPodAutoscaler"),
            "argocd-controller" | "argocd-application-controller" => write!(f, "Argo CD (`{manager}`)"),
            "kustomize-controller" | "helm-controller" => write!(f, "Flux (`{manager}`)"),
            "keda" | "keda-operator" => write!(f, "KEDA (`{manager}`)"),
            _ => write!(f, "`{manager}`"),
        }
    }
}

impl TargetView {
    /// Reads an object; `None` when it has no number of replicas.
    pub fn of(object: &DynamicObject, paths: &Paths) -> Option<Self> {
        let desired = at(&object.data, &paths.replicas);
        // Left out means one, as the API server has it for its own kinds.
        let desired = match desired {
            Some(value) => u32::try_from(value.as_i64()?).ok()?,
            None => 1,
        };
        Some(Self {
            uid: object.uid().unwrap_or_default().into(),
            resource_version: object.resource_version().unwrap_or_default().into(),
            desired,
            selector: at(&object.data, &paths.selector).and_then(selector),
            writer: other_writer(object.managed_fields(), &paths.replicas),
            failure: failure(&object.data),
        })
    }

    /// Whether this is older than `other`, as the versions of one object tell.
    pub fn is_older_than(&self, other: &TargetView) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        match (number(&self.resource_version), number(&other.resource_version)) {
            (Some(this), Some(that)) => self.uid == other.uid && this < that,
            _ => false,
        }
    }
}

/// What stands at a path of plain fields, such as `.spec.replicas`.
fn at<'a>(data: &'a Value, path: &str) -> Option<&'a Value> {
    path.trim_start_matches('.').split('.').try_fold(data, |value, field| value.get(field))
}

/// A selector as an object, or as text such as `app=llm,tier=gpu`.
fn selector(value: &Value) -> Option<Selector> {
    match value {
        Value::String(text) => {
            let pairs: Option<Vec<(String, String)>> = text
                .split(',')
                .map(|pair| {
                    let (key, value) = pair.split_once('=')?;
                    let is_plain = !key.ends_with('!') && !key.contains(' ');
                    is_plain.then(|| (key.to_owned(), value.trim_start_matches('=').to_owned()))
                })
                .collect();
            Some(Selector::from_iter(pairs?))
        }
        Value::Object(fields)
            if fields.contains_key("matchLabels") || fields.contains_key("matchExpressions") =>
        {
            let selector: LabelSelector = serde_json::from_value(value.clone()).ok()?;
            Selector::try_from(selector).ok()
        }
        // A ReplicationController's, and that of some custom resources: only labels.
        Value::Object(_) => {
            let labels: std::collections::BTreeMap<String, String> =
                serde_json::from_value(value.clone()).ok()?;
            Some(Selector::from_iter(labels))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

/// The last one that owns the number of replicas, other than forewarm.
fn other_writer(entries: &[ManagedFieldsEntry], path: &str) -> Option<Writer> {
    let owns = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        let field = |value: &'_ Value, name: &str| value.get(format!("f:{name}")).cloned();
        let found = path
            .trim_start_matches('.')
            .split('.')
            .try_fold(fields.cloned()?, |value, name| field(&value, name));
        found.map(|_| ())
    };
    entries
        .iter()
        .filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER))
        .filter(|entry| owns(entry).is_some())
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
        .map(|entry| Writer {
            manager: entry.manager.as_deref().unwrap_or("somebody without a name").into(),
            by_scale: entry.subresource.as_deref() == Some("scale"),
            at: entry.time.as_ref().map(timestamp),
        })
}

/// What a Deployment or ReplicaSet says when it cannot make pods: a quota, a refusing webhook.
fn failure(data: &Value) -> Option<Box<str>> {
    let conditions = data.get("status")?.get("conditions")?.as_array()?;
    let failure = conditions.iter().find(|condition| {
        condition.get("type").and_then(Value::as_str) == Some("ReplicaFailure")
            && condition.get("status").and_then(Value::as_str) == Some("True")
    })?;
    failure.get("message")?.as_str().map(Into::into)
}
