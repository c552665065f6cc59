//! What has to hold for everything that is installed.

use serde_json::Value;

/// What in these objects breaks a rule.
pub(crate) fn breaches(objects: &[Value]) -> Vec<String> {
    let mut breaches = Vec::new();
    for object in objects {
        let name = format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"));
        let mut tell = |breach: &str| breaches.push(format!("{name}: {breach}"));
        match text(object, "/kind") {
            "Deployment" => deployment(object, objects, &mut tell),
            "ClusterRole" | "Role" => least_privilege(object, &mut tell),
            "Service" | "PodDisruptionBudget" | "NetworkPolicy" => selects(object, objects, &mut tell),
            _ => {}
        }
    }
    breaches
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn deployment(object: &Value, objects: &[Value], tell: &mut impl FnMut(&str)) {
    let Some(pod) = object.pointer("/spec/template/spec") else { return tell("no pod") };
    if object.pointer("/spec/strategy/rollingUpdate/maxUnavailable") != Some(&Value::from(0)) {
        tell("an update has fewer pods than there should be");
    }
    if pod.pointer("/securityContext/runAsNonRoot") != Some(&Value::Bool(true)) {
        tell("it may run as root");
    }
    if text(pod, "/securityContext/seccompProfile/type") != "RuntimeDefault" {
        tell("no seccomp profile");
    }
    let account = text(pod, "/serviceAccountName");
    if !objects
        .iter()
        .any(|other| text(other, "/kind") == "ServiceAccount" && text(other, "/metadata/name") == account)
    {
        tell("its service account is not there");
    }
    if list(pod, "/topologySpreadConstraints").is_empty() {
        tell("all its pods may be on one node");
    }
    for container in list(pod, "/containers") {
        self::container(container, pod, tell);
    }
}

fn container(container: &Value, pod: &Value, tell: &mut impl FnMut(&str)) {
    let security = &container["securityContext"];
    if security["allowPrivilegeEscalation"] != Value::Bool(false)
        || security["readOnlyRootFilesystem"] != Value::Bool(true)
        || security["capabilities"]["drop"] != serde_json::json!(["ALL"])
    {
        tell("a container with privileges");
    }
    for resource in ["/resources/requests/cpu", "/resources/requests/memory", "/resources/limits/memory"] {
        if container.pointer(resource).is_none() {
            tell(&format!("no {resource}"));
        }
    }
    let ports: Vec<&str> = list(container, "/ports").iter().map(|port| text(port, "/name")).collect();
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        if !ports.contains(&text(container, &format!("/{probe}/httpGet/port"))) {
            tell(&format!("{probe} asks at a port that is not there"));
        }
    }
    // Who is told to stop has to be done before it is killed.
    let seconds = |pointer: &str| container.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let drain = list(container, "/args")
        .iter()
        .filter_map(|argument| {
            argument.as_str()?.strip_prefix("--shutdown-timeout=")?.strip_suffix('s')?.parse::<u64>().ok()
        })
        .sum::<u64>();
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
    if grace <= seconds("/lifecycle/preStop/sleep/seconds") + drain {
        tell("it is killed before it has drained");
    }
    let mounted: Vec<&str> =
        list(container, "/volumeMounts").iter().map(|mount| text(mount, "/name")).collect();
    let volumes: Vec<&str> = list(pod, "/volumes").iter().map(|volume| text(volume, "/name")).collect();
    if mounted != volumes {
        tell("volumes and mounts differ");
    }
    let read = |argument: &Value| {
        let path = argument.as_str().and_then(|argument| argument.split_once("=/etc/")).map(|(_, path)| path);
        path.is_some_and(|path| {
            let under =
                |mount: &Value| path.starts_with(text(mount, "/mountPath").trim_start_matches("/etc/"));
            !list(container, "/volumeMounts").iter().any(under)
        })
    };
    if list(container, "/args").iter().any(read) {
        tell("it reads a file that is not mounted");
    }
}

fn least_privilege(object: &Value, tell: &mut impl FnMut(&str)) {
    if list(object, "/rules").is_empty() {
        tell("a role without rules");
    }
    for rule in list(object, "/rules") {
        if ["/apiGroups", "/resources", "/verbs"]
            .iter()
            .any(|part| list(rule, part).contains(&Value::from("*")))
        {
            tell("a rule for everything");
        }
        if list(rule, "/resources").contains(&Value::from("secrets")) {
            tell("a rule for secrets");
        }
    }
}

/// Whatever selects pods selects those of one Deployment.
fn selects(object: &Value, objects: &[Value], tell: &mut impl FnMut(&str)) {
    let pointer = match text(object, "/kind") {
        "Service" => "/spec/selector",
        "NetworkPolicy" => "/spec/podSelector/matchLabels",
        _ => "/spec/selector/matchLabels",
    };
    let Some(selector) = object.pointer(pointer).and_then(Value::as_object) else {
        return tell("it selects nothing");
    };
    let chosen = |deployment: &&Value| {
        let labels = deployment.pointer("/spec/template/metadata/labels");
        text(deployment, "/kind") == "Deployment"
            && labels
                .is_some_and(|labels| selector.iter().all(|(name, value)| labels.get(name) == Some(value)))
    };
    if objects.iter().filter(chosen).count() != 1 {
        tell("it does not select the pods of one Deployment");
    }
}
