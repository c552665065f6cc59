//! The real HPA on metrics from forewarm, with no Prometheus and no adapter; and who gets them otherwise.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use forewarm_core::ScalerId;
use forewarm_kubernetes::resource::InferenceScaler;
use forewarm_manifest::convert::{Form, convert};
use forewarm_metrics_api::{EngineOptions, Queues, SCALER_LABEL};
use forewarm_testbed::control_plane::{ControlPlane, Identity, Workload};
use futures_util::future::{BoxFuture, FutureExt};
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::{HorizontalPodAutoscaler, MetricStatus},
    core::v1::{Pod, Service},
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::Condition,
};
use serde_json::{Value, json};

use crate::{
    cluster::{Engines, Metrics, apply, serve_text, until},
    rig::Rig,
    shared,
};

const SEED: &str = include_str!("../../../../examples/seed/hpa.yaml");

/// Engines that are silent for a second have no value.
fn impatient() -> EngineOptions {
    EngineOptions { keep_for: Duration::from_secs(1), ..EngineOptions::default() }
}

fn replicas(count: i32) -> impl Condition<Deployment> {
    move |deployment: Option<&Deployment>| {
        let spec = deployment.and_then(|deployment| deployment.spec.as_ref());
        spec.is_some_and(|spec| spec.replicas == Some(count))
    }
}

fn ready(count: i32) -> impl Condition<Deployment> {
    move |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| {
            status.ready_replicas.unwrap_or(0) == count && status.replicas.unwrap_or(0) == count
        })
    }
}

/// Whether a condition of the HPA has this status and reason.
fn says(
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
) -> impl Condition<HorizontalPodAutoscaler> {
    move |hpa: Option<&HorizontalPodAutoscaler>| {
        let conditions = hpa.and_then(|hpa| hpa.status.as_ref()?.conditions.as_ref());
        conditions.into_iter().flatten().any(|condition| {
            condition.type_ == kind
                && condition.status == status
                && condition.reason.as_deref() == Some(reason)
        })
    }
}

/// An HPA that goes up and down as far as it wants, at once.
fn quick_hpa(namespace: &str, average: &str) -> HorizontalPodAutoscaler {
    let at_once = json!({
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}],
    });
    serde_json::from_value(json!({
        "metadata": {"name": "llm", "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llm"},
            "minReplicas": 1,
            "maxReplicas": 8,
            "metrics": [{
                "type": "Pods",
                "pods": {
                    "metric": {"name": "vllm_pending_requests"},
                    "target": {"type": "AverageValue", "averageValue": average},
                },
            }],
            "behavior": {"scaleUp": at_once, "scaleDown": at_once},
        },
    }))
    .unwrap()
}

/// A path of the API server, and what it answers.
async fn ask(client: &Client, path: &str) -> Result<Value, (u16, String)> {
    match client.request::<Value>(http::Request::get(path).body(Vec::new()).unwrap()).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err((status.code, status.message.clone())),
        Err(error) => panic!("{error}"),
    }
}

/// The values of a list of metrics, by the object that they describe.
fn values(list: &Value) -> BTreeMap<String, String> {
    let items = list["items"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    items.iter().map(|item| (text(&item["describedObject"]["name"]), text(&item["value"]))).collect()
}

async fn pod_names(client: &Client, namespace: &str) -> Vec<String> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default()).await.unwrap();
    pods.items.iter().map(ResourceExt::name_any).collect()
}

/// Waits until the API server gives a metric such a value: it takes a moment until it knows a new API.
async fn eventually(client: &Client, path: &str, expected: impl Fn(&Result<Value, (u16, String)>) -> bool) {
    let reached = async {
        loop {
            let answer = ask(client, path).await;
            if expected(&answer) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let reached = tokio::time::timeout(crate::cluster::SOON, reached).await;
    assert!(reached.is_ok(), "{path}: {:?}", ask(client, path).await);
}

#[tokio::test]
async fn the_hpa_of_the_seed_scales_as_it_is_written_and_so_does_what_it_is_converted_to() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "ai-serving", 8).await;
    let client = rig.client.clone();
    plane.namespace("gpu-exporters").await.unwrap();
    plane.deploy("ai-serving", &Workload::new("vllm-llama3", 1)).await.unwrap();
    let mut exporter = Workload { gpus: 0, port: 9400, ..Workload::new("dcgm", 1) }.deployment();
    let template = exporter.spec.as_mut().unwrap().template.metadata.as_mut().unwrap();
    let name = ("app.kubernetes.io/name".to_owned(), "dcgm-exporter".to_owned());
    template.labels.as_mut().unwrap().extend([name]);
    let exporters: Api<Deployment> = Api::namespaced(client.clone(), "gpu-exporters");
    exporters.create(&PostParams::default(), &exporter).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "ai-serving");
    until(&deployments, "vllm-llama3", ready(1)).await;
    until(&exporters, "dcgm", ready(1)).await;

    let pod = pod_names(&client, "ai-serving").await.remove(0);
    let exporter = Api::<Pod>::namespaced(client.clone(), "gpu-exporters").list(&ListParams::default()).await;
    let address = exporter.unwrap().items.remove(0).status.unwrap().pod_ip.unwrap();
    let busy = format!("DCGM_FI_DEV_GPU_UTIL{{gpu=\"0\",namespace=\"ai-serving\",pod=\"{pod}\"}} 93\n");
    let address = SocketAddr::from((address.parse::<std::net::IpAddr>().unwrap(), 9400));
    let _exporter = serve_text(address, Arc::new(Mutex::new(busy))).await;
    let _engines = Engines::follow(client.clone(), "ai-serving", 50.0);
    let metrics = Metrics::start(plane, EngineOptions::default(), None).await;

    let hpa: HorizontalPodAutoscaler = serde_saphyr::from_str(SEED).unwrap();
    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(client, "ai-serving");
    apply(&hpas, &hpa).await;
    // +2 pods after the 30 s for which the seed's HPA waits.
    until(&deployments, "vllm-llama3", replicas(3)).await;
    let hpa = hpas.get("vllm-autoscaler").await.unwrap();
    let status = hpa.status.unwrap();
    let seen = |metric: &MetricStatus| {
        let pods = metric.pods.as_ref().unwrap();
        (pods.metric.name.clone(), pods.current.average_value.as_ref().unwrap().0.clone())
    };
    let seen: BTreeMap<String, String> = status
        .current_metrics
        .as_ref()
        .unwrap()
        .iter()
        .filter(|metric| metric.pods.is_some())
        .map(seen)
        .collect();
    assert_eq!(seen.get("nvidia_gpu_duty_cycle").map(String::as_str), Some("93"), "{seen:?}");
    assert_eq!(seen.get("vllm_pending_requests").map(String::as_str), Some("50"), "{seen:?}");
    metrics.end().await;

    // The same manifest as forewarm's own, with no HPA: as many, as late.
    hpas.delete("vllm-autoscaler", &DeleteParams::default()).await.unwrap();
    let back = Patch::Merge(json!({"spec": {"replicas": 1}}));
    deployments.patch("vllm-llama3", &PatchParams::default(), &back).await.unwrap();
    until(&deployments, "vllm-llama3", ready(1)).await;
    let converted = convert("hpa.yaml", SEED, Form::InferenceScaler).unwrap().remove(0);
    let scaler: InferenceScaler = serde_saphyr::from_str(&converted.yaml).unwrap();
    rig.report("vllm-autoscaler", |report| report.queued = 50);
    rig.scalers().create(&PostParams::default(), &scaler).await.unwrap();
    let running = rig.start("seed");
    rig.until_asked_for("vllm-llama3", 3).await;
    running.stop().await;
}

#[tokio::test]
async fn an_hpa_goes_up_and_down_and_holds_while_nobody_answers() {
    let Some(plane) = shared().await else { return };
    let client = plane.client().await.unwrap();
    plane.namespace("updown").await.unwrap();
    plane.gpu_node("updown", 8).await.unwrap();
    plane.deploy("updown", &Workload::new("llm", 1)).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "updown");
    until(&deployments, "llm", ready(1)).await;
    let engines = Engines::follow(client.clone(), "updown", 20.0);
    let metrics = Metrics::start(plane, impatient(), None).await;
    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(client, "updown");
    apply(&hpas, &quick_hpa("updown", "10")).await;
    until(&deployments, "llm", replicas(2)).await;
    engines.say(Some(10.0));
    until(&deployments, "llm", ready(2)).await;
    until(&hpas, "llm", says("ScalingActive", "True", "ValidMetricFound")).await;

    // Nobody answers: that is not an empty queue.
    engines.say(None);
    until(&hpas, "llm", says("ScalingActive", "False", "FailedGetPodsMetric")).await;
    let held = deployments.get("llm").await.unwrap();
    assert_eq!(held.spec.unwrap().replicas, Some(2));

    engines.say(Some(0.0));
    until(&deployments, "llm", replicas(1)).await;
    metrics.end().await;
}

/// A gateway with so many requests in its queue, or one that does not answer.
struct Gateway(Mutex<Option<u64>>);

impl Queues for Gateway {
    fn queued<'a>(&'a self, scaler: &'a ScalerId) -> BoxFuture<'a, Result<u64, String>> {
        assert_eq!(scaler.as_str(), "llama");
        let queued = self.0.lock().unwrap().ok_or_else(|| "no answer".to_owned());
        async move { queued }.boxed()
    }
}

#[tokio::test]
async fn metrics_are_of_pods_of_what_is_behind_objects_and_of_nobody() {
    let Some(plane) = shared().await else { return };
    let client = plane.client().await.unwrap();
    plane.namespace("values").await.unwrap();
    plane.gpu_node("values", 8).await.unwrap();
    let mut deployment = Workload::new("llm", 2).deployment();
    let template = deployment.spec.as_mut().unwrap().template.metadata.as_mut().unwrap();
    template.labels.as_mut().unwrap().extend([(SCALER_LABEL.to_owned(), "llama".to_owned())]);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "values");
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    let service = json!({
        "metadata": {"name": "llm", "namespace": "values"},
        "spec": {"selector": {"app": "llm"}, "ports": [{"port": 80}]},
    });
    let service: Service = serde_json::from_value(service).unwrap();
    apply(&Api::namespaced(client.clone(), "values"), &service).await;
    until(&deployments, "llm", ready(2)).await;
    let engines = Engines::follow(client.clone(), "values", 3.0);
    let gateway = Arc::new(Gateway(Mutex::new(Some(9))));
    let queues: Arc<dyn Queues> = Arc::<Gateway>::clone(&gateway);
    let metrics = Metrics::start(plane, impatient(), Some(queues)).await;
    let pods = pod_names(&client, "values").await;

    // Of pods: what the engine says, and half of what waits at the gateway.
    let all = |metric: &str, query: &str| {
        format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/values/pods/%2A/{metric}?{query}")
    };
    let of_app = all("vllm_pending_requests", "labelSelector=app%3Dllm");
    eventually(&client, &of_app, |answer| answer.as_ref().is_ok_and(|list| values(list).len() == 2)).await;
    let list = ask(&client, &of_app).await.unwrap();
    let expected = |value: &str| -> BTreeMap<String, String> {
        pods.iter().map(|pod| (pod.clone(), value.to_owned())).collect()
    };
    assert_eq!(values(&list), expected("7500m"));
    let waiting = ask(&client, &all("waiting", "labelSelector=app%3Dllm")).await.unwrap();
    assert_eq!(values(&waiting), expected("3"));
    let item = &list["items"][0];
    let at: jiff::Timestamp = item["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(at).as_secs() < 60, "{at}");
    assert_eq!(item["metric"]["name"], "vllm_pending_requests");
    let first = ask(&client, &of_app.replace("v1beta2", "v1beta1")).await.unwrap();
    assert_eq!(first["items"][0]["metricName"], "vllm_pending_requests");

    // Selectors: of pods, and of the series of a metric.
    let none = ask(&client, &all("waiting", "labelSelector=app%3Dother")).await.unwrap();
    assert_eq!(values(&none), BTreeMap::new());
    let one = all("waiting", &format!("labelSelector=app%3Dllm&metricLabelSelector=pod%3D{}", pods[0]));
    assert_eq!(values(&ask(&client, &one).await.unwrap()).into_keys().collect::<Vec<_>>(), pods[..1]);
    let bad = ask(&client, &all("waiting", "metricLabelSelector=a%20b")).await.unwrap_err();
    assert!(bad.0 == 400 && bad.1.contains("`a b` is no term"), "{bad:?}");
    let unknown = ask(&client, &all("load", "")).await.unwrap_err();
    assert!(unknown.0 == 404 && unknown.1.contains("no metric `load`"), "{unknown:?}");

    // Of what is behind an object, and of nobody.
    let of = |object: &str| {
        format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/values/{object}/llm/vllm_pending_requests")
    };
    for object in ["deployments.apps", "services"] {
        let list = ask(&client, &of(object)).await.unwrap();
        assert_eq!(values(&list), BTreeMap::from([("llm".to_owned(), "15".to_owned())]), "{object}");
    }
    let external = |labels: &str| {
        let metric = "vllm_pending_requests?labelSelector";
        format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/values/{metric}={labels}")
    };
    let total = ask(&client, &external("app%3Dllm")).await.unwrap();
    assert_eq!(total["items"][0]["value"], "15");

    // One engine fails: its pod has no value, and the total would be too small.
    engines.let_say(&pods[0], None);
    eventually(&client, &of_app, |answer| answer.as_ref().is_ok_and(|list| values(list).len() == 1)).await;
    assert_eq!(ask(&client, &of("deployments.apps")).await.unwrap_err().0, 404);
    engines.say(Some(3.0));
    eventually(&client, &of_app, |answer| answer.as_ref().is_ok_and(|list| values(list).len() == 2)).await;

    // The gateway does not answer: nobody knows what is pending. What engines say is known.
    *gateway.0.lock().unwrap() = None;
    assert_eq!(values(&ask(&client, &of_app).await.unwrap()), BTreeMap::new());
    assert_eq!(values(&ask(&client, &all("waiting", "")).await.unwrap()).len(), 2);

    // No pod is left: only the gateway's queue can say that somebody waits.
    *gateway.0.lock().unwrap() = Some(9);
    deployment.spec.as_mut().unwrap().replicas = Some(0);
    apply(&deployments, &deployment).await;
    until(&deployments, "llm", ready(0)).await;
    let queue = external("forewarm.dev%2Fscaler%3Dllama");
    eventually(&client, &queue, |answer| {
        answer.as_ref().is_ok_and(|total| total["items"][0]["value"] == "9")
    })
    .await;
    assert_eq!(values(&ask(&client, &of("deployments.apps")).await.unwrap())["llm"], "9");

    let resources = client.list_api_group_resources("custom.metrics.k8s.io/v1beta2").await.unwrap().resources;
    assert!(resources.iter().any(|resource| resource.name == "pods/nvidia_gpu_duty_cycle"));
    metrics.end().await;
}

/// Somebody who asks the server itself.
fn caller(plane: &ControlPlane, identity: Option<&Identity>) -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(plane.authority().as_bytes()).unwrap();
    let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
    if let Some(identity) = identity {
        let pem = format!("{}{}", identity.certificate, identity.key);
        builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

#[tokio::test]
async fn only_who_may_gets_metrics() {
    const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    let Some(plane) = shared().await else { return };
    plane.namespace("callers").await.unwrap();
    let metrics = Metrics::start(plane, EngineOptions::default(), None).await;
    let base = format!("https://localhost:{}", metrics.address.port());
    let path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/callers/pods/*/waiting";
    let request = |caller: &reqwest::Client, path: &str| caller.get(format!("{base}{path}"));
    let code = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();

    let nobody = caller(plane, None);
    assert_eq!(code(request(&nobody, "/readyz")).await, 200, "a probe");
    assert_eq!(code(request(&nobody, path)).await, 401, "nobody");
    assert_eq!(code(request(&nobody, path).header("X-Remote-User", HPA)).await, 401, "who only says so");
    assert_eq!(code(request(&nobody, path).bearer_auth("made-up")).await, 401, "a token of nobody");

    let token = plane.token("callers", "reader").await.unwrap();
    assert_eq!(code(request(&nobody, path).bearer_auth(&token)).await, 403, "a token without a role");
    let user = caller(plane, Some(&plane.user("somebody").unwrap()));
    assert_eq!(code(request(&user, path)).await, 403, "a user without a role");
    assert_eq!(code(request(&user, path).header("X-Remote-User", HPA)).await, 403, "a user is no aggregator");

    let aggregator = caller(plane, Some(&plane.aggregator().unwrap()));
    assert_eq!(code(request(&aggregator, path)).await, 401, "an aggregator that does not say for whom");
    let behalf = |user: &str| request(&aggregator, path).header("X-Remote-User", user);
    assert_eq!(code(behalf("somebody")).await, 403, "on behalf of somebody without a role");
    assert_eq!(code(behalf(HPA)).await, 200, "on behalf of the HPA");

    // A role that names the metric is enough.
    let admin = plane.client().await.unwrap();
    let role: ClusterRole = serde_json::from_value(json!({
        "metadata": {"name": "reads-waiting"},
        "rules": [{"apiGroups": ["custom.metrics.k8s.io"], "resources": ["pods/waiting"], "verbs": ["get"]}],
    }))
    .unwrap();
    apply(&Api::all(admin.clone()), &role).await;
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "reads-waiting"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reads-waiting"},
        "subjects": [{"kind": "ServiceAccount", "name": "allowed", "namespace": "callers"}],
    }))
    .unwrap();
    apply(&Api::all(admin), &binding).await;
    let token = plane.token("callers", "allowed").await.unwrap();
    let allowed = |path: &str| request(&nobody, path).bearer_auth(&token);
    assert_eq!(code(allowed(path)).await, 200, "a token with a role");
    assert_eq!(
        code(allowed(&path.replace("waiting", "running"))).await,
        403,
        "a metric that it does not name"
    );
    assert_eq!(code(nobody.post(format!("{base}{path}")).bearer_auth(&token)).await, 405, "not to be read");
    metrics.end().await;
}
