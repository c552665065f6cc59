//! KEDA's own operator and adapter, with the real HPA controller, follow forewarm's decisions. Where they were not built
//! (`cargo xtask testbed keda`), the test says so and passes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{io::Write as _, process::Stdio, time::Duration};

use forewarm_external_scaler::{Reading, Readings, ScalerConfig, ScalerServer, TlsFiles};
use forewarm_testbed::{
    Certificates, Keda,
    control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions, Workload},
};
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::wait::{Condition, await_condition},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Longest wait for anything, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
const NAMESPACE: &str = "follows-keda";

#[expect(clippy::print_stdout, reason = "how a test says that it did not run")]
fn or_skipped<T>(started: Result<T, ControlPlaneError>) -> Option<T> {
    match started {
        Ok(started) => Some(started),
        Err(ControlPlaneError::NotFetched(why)) => {
            println!("skipped: {why}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn apply(plane: &ControlPlane, objects: &[Value]) {
    let mut command = plane.kubectl().unwrap();
    command.args(["apply", "--server-side", "--namespace", NAMESPACE, "--filename", "-"]);
    let mut kubectl = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    kubectl.stdin.take().unwrap().write_all(list.to_string().as_bytes()).unwrap();
    assert!(kubectl.wait().unwrap().success());
}

/// Follows an external scaler over TLS with certificates on both sides.
fn scaled_object(address: &str, certificates: &Certificates) -> [Value; 3] {
    let read = |path| std::fs::read_to_string(path).unwrap();
    let key =
        |parameter: &str, key: &str| json!({"parameter": parameter, "name": "forewarm-client", "key": key});
    // As docs/keda.md has it.
    let at_once = |kind: &str, value: u32| {
        json!({
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": kind, "value": value, "periodSeconds": 1}],
            "tolerance": "0",
        })
    };
    let behavior = json!({"scaleUp": at_once("Pods", 1000), "scaleDown": at_once("Percent", 100)});
    [
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "forewarm-client"},
            "stringData": {
                "ca.crt": read(&certificates.ca),
                "tls.crt": read(&certificates.client_cert),
                "tls.key": read(&certificates.client_key),
            },
        }),
        json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "TriggerAuthentication",
            "metadata": {"name": "forewarm"},
            "spec": {"secretTargetRef": [
                key("caCert", "ca.crt"), key("tlsClientCert", "tls.crt"), key("tlsClientKey", "tls.key"),
            ]},
        }),
        json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "llm"},
            "spec": {
                "scaleTargetRef": {"name": "llm"},
                "minReplicaCount": 0,
                "maxReplicaCount": 20,
                "cooldownPeriod": 0,
                // So that nothing happens because it was asked for: what wakes the target is the push.
                "pollingInterval": 86_400,
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
                "triggers": [{
                    "type": "external-push",
                    "metadata": {"scalerAddress": address, "enableTLS": "true", "scaler": "llama3"},
                    "authenticationRef": {"name": "forewarm"},
                }],
            },
        }),
    ]
}

fn replicas(count: i32) -> impl Condition<Deployment> {
    move |deployment: Option<&Deployment>| {
        let spec = deployment.and_then(|deployment| deployment.spec.as_ref());
        spec.is_some_and(|spec| spec.replicas == Some(count))
    }
}

fn scaling(active: &'static str) -> impl Condition<HorizontalPodAutoscaler> {
    move |hpa: Option<&HorizontalPodAutoscaler>| {
        let conditions = hpa.and_then(|hpa| hpa.status.as_ref()?.conditions.as_ref());
        conditions
            .is_some_and(|all| all.iter().any(|one| one.type_ == "ScalingActive" && one.status == active))
    }
}

async fn reached<K>(api: &Api<K>, name: &str, what: &str, condition: impl Condition<K>)
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + kube::Resource + 'static,
{
    let reached = timeout(PATIENCE, await_condition(api.clone(), name, condition)).await;
    match reached {
        Ok(seen) => drop(seen.unwrap()),
        Err(_) => panic!("not within {} s: {what}; it is {:?}", PATIENCE.as_secs(), api.get(name).await),
    }
}

#[tokio::test]
async fn keda_follows_decisions_from_zero_and_back() {
    let Some(plane) = or_skipped(ControlPlane::start(ControlPlaneOptions::default()).await) else { return };
    let Some(_keda) = or_skipped(Keda::start(&plane).await) else { return };
    let client = plane.client().await.unwrap();
    plane.namespace(NAMESPACE).await.unwrap();
    plane.gpu_node("gpu", 32).await.unwrap();
    plane.deploy(NAMESPACE, &Workload::new("llm", 0)).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path()).unwrap();
    let readings = Readings::default();
    let config = ScalerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        tls: Some(TlsFiles {
            cert: certificates.cert.clone(),
            key: certificates.key.clone(),
            client_ca: Some(certificates.ca.clone()),
        }),
        namespaced: true,
        max_age: PATIENCE * 10,
    };
    let server = ScalerServer::bind(config, readings.clone()).await.unwrap();
    let address = format!("localhost:{}", server.local_addr().unwrap().port());
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(server.serve(shutdown.clone()));
    let decided = |desired: Option<u32>| {
        let reading = Reading { desired, queued: None, in_flight: None, at: Some(Instant::now()) };
        readings.publish(&format!("{NAMESPACE}/llama3"), reading);
    };
    decided(Some(0));
    apply(&plane, &scaled_object(&address, &certificates));

    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), NAMESPACE);
    reached(&hpas, "keda-hpa-llm", "KEDA makes its HPA", |hpa: Option<&HorizontalPodAutoscaler>| {
        hpa.is_some()
    })
    .await;
    // One by one is what KEDA's HPA would not do by itself: 4 → 12 → 11 crosses its speed limit and its tolerance.
    for desired in [1, 4, 12, 11] {
        decided(Some(desired));
        let desired = i32::try_from(desired).unwrap();
        reached(&deployments, "llm", &format!("{desired} replicas"), replicas(desired)).await;
    }

    decided(None);
    reached(&hpas, "keda-hpa-llm", "the HPA sees an error", scaling("False")).await;
    let held = deployments.get("llm").await.unwrap().spec.unwrap().replicas;
    assert_eq!(held, Some(11), "what is not known takes nothing away");
    decided(Some(2));
    reached(&deployments, "llm", "2 replicas, as soon as something is known", replicas(2)).await;

    // Down to zero is KEDA's own doing, at a poll.
    decided(Some(0));
    let resource = kube::api::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
        "keda.sh",
        "v1alpha1",
        "ScaledObject",
    ));
    let objects: Api<kube::api::DynamicObject> = Api::namespaced_with(client, NAMESPACE, &resource);
    let often = json!({"spec": {"pollingInterval": 1}});
    objects.patch("llm", &PatchParams::default(), &Patch::Merge(often)).await.unwrap();
    reached(&deployments, "llm", "no replicas", replicas(0)).await;
    decided(Some(3));
    reached(&deployments, "llm", "3 replicas from none", replicas(3)).await;
    shutdown.cancel();
    served.await.unwrap().unwrap();
}
