//! The Helm chart, and the manifests made of it. Without Helm (`cargo xtask testbed helm`) each test says so and passes.
//!
//! `cargo xtask generate` writes the manifests and the golden file again.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

mod rules;

use std::path::{Path, PathBuf};

use forewarm_testbed::helm::{self, Chart};
use serde_json::Value;

/// Everything on, so that every line of the templates is in the golden file.
const EVERYTHING: &[&str] = &[
    "image.repository=registry.example/forewarm",
    "image.pullSecrets[0].name=registry",
    "networkPolicy.scrapers[0].namespaceSelector.matchLabels.name=monitoring",
    "serviceMonitor.enabled=true",
    "serviceMonitor.labels.release=prometheus",
    "gateway.tlsSecret=gateway-tls",
    "gateway.keysSecret=gateway-keys",
    "gateway.controlTokenSecret=control-token",
    "gateway.clients[0].podSelector.matchLabels.app=frontend",
    "gateway.service.type=LoadBalancer",
    "gateway.service.annotations.example=yes",
    "gateway.priorityClassName=system-cluster-critical",
    "controller.scales[0].apiGroup=apps",
    "controller.scales[0].resources[0]=deployments",
    "controller.scales[1].apiGroup=leaderworkerset.x-k8s.io",
    "controller.scales[1].resources[0]=leaderworkersets",
    "controller.scales[2].apiGroup=example.com",
    "controller.scales[2].resources[0]=pools",
    "controller.scales[2].scale=false",
    "controller.nodeSelector.pool=cpu",
    "controller.serviceAccount.annotations.eks\\.amazonaws\\.com/role-arn=arn:aws:iam::123456789012:role/forewarm",
    "controller.tolerations[0].operator=Exists",
    "metricsApi.enabled=true",
    "metricsApi.tlsSecret=metrics-api-tls",
    "metricsApi.caBundle=-----BEGIN CERTIFICATE-----",
    "externalScaler.enabled=true",
    "externalScaler.tlsSecret=external-scaler-tls",
    "externalScaler.mutualTls=true",
];
/// What the plain manifests are made with: the secret is the user's, since a manifest in a repository can have none.
const PLAIN: &[&str] = &["gateway.controlTokenSecret=forewarm-gateway-control", "crd.install=false"];
/// In front of the plain manifests.
const NAMESPACE: &str = "\
# Made of the Helm chart by `cargo xtask generate`.
apiVersion: v1
kind: Namespace
metadata:
  name: forewarm
  labels: {pod-security.kubernetes.io/enforce: restricted}
";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// The chart, or nothing after it was said that the test is skipped.
#[expect(clippy::print_stdout, reason = "how a test says that it did not run")]
fn chart() -> Option<Chart> {
    Chart::open().inspect_err(|why| println!("skipped: {why}")).ok()
}

/// Compares with a file, after writing it if asked to.
fn golden(file: &Path, made: &str) {
    if std::env::var_os("FOREWARM_WRITE_GENERATED").is_some() {
        std::fs::write(file, made).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(kept == made, "{} is not what the chart makes: run `cargo xtask generate`", file.display());
}

/// Without the marks of a release, which nobody made.
fn plain(rendered: &str) -> String {
    let marks = ["app.kubernetes.io/managed-by:", "helm.sh/"];
    let marked = |line: &&str| marks.iter().any(|mark| line.trim_start().starts_with(mark));
    let lines: Vec<&str> = rendered.lines().filter(|line| !marked(line)).collect();
    format!("{NAMESPACE}{}\n", lines.join("\n").trim_end())
}

#[test]
fn every_line_of_the_chart_is_as_it_was() {
    let Some(chart) = chart() else { return };
    let golden_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helm/everything.yaml");
    golden(&golden_file, &chart.render(EVERYTHING).unwrap());
}

#[test]
fn the_chart_has_the_resource_as_it_is() {
    let Some(chart) = chart() else { return };
    let resource = std::fs::read_to_string(deploy().join("crd.yaml")).unwrap();
    golden(&chart.folder().join("crd.yaml"), &resource);
    let all = chart.objects(&[]).unwrap();
    let mut rendered = all.into_iter().find(|object| object["kind"] == "CustomResourceDefinition").unwrap();
    let annotations = rendered["metadata"].as_object_mut().unwrap().remove("annotations").unwrap();
    assert_eq!(annotations["helm.sh/resource-policy"], "keep");
    assert!(rendered == helm::objects(&resource).unwrap()[0], "the same but for the annotation");
}

#[test]
fn the_plain_manifests_are_what_the_chart_makes() {
    let Some(chart) = chart() else { return };
    let manifests = deploy().join("manifests");
    let resource = std::fs::read_to_string(deploy().join("crd.yaml")).unwrap();
    let made = plain(&chart.render(PLAIN).unwrap());
    golden(&manifests.join("forewarm.yaml"), &format!("{made}---\n{resource}"));
    let only = [
        "gateway.enabled=false",
        "controller.enabled=false",
        "crd.install=false",
        "externalScaler.enabled=true",
    ];
    golden(&manifests.join("external-scaler.yaml"), &plain(&chart.render(&only).unwrap()));
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    let Some(chart) = chart() else { return };
    for values in [&[][..], PLAIN, EVERYTHING] {
        chart.lint(values).unwrap();
    }
}

#[test]
fn wrong_values_are_refused_by_name() {
    let Some(chart) = chart() else { return };
    for (value, said) in [
        ("gatewy.replicas=2", "'gatewy' not allowed"),
        ("gateway.replicas=0", "/gateway/replicas"),
        ("gateway.drainSeconds=0", "/gateway/drainSeconds"),
        ("gateway.service.type=Ingress", "/gateway/service/type"),
        ("gateway.tlsSecret=Not A Name", "/gateway/tlsSecret"),
        ("controller.scales[0].scale=maybe", "/controller/scales/0/scale"),
        ("image.digest=sha256:short", "/image/digest"),
        ("log.format=xml", "/log/format"),
        ("metricsApi.tlsSecret=mine", "/metricsApi/caBundle"),
        ("externalScaler.mutualTls=true", "/externalScaler/tlsSecret"),
        ("serviceMonitor.interval=often", "/serviceMonitor/interval"),
    ] {
        let error = chart.render(&[value]).expect_err(value);
        assert!(error.contains(said), "{value}: {error}");
    }
}

#[test]
fn what_is_installed_keeps_the_rules() {
    let Some(chart) = chart() else { return };
    for values in [&[][..], PLAIN, EVERYTHING, &["metricsApi.enabled=true", "externalScaler.enabled=true"]] {
        let breaches = rules::breaches(&chart.objects(values).unwrap());
        assert!(breaches.is_empty(), "{values:?}: {breaches:#?}");
    }
}

#[test]
fn secrets_are_made_at_random() {
    let Some(chart) = chart() else { return };
    let secrets = || {
        let all = chart.objects(&["metricsApi.enabled=true"]).unwrap();
        let secrets = all.into_iter().filter(|document| document["kind"] == "Secret");
        secrets.map(|secret| secret["data"].clone()).collect::<Vec<_>>()
    };
    let (first, second) = (secrets(), secrets());
    assert_eq!((first.len(), second.len()), (2, 2));
    assert!(first.iter().all(|data| !second.contains(data)), "{first:?}");
    assert!(
        first.iter().any(|data| data["token"].as_str().is_some_and(|token| token.len() >= 64)),
        "{first:?}"
    );
}

#[test]
fn the_api_server_trusts_the_certificate_that_was_made() {
    let Some(chart) = chart() else { return };
    let all = chart.objects(&["metricsApi.enabled=true"]).unwrap();
    let secret = all.iter().find(|document| document["type"] == "kubernetes.io/tls").unwrap();
    let services: Vec<&Value> = all.iter().filter(|document| document["kind"] == "APIService").collect();
    assert_eq!(services.len(), 3);
    assert!(services.iter().all(|service| service["spec"]["caBundle"] == secret["data"]["tls.crt"]));
}
