//! What is installed, against the real API server: it is taken, its pods are as restricted as they say, and the controller
//! works with exactly the rights it is given.

mod rights;

use std::{io::Write as _, process::Stdio};

use forewarm_testbed::{control_plane::ControlPlane, helm::Chart};
use serde_json::{Value, json};

use crate::shared;

/// Everything but what needs definitions that are not here.
const EVERYTHING: &[&str] = &[
    "networkPolicy.scrapers[0].namespaceSelector.matchLabels.name=monitoring",
    "gateway.tlsSecret=gateway-tls",
    "gateway.keysSecret=gateway-keys",
    "gateway.service.type=LoadBalancer",
    "gateway.clients[0].podSelector.matchLabels.app=frontend",
    "gateway.priorityClassName=system-cluster-critical",
    "metricsApi.enabled=true",
    "externalScaler.enabled=true",
    "externalScaler.tlsSecret=external-scaler-tls",
    "externalScaler.mutualTls=true",
];

/// The chart, or nothing after it was said that the test is skipped.
#[expect(clippy::print_stdout, reason = "how a test says that it did not run")]
fn chart() -> Option<Chart> {
    Chart::open().inspect_err(|why| println!("skipped: {why}")).ok()
}

/// Runs `kubectl` on objects; what it says when it fails.
fn kubectl(plane: &ControlPlane, words: &[&str], objects: &[Value]) -> Result<(), String> {
    let mut command = plane.kubectl().unwrap();
    command.args(words).args(["--filename", "-"]);
    let mut kubectl =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    kubectl.stdin.take().unwrap().write_all(list.to_string().as_bytes()).unwrap();
    let output = kubectl.wait_with_output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn namespace(name: &str) -> Value {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

#[tokio::test]
async fn the_api_server_takes_everything_that_the_chart_makes() {
    let (Some(plane), Some(chart)) = (shared().await, chart()) else { return };
    // Only a namespace that is there takes anything, even for show.
    kubectl(plane, &["apply", "--server-side"], &[namespace("forewarm")]).unwrap();
    for values in [&[][..], EVERYTHING] {
        let objects = chart.objects(values).unwrap();
        let pretend = ["apply", "--server-side", "--dry-run=server", "--validate=strict"];
        kubectl(plane, &pretend, &objects).unwrap();
        let deployments: Vec<&Value> =
            objects.iter().filter(|object| object["kind"] == "Deployment").collect();
        assert!(deployments.len() >= 2, "{}", deployments.len());
        // A Deployment is only warned about; its pods are refused.
        for deployment in deployments {
            let template = &deployment["spec"]["template"];
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]});
            pod["metadata"] = json!({"name": deployment["metadata"]["name"], "namespace": "forewarm"});
            kubectl(plane, &pretend, &[pod]).unwrap();
        }
    }
}

#[tokio::test]
async fn a_pod_that_is_not_restricted_is_refused_here() {
    let Some(plane) = shared().await else { return };
    kubectl(plane, &["apply", "--server-side"], &[namespace("strict")]).unwrap();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "anything", "namespace": "strict"},
        "spec": {"containers": [{"name": "anything", "image": "anything"}]},
    });
    let said = kubectl(plane, &["apply", "--server-side", "--dry-run=server"], &[pod]).unwrap_err();
    assert!(said.contains("violates PodSecurity"), "{said}");
}
