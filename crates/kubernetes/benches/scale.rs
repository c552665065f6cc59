//! A thousand and ten thousand scalers on one controller, against a real API server: memory, processor time and calls.
//!
//! Each scaler has a target with a scale subresource (a custom resource, so that nothing else works in the cluster), a
//! pod, and a signal of a Prometheus server in this process. A process for each size, so that memory is one's own.
#![expect(clippy::print_stdout, reason = "rows are printed")]

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, routing::get};
use forewarm_control::ports::Gateway;
use forewarm_core::ScalerId;
use forewarm_kubernetes::{
    controller::{Controller, Options},
    gateways::{Connect, GatewayOptions},
    lease::LeaseOptions,
    resource::InferenceScaler,
};
use forewarm_testbed::control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions, client};
use forewarm_testkit::FakeGateway;
use futures_util::{StreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::Pod, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResourceExt as _, ResourceExt as _,
    api::{ApiResource, DynamicObject, PostParams},
    core::GroupVersionKind,
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Objects that are made at a time.
const MAKERS: usize = 64;
/// Scalers of one namespace.
const OF_NAMESPACE: usize = 500;
/// How long is measured.
const MEASURED: Duration = Duration::from_secs(60);
/// What the processor's times are counted in, a second: Linux has it so everywhere.
const TICKS: f64 = 100.0;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Nobody;

impl Connect for Nobody {
    fn gateway(&self, _: &ScalerId, _: &str) -> Arc<dyn Gateway> {
        Arc::new(FakeGateway::default())
    }
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Ok(count) = std::env::var("FOREWARM_SCALERS") {
        return runtime.block_on(measure(count.parse()?));
    }
    let plane = match runtime.block_on(ControlPlane::start(ControlPlaneOptions::default())) {
        Err(ControlPlaneError::NotFetched(why)) => {
            println!("{}", json!({"name": "scalers on one controller", "skipped": why.to_string()}));
            return Ok(());
        }
        plane => plane?,
    };
    let mut costs = Vec::new();
    for count in [1_000, 10_000] {
        runtime.block_on(make(&plane, count))?;
        // Memory and time of a process that does nothing else.
        let output = std::process::Command::new(std::env::current_exe()?)
            .env("FOREWARM_SCALERS", count.to_string())
            .env("KUBECONFIG", plane.kubeconfig())
            .stderr(std::process::Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("measuring {count} scalers ended with {}", output.status).into());
        }
        let figures: Value = serde_json::from_slice(&output.stdout)?;
        let figure = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
        let row = |name: &str, figure: f64, unit: &str| {
            println!(
                "{}",
                json!({"name": format!("{count} scalers: {name}"), "figure": figure, "unit": unit})
            );
        };
        row("evaluations a second", figure("evaluations"), "1/s");
        row("memory", figure("mebibytes"), "MiB");
        row("processor time", figure("cores"), "cores");
        row("calls of the API server when nothing changes", figure("calls"), "1/min");
        row("from the start until all were evaluated", figure("start"), "s");
        costs.push((figure("mebibytes"), figure("cores")));
    }
    if let [(memory, cores), (more_memory, more_cores)] = costs[..] {
        for (name, ratio) in [("memory", more_memory / memory), ("processor time", more_cores / cores)] {
            println!(
                "{}",
                json!({"name": format!("{name}, ten times the scalers"), "figure": ratio, "unit": "times"})
            );
        }
    }
    Ok(())
}

/// Makes scalers, targets and pods up to a number.
async fn make(plane: &ControlPlane, count: usize) -> Result<(), Failure> {
    let client = plane.client().await?;
    for crd in [InferenceScaler::crd(), serde_json::from_value(workers())?] {
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        if api.get_opt(&crd.name_any()).await?.is_none() {
            api.create(&PostParams::default(), &crd).await?;
            await_condition(api, &crd.name_any(), is_crd_established()).await?;
        }
    }
    let there =
        Api::<InferenceScaler>::all(client.clone()).list_metadata(&Default::default()).await?.items.len();
    for namespace in there / OF_NAMESPACE..count.div_ceil(OF_NAMESPACE) {
        plane.namespace(&format!("many-{namespace}")).await?;
    }
    let made = stream::iter(there..count).map(|index| one(client.clone(), index)).buffer_unordered(MAKERS);
    made.collect::<Vec<_>>().await.into_iter().collect()
}

async fn one(client: Client, index: usize) -> Result<(), Failure> {
    let (namespace, name) = (format!("many-{}", index / OF_NAMESPACE), format!("llama-{index}"));
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("bench.dev", "v1", "Worker"), "workers");
    let workers: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let worker = json!({
        "apiVersion": "bench.dev/v1", "kind": "Worker", "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": format!("app={name}")},
    });
    workers.create(&PostParams::default(), &serde_json::from_value(worker)?).await?;
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "engine", "image": "engine"}]},
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    let scaler = json!({
        "apiVersion": "forewarm.dev/v1alpha1", "kind": "InferenceScaler", "metadata": {"name": name},
        "spec": {
            "target": {"kubernetes": {"apiVersion": "bench.dev/v1", "kind": "Worker", "name": name}},
            "replicas": {"min": 1, "max": 8},
            "coldStart": {"expected": "240s", "deadline": "12h"},
            "policy": {"queueDepth": {"perReplica": 5}},
            "signals": [{"name": "waiting", "prometheus": {"serverAddress": PROMETHEUS, "query": "waiting"}}],
        },
    });
    let scalers: Api<InferenceScaler> = Api::namespaced(client, &namespace);
    scalers.create(&PostParams::default(), &serde_json::from_value(scaler)?).await?;
    Ok(())
}

/// Where the Prometheus server of the measuring process is: an address of its own, so that no port collides.
const PROMETHEUS: &str = "http://127.93.7.1:9090";

/// A custom resource with a number of replicas, on which nothing works.
fn workers() -> Value {
    let string = json!({"type": "string"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "workers.bench.dev"},
        "spec": {
            "group": "bench.dev",
            "names": {"kind": "Worker", "plural": "workers"},
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".spec.selector",
                }},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": string}},
                    "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
                }}},
            }],
        },
    })
}

/// Runs a controller over what is there, and prints what it took.
async fn measure(count: usize) -> Result<(), Failure> {
    let kubeconfig = std::env::var("KUBECONFIG")?;
    let client = client(std::path::Path::new(&kubeconfig)).await?;
    let answer = json!({"status": "success", "data": {"resultType": "scalar", "result": [0, "3"]}});
    let app = Router::new().route(
        "/api/v1/query",
        get(async move || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let mut answer = answer.clone();
            answer["data"]["result"][0] = json!(now.as_secs_f64());
            Json(answer)
        }),
    );
    let listener = tokio::net::TcpListener::bind(PROMETHEUS.trim_start_matches("http://")).await?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    let before = calls(&client).await?;
    tokio::time::sleep(MEASURED / 4).await;
    let others = (calls(&client).await? - before) * 4.0;

    let options = Options {
        namespace: None,
        lease: LeaseOptions::new("default", "bench", format!("bench-{count}")),
        gateways: GatewayOptions::none(),
        hold: Options::HOLD,
    };
    let controller = Controller::new(options, client.clone(), Arc::new(Nobody));
    let metrics = controller.metrics();
    let stop = CancellationToken::new();
    let started = tokio::time::Instant::now();
    let task = tokio::spawn(controller.run(stop.clone()));
    while metrics.evaluations() < count as u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let start = started.elapsed().as_secs_f64();
    // Each says once that it began; then nothing changes.
    let mut written = calls(&client).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = calls(&client).await?;
        if now - written < count as f64 / 4.0 {
            break;
        }
        written = now;
    }
    let (evaluations, ticks, before) = (metrics.evaluations(), processor_ticks()?, calls(&client).await?);
    tokio::time::sleep(MEASURED).await;
    let seconds = MEASURED.as_secs_f64();
    let figures = json!({
        "start": start,
        "evaluations": (metrics.evaluations() - evaluations) as f64 / seconds,
        "cores": (processor_ticks()? - ticks) / TICKS / seconds,
        "calls": calls(&client).await? - before - others,
        "mebibytes": resident_mebibytes()?,
    });
    stop.cancel();
    task.await??;
    println!("{figures}");
    Ok(())
}

/// Calls that the API server has answered, but for watches, which are answered when they end.
async fn calls(client: &Client) -> Result<f64, Failure> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let page = client.request_text(request).await?;
    let lines = page.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

fn processor_ticks() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split(' ').collect();
    // utime and stime, the 14th and 15th field of all.
    let ticks = fields.get(11..13).ok_or("no times in /proc/self/stat")?;
    Ok(ticks.iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum())
}

fn resident_mebibytes() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kibibytes: f64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(kibibytes / 1024.0)
}
