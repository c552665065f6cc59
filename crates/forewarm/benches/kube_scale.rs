//! A thousand and ten thousand scalers on one controller, against a real API server: memory, processor time and calls.
//!
//! The programs are as they are shipped. Each scaler has a target with a scale subresource (a custom resource, so that
//! nothing else works in the cluster), a pod, and a signal of a Prometheus server; in the last rows also a gateway.

use std::{io::Write, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use axum::{Json, Router, routing::get};
use forewarm_kubernetes::resource::InferenceScaler;
use forewarm_testbed::{
    Launch, Server,
    control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions},
    free_port,
};
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

/// Objects that are made at a time.
const MAKERS: usize = 64;
/// Scalers of one namespace.
const OF_NAMESPACE: usize = 500;
/// How long is measured.
const MEASURED: Duration = Duration::from_secs(60);
/// How long calls are counted to see whether the beginning is over.
const SETTLES: Duration = Duration::from_secs(5);
/// Calls a second that are made at most when nothing changes: twenty writes, and the lease.
const MOST_WRITTEN: f64 = 30.0;
/// What the processor's times are counted in, a second: Linux has it so everywhere.
const TICKS: f64 = 100.0;
const SOON: Duration = Duration::from_secs(60);

/// What a controller took.
struct Cost {
    mebibytes: f64,
    cores: f64,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(bench())
}

fn print(row: &Value) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{row}")?)
}

async fn bench() -> Result<()> {
    let plane = match ControlPlane::start(ControlPlaneOptions::default()).await {
        Err(ControlPlaneError::NotFetched(why)) => {
            return print(&json!({"name": "scalers on one controller", "skipped": why.to_string()}));
        }
        plane => plane?,
    };
    let listener = tokio::net::TcpListener::bind(PROMETHEUS.trim_start_matches("http://")).await?;
    tokio::spawn(async move { axum::serve(listener, prometheus()).await });
    make(&plane, 1_000).await?;
    let thousand = measure(&plane, 1_000, false).await?;
    make(&plane, 10_000).await?;
    let ten_thousand = measure(&plane, 10_000, false).await?;
    for (name, more, less) in [
        ("memory", ten_thousand.mebibytes, thousand.mebibytes),
        ("processor time", ten_thousand.cores, thousand.cores),
    ] {
        print(
            &json!({"name": format!("{name}, ten times the scalers"), "figure": more / less, "unit": "times"}),
        )?;
    }
    measure(&plane, 10_000, true).await?;
    Ok(())
}

/// Runs a controller over what is there, with a gateway or without, and prints what it took.
async fn measure(plane: &ControlPlane, count: usize, has_gateway: bool) -> Result<Cost> {
    let client = plane.client().await?;
    let folder = tempfile::tempdir()?;
    let before = calls(&client).await?;
    tokio::time::sleep(MEASURED / 4).await;
    let others = (calls(&client).await? - before) * 4.0;

    let address = || -> Result<String> { Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)).to_string()) };
    let (listen, control, admin) = (address()?, address()?, address()?);
    let program = async |name: &str, words: &[&str], listens: &str| {
        let forewarm = env!("CARGO_BIN_EXE_forewarm");
        let launch = Launch {
            name: name.to_owned(),
            command: std::iter::once(&forewarm).chain(words).map(|&word| word.to_owned()).collect(),
            env: vec![("KUBECONFIG".to_owned(), plane.kubeconfig().display().to_string())],
            folder: folder.path().to_owned(),
        };
        Server::start(launch, SOON, async || tokio::net::TcpStream::connect(listens).await.is_ok()).await
    };
    let mut controller = vec!["kube", "controller", "--admin", &admin, "--lease-namespace", "default"];
    controller.extend(["--gateway-selector", ""]);
    let gateway = if has_gateway {
        controller.extend(["--gateway", &control]);
        Some(program("gateway", &["gateway", "--listen", &listen, "--control", &control], &control).await?)
    } else {
        None
    };
    let started = tokio::time::Instant::now();
    let controller = program("controller", &controller, &admin).await?;
    while evaluations(&admin).await? < count as f64 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let start = started.elapsed().as_secs_f64();
    // Each says once that it began; then nothing changes, and no more is written than what is learned.
    let mut written = calls(&client).await?;
    loop {
        tokio::time::sleep(SETTLES).await;
        let now = calls(&client).await?;
        if now - written < MOST_WRITTEN * SETTLES.as_secs_f64() {
            break;
        }
        written = now;
    }
    let settled = started.elapsed().as_secs_f64();
    let gateway_ticks = gateway.as_ref().map(|gateway| processor_ticks(gateway.pid())).transpose()?;
    let (evaluated, ticks, before) =
        (evaluations(&admin).await?, processor_ticks(controller.pid())?, calls(&client).await?);
    tokio::time::sleep(MEASURED).await;
    let seconds = MEASURED.as_secs_f64();
    let cores = |ticks: f64, pid| -> Result<f64> { Ok((processor_ticks(pid)? - ticks) / TICKS / seconds) };
    let cost =
        Cost { mebibytes: mebibytes(controller.pid(), "VmHWM:")?, cores: cores(ticks, controller.pid())? };
    let mut rows = vec![
        ("evaluations a second", (evaluations(&admin).await? - evaluated) / seconds, "1/s"),
        ("memory at most", cost.mebibytes, "MiB"),
        ("memory at the end", mebibytes(controller.pid(), "VmRSS:")?, "MiB"),
        ("processor time", cost.cores, "cores"),
        ("calls of the API server when nothing changes", calls(&client).await? - before - others, "1/min"),
        ("from the start until all were evaluated", start, "s"),
        ("until each had said so in its status", settled, "s"),
    ];
    if let (Some(gateway), Some(ticks)) = (&gateway, gateway_ticks) {
        rows.push(("memory of the gateway at most", mebibytes(gateway.pid(), "VmHWM:")?, "MiB"));
        rows.push(("processor time of the gateway", cores(ticks, gateway.pid())?, "cores"));
    }
    let with = if has_gateway { " and a gateway" } else { "" };
    for (name, figure, unit) in rows {
        print(&json!({"name": format!("{count} scalers{with}: {name}"), "figure": figure, "unit": unit}))?;
    }
    Ok(cost)
}

/// Three requests wait, says this Prometheus, whatever it is asked.
fn prometheus() -> Router {
    let answer = async || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let result = json!([now.as_secs_f64(), "3"]);
        Json(json!({"status": "success", "data": {"resultType": "scalar", "result": result}}))
    };
    Router::new().route("/api/v1/query", get(answer))
}

/// Makes scalers, targets and pods up to a number.
async fn make(plane: &ControlPlane, count: usize) -> Result<()> {
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

/// Makes one of each.
async fn one(client: Client, index: usize) -> Result<()> {
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

/// Calls that the API server has answered, but for watches, which are answered when they end.
async fn calls(client: &Client) -> Result<f64> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let page = client.request_text(request).await?;
    let lines = page.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// Evaluations that the controller has counted.
async fn evaluations(admin: &str) -> Result<f64> {
    let page = reqwest::get(format!("http://{admin}/metrics")).await?.text().await?;
    let counted = page.lines().find_map(|line| line.strip_prefix("forewarm_kube_evaluations_total "));
    Ok(counted.context("the controller counts no evaluations")?.parse()?)
}

/// The processor's time that a process has had, user and system.
fn processor_ticks(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split(' ').collect();
    // utime and stime, the 14th and 15th field of all.
    let ticks = fields.get(11..13).context("no times in its stat")?;
    Ok(ticks.iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum())
}

/// A process's memory: `VmRSS:` now, `VmHWM:` at most.
fn mebibytes(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
    let kibibytes: f64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(kibibytes / 1024.0)
}
