//! `forewarm kube metrics-api` beside gateways that it finds by their labels: what waits at them counts as pending.

use std::{net::IpAddr, path::Path};

use axum::{Router, routing::get};
use forewarm_core::{ScalerId, pool::PoolPlan};
use forewarm_gateway::{ControlAccess, ControlToken, RemoteGateway, UpstreamTls};
use forewarm_testbed::{
    control_plane::{ControlPlane, Identity, Workload},
    free_port,
};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{Pod, Service},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use crate::{
    LOOK_EVERY, OWN, PATIENCE, Program, SCALED,
    account::{account, bind, one_less, rules},
    cluster, forewarm,
};

const TOKEN: &str = "what the gateways ask for";
const GATEWAYS: &str = "app.kubernetes.io/name=forewarm,app.kubernetes.io/component=gateway";
/// Where engines and gateways' control ports listen, at the addresses of their pods.
const ENGINE_PORT: u16 = 8000;
const CONTROL_PORT: u16 = 8081;

/// Waits until a question is answered so.
async fn until<T: std::fmt::Debug>(what: &str, ask: impl AsyncFn() -> T, is_so: impl Fn(&T) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if is_so(&answer) {
            return;
        }
        assert!(Instant::now() < deadline, "never {what}: {answer:?}");
        sleep(LOOK_EVERY).await;
    }
}

/// Makes a Deployment whose pods have these labels, and waits until so many are ready: their addresses.
async fn pods(
    plane: &ControlPlane,
    namespace: &str,
    workload: &Workload,
    labels: &[(&str, &str)],
) -> Vec<IpAddr> {
    let client = plane.client().await.unwrap();
    let mut deployment = workload.deployment();
    let template = deployment.spec.as_mut().unwrap().template.metadata.as_mut().unwrap();
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    template.labels.as_mut().unwrap().extend(labels);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let apply = PatchParams::apply("tests").force();
    deployments.patch(&workload.name, &apply, &Patch::Apply(deployment)).await.unwrap();
    let count = usize::try_from(workload.replicas).unwrap();
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let of_app = ListParams::default().labels(&format!("app={}", workload.name));
    let addresses = async || -> Vec<IpAddr> {
        let mut all = pods.list(&of_app).await.unwrap().items;
        all.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let address = |pod: &Pod| {
            let status = pod.status.as_ref()?;
            let mut conditions = status.conditions.iter().flatten();
            conditions.find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
            status.pod_ip.as_ref()?.parse().ok()
        };
        all.iter().filter_map(address).collect()
    };
    until("ready pods", &addresses, |addresses| addresses.len() == count).await;
    addresses().await
}

/// A gateway whose control port is at the address of a pod, with a request that waits there.
struct Gateway {
    _program: Program,
}

impl Gateway {
    async fn start(pod: IpAddr) -> Self {
        let listen = format!("127.0.0.1:{}", free_port().unwrap());
        let control = format!("{pod}:{CONTROL_PORT}");
        let mut command = forewarm(&["gateway", "--listen", &listen, "--control", &control]);
        let program = Program::start(command.env("FOREWARM_CONTROL_TOKEN", TOKEN));
        let tls = UpstreamTls { ca: None, server_name: None, identity: None };
        let access = ControlAccess::new(Some(ControlToken::new(TOKEN.to_owned())), &tls).unwrap();
        let scaler = ScalerId::from(format!("{SCALED}.llama3"));
        let gateway = RemoteGateway::new(scaler.clone(), &control, &access);
        let plan: PoolPlan = serde_json::from_value(json!({
            "scaler": scaler, "models": ["llama3"], "endpoints": [],
            "queue": {"maxRequests": 9, "maxBytes": 9999, "timeoutSeconds": 600, "coldStartTimeoutSeconds": 600},
        }))
        .unwrap();
        until("a plan", async || gateway.apply(&plan).await.is_ok(), |done| *done).await;
        let request = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = request.post(format!("http://{listen}/v1/completions"));
        let request = request.json(&json!({"model": "llama3", "prompt": "wait", "max_tokens": 2}));
        tokio::spawn(request.send());
        let queued = async || gateway.report().await.map(|report| report.queued).unwrap_or_default();
        until("a request that waits", queued, |queued| *queued == 1).await;
        Self { _program: program }
    }
}

/// The metrics APIs, and who asks them.
struct Served {
    _program: Program,
    port: u16,
    lacks: Option<String>,
}

impl Served {
    async fn start(
        plane: &ControlPlane,
        name: &str,
        lacks: Option<String>,
        kubeconfig: &Path,
        keys: &Path,
    ) -> Self {
        bind(plane, None, ("ClusterRole", "system:auth-delegator"), name).await;
        let reads = "extension-apiserver-authentication-reader";
        bind(plane, Some("kube-system"), ("Role", reads), name).await;
        let port = free_port().unwrap();
        let mut command = forewarm(&["kube", "metrics-api", "--gateway-selector", GATEWAYS]);
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        command.arg("--tls-cert").arg(keys.join("tls.crt")).arg("--tls-key").arg(keys.join("tls.key"));
        command.env("KUBECONFIG", kubeconfig).env("FOREWARM_CONTROL_TOKEN", TOKEN);
        Self { _program: Program::start(&mut command), port, lacks }
    }

    /// What is pending by each way to ask.
    async fn pending(&self, asker: &reqwest::Client, token: &str) -> Vec<Option<String>> {
        let of = |object: &str| format!("custom.metrics.k8s.io/v1beta2/namespaces/{SCALED}/{object}/llama3");
        let asked = [
            format!("{}/vllm_pending_requests", of("deployments.apps")),
            format!("{}/vllm_pending_requests", of("statefulsets.apps")),
            format!("{}/vllm_pending_requests", of("services")),
            format!(
                "external.metrics.k8s.io/v1beta1/namespaces/{SCALED}/vllm_pending_requests\
                 ?labelSelector=forewarm.dev%2Fscaler%3D{SCALED}.llama3"
            ),
        ];
        let mut answers = Vec::new();
        for path in asked {
            let request =
                asker.get(format!("https://localhost:{}/apis/{path}", self.port)).bearer_auth(token);
            let value = async { request.send().await.ok()?.json::<Value>().await.ok() };
            let value = value.await.unwrap_or_default()["items"][0]["value"].clone();
            answers.push(value.as_str().map(str::to_owned));
        }
        answers
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_gateways_that_are_found_by_their_labels_is_pending() {
    let Some((plane, chart)) = cluster().await else { return };
    let client = plane.client().await.unwrap();
    let labels = [("forewarm.dev/scaler", &*format!("{SCALED}.llama3"))];
    let engine = pods(&plane, SCALED, &Workload::new("llama3", 1), &labels).await.remove(0);
    let listener = TcpListener::bind((engine, ENGINE_PORT)).await.unwrap();
    let page = get(async || "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting 3\n");
    let engine = tokio::spawn(async { axum::serve(listener, Router::new().route("/metrics", page)).await });
    // Others that mean the same pods.
    let selected = json!({"app": "llama3"});
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "llama3"}, "spec": {"selector": selected, "ports": [{"port": 80}]},
    }))
    .unwrap();
    Api::namespaced(client.clone(), SCALED).create(&PostParams::default(), &service).await.unwrap();
    let set: StatefulSet = serde_json::from_value(json!({
        "metadata": {"name": "llama3"},
        "spec": {
            "replicas": 0, "serviceName": "llama3", "selector": {"matchLabels": selected},
            "template": {
                "metadata": {"labels": selected},
                "spec": {"containers": [{"name": "engine", "image": "engine"}]},
            },
        },
    }))
    .unwrap();
    Api::namespaced(client.clone(), SCALED).create(&PostParams::default(), &set).await.unwrap();

    let gateways = Workload { gpus: 0, port: CONTROL_PORT, ..Workload::new("gateway", 1) };
    let selector: Vec<(&str, &str)> = GATEWAYS.split(',').filter_map(|label| label.split_once('=')).collect();
    let pod = pods(&plane, OWN, &gateways, &selector).await[0];
    let _first = Gateway::start(pod).await;

    let rules = rules(&chart, "metricsApi.enabled=true", "metrics-api");
    let keys = tempfile::tempdir().unwrap();
    let Identity { certificate, key } = plane.server_identity(&[]).unwrap();
    std::fs::write(keys.path().join("tls.crt"), certificate).unwrap();
    std::fs::write(keys.path().join("tls.key"), key).unwrap();
    let all = account(&plane, "all", &rules).await;
    let served = Served::start(&plane, "all", None, &all, keys.path()).await;
    let mut others = Vec::new();
    for (index, (lacks, fewer)) in one_less(&rules).into_iter().enumerate() {
        let name = format!("lacks-{index}");
        let kubeconfig = account(&plane, &name, &fewer).await;
        others.push(Served::start(&plane, &name, Some(lacks), &kubeconfig, keys.path()).await);
    }
    assert_eq!(others.len(), 5, "pods, what has pods, and gateways");
    let token = plane.token(OWN, "asks").await.unwrap();
    bind(&plane, None, ("ClusterRole", "cluster-admin"), "asks").await;
    let authority = reqwest::Certificate::from_pem(plane.authority().as_bytes()).unwrap();
    let asker = reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap();

    // Three in the engine, and what waits at each gateway, also at one that comes later.
    let everywhere = |pending: &str| vec![Some(pending.to_owned()); 4];
    until("4 pending", async || served.pending(&asker, &token).await, |now| *now == everywhere("4")).await;
    for other in &others {
        let knows_a_gateway = async || other.pending(&asker, &token).await;
        // As far as it may: so that it had the time for the rest.
        let lists_pods = other.lacks.as_deref() != Some("list pods");
        let answers = |now: &Vec<Option<String>>| !lists_pods || now.contains(&Some("4".to_owned()));
        until("an answer", knows_a_gateway, answers).await;
    }
    let pod = pods(&plane, OWN, &Workload { replicas: 2, ..gateways }, &selector).await;
    let mut second = None;
    for pod in pod {
        // The first has its own already.
        if std::net::TcpListener::bind((pod, CONTROL_PORT)).is_ok() {
            second = Some(Gateway::start(pod).await);
        }
    }
    assert!(second.is_some());
    until("5 pending", async || served.pending(&asker, &token).await, |now| *now == everywhere("5")).await;
    for other in &others {
        let now = other.pending(&asker, &token).await;
        assert_ne!(now, everywhere("5"), "it works without the right to {:?}", other.lacks);
    }

    // A gateway that is not to be heard may have any number.
    drop(second);
    until("nothing known", async || served.pending(&asker, &token).await, |now| *now == vec![None; 4]).await;
    engine.abort();
}
