//! What is scaled: exactly one kind of target.

use std::{collections::BTreeMap, path::PathBuf};

use super::{AwsAutoScalingGroup, CheckedScaler, KubernetesTarget, Processes, Target, hooks};
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

/// What is wanted of a role of AWS.
pub(super) const ROLE: &str = "the ARN of a role, such as arn:aws:iam::123456789012:role/forewarm";

/// `is_sent_requests`: whether its replicas have to listen for them.
pub(super) fn read(at: &Cursor<'_>, is_sent_requests: bool) -> Option<Target> {
    let fields = at.fields()?;
    let chosen = fields.exactly_one(&TARGETS);
    fields.finish();
    let (name, target) = chosen?;
    match name {
        "processes" => processes(&target, is_sent_requests).map(Target::Processes),
        "kubernetes" => kubernetes(&target).map(Target::Kubernetes),
        "awsAutoScalingGroup" => auto_scaling_group(&target).map(Target::AwsAutoScalingGroup),
        "webhook" => hooks::webhook(&target).map(Target::Webhook),
        "exec" => hooks::exec(&target).map(Target::Exec),
        _ => {
            target.problem(
                format!("`{name}`, which is not available in this version"),
                "`processes`, `kubernetes`, `awsAutoScalingGroup`, `webhook` or `exec`",
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
    let kind = fields.require("kind", "the resource's kind, such as Deployment").and_then(|kind| kind.text());
    let name = fields.require("name", "the target's name").and_then(|name| name.text());
    let port = fields.get("port").map(|port| port.whole(1, u32::from(u16::MAX)));
    let replicas_path = fields.get("replicasPath").map(|path| self::replicas_path(&path));
    let selector_at = fields.get("selector");
    let selector = selector_at.as_ref().map(texts_by_name).unwrap_or_default();
    fields.finish();
    if replicas_path.is_some() && selector.is_empty() {
        let wanted = "`selector` as well: only a scale subresource says which pods are its own";
        at.problem("`replicasPath` alone", wanted);
        return None;
    }
    Some(KubernetesTarget {
        // What HPA and ScaledObject manifests leave out most often means a Deployment's group.
        api_version: api_version.unwrap_or(Some("apps/v1".into()))?,
        kind: kind?,
        name: name?,
        port: match port {
            Some(port) => Some(u16::try_from(port?).ok()?),
            None => None,
        },
        replicas_path: match replicas_path {
            Some(path) => Some(path?),
            None => None,
        },
        selector,
    })
}

/// A path of plain fields below `.spec`, which is all that is needed to find a number.
fn replicas_path(at: &Cursor<'_>) -> Option<String> {
    let path = at.text()?;
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if path.strip_prefix(".spec.").is_some_and(|rest| rest.split('.').all(plain)) {
        return Some(path);
    }
    at.wanted("a path of fields below .spec, such as .spec.workers");
    None
}

/// What an address of an instance may be made of.
const ADDRESS_PARTS: [&str; 4] = ["{privateIp}", "{publicIp}", "{privateDns}", "{instanceId}"];

fn auto_scaling_group(at: &Cursor<'_>) -> Option<AwsAutoScalingGroup> {
    let fields = at.fields()?;
    let name = fields.require("name", "the group's name").and_then(|name| name.text());
    let region = fields.get("region").map(|region| region.text());
    let address = fields.get("address").map(|address| instance_address(&address));
    let role_arn = fields.get("roleArn").map(|role| role.starting_with("arn:", ROLE));
    let queue = fields
        .get("interruptionQueue")
        .map(|queue| queue.starting_with("http", "the URL of an SQS queue, such as https://sqs.…"));
    fields.finish();
    Some(AwsAutoScalingGroup {
        name: name?,
        region: optional(region)?,
        address: address.unwrap_or_else(|| Some(AwsAutoScalingGroup::DEFAULT_ADDRESS.to_owned()))?,
        role_arn: optional(role_arn)?,
        interruption_queue: optional(queue)?,
    })
}

/// A field that is not there is `Some(None)`, one that is wrong `None`.
fn optional<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    match field {
        Some(value) => value.map(Some),
        None => Some(None),
    }
}

/// `host:port`, in which the host differs from instance to instance.
fn instance_address(at: &Cursor<'_>) -> Option<String> {
    let address = at.text()?;
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let differs = ADDRESS_PARTS.iter().any(|part| address.contains(part));
    let rest = ADDRESS_PARTS.iter().fold(address.clone(), |rest, part| rest.replace(part, ""));
    if differs && port.is_some_and(|port| port > 0) && !rest.contains(['{', '}', '/']) {
        return Some(address);
    }
    at.wanted(format!(
        "a host and a port with one of {} in it, such as {{privateIp}}:8000",
        ADDRESS_PARTS.join(", ")
    ));
    None
}
