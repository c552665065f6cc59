//! What is scaled: exactly one kind of target.

use std::{collections::BTreeMap, path::PathBuf};

use super::{CheckedScaler, KubernetesTarget, Processes, Target, hooks};
use crate::{
    cursor::{Cursor, Fields},
    yaml::Value,
};

/// Targets that the schema has names for.
const TARGETS: [&str; 7] = [
    "processes",
    "kubernetes",
    "awsAutoScalingGroup",
    "gcpInstanceGroup",
    "azureScaleSet",
    "webhook",
    "exec",
];

/// What a command's arguments and environment have in the place of the replica's port.
pub(super) const PORT: &str = "{port}";

/// `is_sent_requests`: whether its replicas have to listen for them.
pub(super) fn read(at: &Cursor<'_>, is_sent_requests: bool) -> Option<Target> {
    let fields = at.fields()?;
    let chosen = fields.exactly_one(&TARGETS);
    fields.finish();
    let (name, target) = chosen?;
    match name {
        "processes" => processes(&target, is_sent_requests).map(Target::Processes),
        "kubernetes" => kubernetes(&target).map(Target::Kubernetes),
        "webhook" => hooks::webhook(&target).map(Target::Webhook),
        "exec" => hooks::exec(&target).map(Target::Exec),
        _ => {
            target.problem(
                format!("`{name}`, which is not available in this version"),
                "`processes`, `kubernetes`, `webhook` or `exec`",
            );
            None
        }
    }
}

fn processes(at: &Cursor<'_>, is_sent_requests: bool) -> Option<Processes> {
    let fields = at.fields()?;
    let command = self::command(&fields);
    let port = if is_sent_requests {
        fields.require("port", "the port it listens on, or 0 for a free one, passed as `{port}`")
    } else {
        fields.get("port")
    };
    let free = || if is_sent_requests { None } else { Some(0) };
    let port = port.map_or_else(free, |port| port.whole(0, u32::from(u16::MAX)));
    let env = fields.get("env").map(|env| texts_by_name(&env)).unwrap_or_default();
    let working_dir = fields.get("workingDir").and_then(|dir| dir.text()).map(PathBuf::from);
    let grace = fields.get("terminationGracePeriod").map(|grace| grace.duration());
    fields.finish();
    Some(Processes {
        command,
        port: u16::try_from(port?).ok()?,
        env,
        working_dir,
        termination_grace_period: grace.unwrap_or(Some(CheckedScaler::DEFAULT_TERMINATION_GRACE))?,
    })
}

/// `command`, which no shell reads.
pub(super) fn command(fields: &Fields<'_>) -> Vec<String> {
    let at = fields.require("command", "the program and its arguments, as a list");
    let command = at.as_ref().map(Cursor::texts).unwrap_or_default();
    if let Some(at) = at.filter(|at| at.node.items().is_empty() && is_list(at)) {
        at.wanted("the program and its arguments");
    }
    command
}

fn is_list(at: &Cursor<'_>) -> bool {
    matches!(at.node.value, Value::Seq(_))
}

pub(super) fn texts_by_name(at: &Cursor<'_>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    if at.fields().is_some() {
        for entry in at.node.entries() {
            let value = Cursor::new(&entry.value, format!("{}.{}", at.path, entry.key), at.out);
            match &entry.value.value {
                Value::Scalar(scalar) => {
                    texts.insert(entry.key.clone(), scalar.text.clone());
                }
                Value::Seq(_) | Value::Map(_) => value.wanted("text"),
            }
        }
    }
    texts
}

fn kubernetes(at: &Cursor<'_>) -> Option<KubernetesTarget> {
    let fields = at.fields()?;
    let api_version = fields.get("apiVersion").map(|version| version.text());
    let kind = fields.require("kind", "such as Deployment").and_then(|kind| kind.text());
    let name = fields.require("name", "the target's name").and_then(|name| name.text());
    fields.finish();
    Some(KubernetesTarget {
        // What HPA and ScaledObject manifests leave out most often means a Deployment's group.
        api_version: api_version.unwrap_or(Some("apps/v1".into()))?,
        kind: kind?,
        name: name?,
    })
}
