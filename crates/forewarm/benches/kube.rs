//! From a burst of requests to the write of `/scale`, in a real cluster: forewarm's controller and gateway beside
//! the real HPA on forewarm's metrics.
//!
//! Prints one JSON row a line, for `cargo xtask bench kube`. Everything is as it is shipped: the programs of this
//! package as processes, a real API server, the HPA controller at its default period of 15 s. Each burst has a
//! Deployment of its own, because a controller that has just begun takes nothing away for a while. Bursts come at
//! random moments of ten periods, so that they find the HPA in every phase and do not measure each other.
//! The clock starts when the first request of the burst leaves its client (forewarm), or when the engine's queue shows
//! it (HPA), and stops when the API server tells a watcher the new number of replicas.

use std::{
    collections::BTreeMap,
    io::Write,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use forewarm_metrics_api::SERVED;
use forewarm_testbed::{
    Launch, Server,
    control_plane::{Aggregation, ControlPlane, ControlPlaneError, ControlPlaneOptions, Workload},
    free_port,
};
use futures_util::TryStreamExt;
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::Instant};

/// The HPA controller's default.
const HPA_PERIOD: Duration = Duration::from_secs(15);
/// Bursts for each kind of autoscaler.
const BURSTS: usize = 30;
/// The time that they are spread over.
const SPREAD: Duration = HPA_PERIOD.saturating_mul(10);
/// Requests of a burst: eight times what a replica is worth, so that every kind of autoscaler goes up.
const REQUESTS: usize = 40;
const SOON: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "bench";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match runtime.block_on(bench()) {
        Err(error) => match error.downcast::<ControlPlaneError>() {
            Ok(ControlPlaneError::NotFetched(why)) => {
                print(&json!({"name": "burst to /scale", "skipped": why.to_string()}))
            }
            Ok(error) => Err(error.into()),
            Err(error) => Err(error),
        },
        Ok(()) => Ok(()),
    }
}

fn print(row: &Value) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{row}")?)
}

async fn bench() -> Result<()> {
    let plane = ControlPlane::start(ControlPlaneOptions { hpa_sync_period: HPA_PERIOD }).await?;
    let stage = Stage::start(&plane).await?;
    let (mut ours, mut theirs) = (JoinSet::new(), JoinSet::new());
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut moment = || SPREAD.mul_f64(random.random());
    for number in 0..BURSTS {
        ours.spawn(stage.burst_at_forewarm(number, moment()).await?);
        theirs.spawn(stage.burst_at_an_hpa(number, moment()).await?);
    }
    let mut ours = all(ours).await?;
    let mut theirs = all(theirs).await?;
    for q in [0.5, 0.99] {
        let (forewarm, hpa) = (quantile(&mut ours, q), quantile(&mut theirs, q));
        print(&json!({
            "name": format!("burst to /scale, p{} of {}", q * 100.0, ours.len()),
            "figure": forewarm * 1e3, "unit": "ms",
            "peer": format!("HPA at 15 s on forewarm's metrics, of {}", theirs.len()),
            "peer_figure": hpa * 1e3, "ratio": forewarm / hpa,
        }))?;
    }
    Ok(())
}

async fn all(mut bursts: JoinSet<Result<f64>>) -> Result<Vec<f64>> {
    let mut seconds = Vec::new();
    while let Some(burst) = bursts.join_next().await {
        seconds.push(burst??);
    }
    Ok(seconds)
}

fn quantile(seconds: &mut [f64], q: f64) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[((q * seconds.len() as f64).ceil() as usize).clamp(1, seconds.len()) - 1]
}

/// forewarm's programs around a control plane.
struct Stage<'a> {
    client: Client,
    gateway: SocketAddr,
    engines: Engines,
    /// Replicas that each Deployment is asked for.
    asked: watch::Receiver<BTreeMap<String, i32>>,
    _folder: tempfile::TempDir,
    _aggregation: Aggregation<'a>,
    _programs: Vec<Server>,
    _tasks: JoinSet<()>,
}

impl<'a> Stage<'a> {
    async fn start(plane: &'a ControlPlane) -> Result<Self> {
        let client = plane.client().await?;
        let folder = tempfile::tempdir()?;
        plane.namespace(NAMESPACE).await?;
        plane.gpu_node("bench", u32::try_from(2 * BURSTS * 8)?).await?;
        let crd = folder.path().join("crd.yaml");
        let printed =
            std::process::Command::new(env!("CARGO_BIN_EXE_forewarm")).args(["kube", "crd"]).output()?;
        std::fs::write(&crd, printed.stdout)?;
        for words in
            [["apply", "--server-side", "-f"].as_slice(), &["wait", "--for=condition=Established", "-f"]]
        {
            let status =
                plane.kubectl()?.args(words).arg(&crd).stdout(std::process::Stdio::null()).status()?;
            anyhow::ensure!(status.success(), "kubectl {} failed", words.join(" "));
        }
        let port = || -> Result<SocketAddr> { Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?))) };
        let (gateway, control, admin, metrics) = (port()?, port()?, port()?, port()?);
        let program = async |name: &str, args: &[&str], listens: SocketAddr| {
            let forewarm = env!("CARGO_BIN_EXE_forewarm");
            let launch = Launch {
                name: name.to_owned(),
                command: std::iter::once(&forewarm).chain(args).map(|&word| word.to_owned()).collect(),
                env: vec![("KUBECONFIG".to_owned(), plane.kubeconfig().display().to_string())],
                folder: folder.path().to_owned(),
            };
            let ready = async || tokio::net::TcpStream::connect(listens).await.is_ok();
            Server::start(launch, SOON, ready).await
        };
        let (at, controlled) = (gateway.to_string(), control.to_string());
        let mut programs =
            vec![program("gateway", &["gateway", "--listen", &at, "--control", &controlled], control).await?];
        let told = admin.to_string();
        let controller = [
            "kube",
            "controller",
            "--namespace",
            NAMESPACE,
            "--lease-namespace",
            NAMESPACE,
            "--admin",
            &told,
            "--gateway",
            &controlled,
        ];
        programs.push(program("controller", &controller, admin).await?);
        let (certificate, key) = certificate(plane, folder.path())?;
        let listen = metrics.to_string();
        let api = ["kube", "metrics-api", "--listen", &listen, "--tls-cert", &certificate, "--tls-key", &key];
        programs.push(program("metrics-api", &api, metrics).await?);
        let aggregation = plane.aggregate(&SERVED, metrics.port()).await?;
        let engines = Engines::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_pods(Api::namespaced(client.clone(), NAMESPACE), engines.clone()));
        let (sender, asked) = watch::channel(BTreeMap::new());
        tasks.spawn(follow(Api::namespaced(client.clone(), NAMESPACE), sender));
        Ok(Self {
            client,
            gateway,
            engines,
            asked,
            _folder: folder,
            _aggregation: aggregation,
            _programs: programs,
            _tasks: tasks,
        })
    }

    /// Requests go to forewarm's gateway, and its controller scales: seconds until it does.
    async fn burst_at_forewarm(
        &self,
        number: usize,
        after: Duration,
    ) -> Result<impl Future<Output = Result<f64>> + use<>> {
        let name = format!("forewarm-{number}");
        self.deploy(&name).await?;
        let kind = GroupVersionKind::gvk("forewarm.dev", "v1alpha1", "InferenceScaler");
        let scalers: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), NAMESPACE, &ApiResource::from_gvk(&kind));
        let scaler = serde_json::from_value(json!({
            "apiVersion": "forewarm.dev/v1alpha1",
            "kind": "InferenceScaler",
            "metadata": {"name": name},
            "spec": {
                "target": {"kubernetes": {"kind": "Deployment", "name": name}},
                "models": [name],
                "replicas": {"min": 1, "max": 8},
                "engine": {"maxConcurrency": 2},
                "policy": {"queueDepth": {"perReplica": 5}},
            },
        }))?;
        scalers.create(&PostParams::default(), &scaler).await?;
        let (engines, asked) = (self.engines.clone(), self.asked.clone());
        let url = format!("http://{}/v1/completions", self.gateway);
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(async move {
            let body = json!({"model": name, "prompt": "hello", "max_tokens": 1}).to_string();
            let send = || {
                let request = http.post(&url).header("content-type", "application/json");
                request.body(body.clone()).send()
            };
            tokio::time::sleep(after).await;
            // The gateway refuses a model that it does not know yet.
            let deadline = Instant::now() + SOON;
            while !send().await?.status().is_success() {
                anyhow::ensure!(Instant::now() < deadline, "the gateway does not serve {name}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            engines.hold(&name, true);
            let start = Instant::now();
            let mut burst: JoinSet<_> = (0..REQUESTS).map(|_| send()).collect();
            let seconds = until_scaled(&asked, &name).await?.duration_since(start).as_secs_f64();
            engines.hold(&name, false);
            while let Some(answer) = burst.join_next().await {
                answer??.error_for_status()?;
            }
            Ok(seconds)
        })
    }

    /// Requests wait in the engine, and the HPA scales: seconds until it does.
    async fn burst_at_an_hpa(
        &self,
        number: usize,
        after: Duration,
    ) -> Result<impl Future<Output = Result<f64>> + use<>> {
        let name = format!("hpa-{number}");
        self.deploy(&name).await?;
        let hpa: HorizontalPodAutoscaler = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": 1,
                "maxReplicas": 8,
                "metrics": [{"type": "Pods", "pods": {
                    "metric": {"name": "vllm_pending_requests"},
                    "target": {"type": "AverageValue", "averageValue": "5"},
                }}],
            },
        }))?;
        let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), NAMESPACE);
        hpas.create(&PostParams::default(), &hpa).await?;
        let (engines, asked) = (self.engines.clone(), self.asked.clone());
        Ok(async move {
            // It has looked once before.
            tokio::time::sleep(HPA_PERIOD + after).await;
            let start = Instant::now();
            engines.wait(&name, REQUESTS as f64);
            Ok(until_scaled(&asked, &name).await?.duration_since(start).as_secs_f64())
        })
    }

    async fn deploy(&self, name: &str) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        deployments.create(&PostParams::default(), &Workload::new(name, 1).deployment()).await?;
        Ok(())
    }
}

/// A certificate for the name by which the API server asks.
fn certificate(plane: &ControlPlane, folder: &Path) -> Result<(String, String)> {
    let identity = plane.server_identity(&[&plane.aggregated_name()])?;
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    std::fs::write(&certificate, identity.certificate)?;
    std::fs::write(&key, identity.key)?;
    Ok((certificate.display().to_string(), key.display().to_string()))
}

/// When the Deployment was asked for more than it began with.
async fn until_scaled(asked: &watch::Receiver<BTreeMap<String, i32>>, name: &str) -> Result<Instant> {
    let mut asked = asked.clone();
    let reached = asked.wait_for(|replicas| replicas.get(name).is_some_and(|replicas| *replicas > 1));
    tokio::time::timeout(SOON, reached).await.with_context(|| format!("{name} is not scaled"))??;
    Ok(Instant::now())
}

/// Tells how many replicas each Deployment is asked for.
async fn follow(deployments: Api<Deployment>, asked: watch::Sender<BTreeMap<String, i32>>) {
    let mut seen = std::pin::pin!(watcher(deployments, watcher::Config::default()).applied_objects());
    while let Ok(Some(deployment)) = seen.try_next().await {
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
        asked.send_modify(|asked| {
            asked.insert(deployment.name_any(), replicas);
        });
    }
}

/// What the engines of each Deployment do.
#[derive(Clone, Default)]
struct Engines(Arc<Mutex<BTreeMap<String, watch::Sender<Engine>>>>);

#[derive(Clone, Copy, Default)]
struct Engine {
    /// Requests that wait, as its page says.
    waiting: f64,
    /// Whether it keeps requests without an answer.
    holds: bool,
}

impl Engines {
    fn of(&self, name: &str) -> watch::Receiver<Engine> {
        self.change(name, |_| {})
    }

    fn hold(&self, name: &str, holds: bool) {
        self.change(name, |engine| engine.holds = holds);
    }

    fn wait(&self, name: &str, waiting: f64) {
        self.change(name, |engine| engine.waiting = waiting);
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Engine)) -> watch::Receiver<Engine> {
        let mut engines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = engines.entry(name.to_owned()).or_default();
        engine.send_modify(change);
        engine.subscribe()
    }
}

/// An engine at the address of each pod.
async fn serve_pods(pods: Api<Pod>, engines: Engines) {
    let mut servers = JoinSet::new();
    let mut served = BTreeMap::new();
    let mut seen = std::pin::pin!(watcher(pods, watcher::Config::default()).applied_objects());
    while let Ok(Some(pod)) = seen.try_next().await {
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
        let Some(ip) = ip.and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
        if served.insert(pod.name_any(), ip) == Some(ip) {
            continue;
        }
        let engine = engines.of(pod.labels().get("app").map(String::as_str).unwrap_or_default());
        servers.spawn(async move {
            let app = Router::new()
                .route("/metrics", get(page))
                .route("/health", get(|| async {}))
                .route("/v1/completions", post(complete))
                .with_state(engine);
            match TcpListener::bind(SocketAddr::from((ip, 8000))).await {
                Ok(listener) => axum::serve(listener, app).await,
                Err(error) => Err(error),
            }
        });
    }
}

async fn page(State(engine): State<watch::Receiver<Engine>>) -> String {
    let waiting = engine.borrow().waiting;
    format!(
        "vllm:num_requests_waiting{{model_name=\"m\"}} {waiting}\nvllm:num_requests_running{{model_name=\"m\"}} 0\n"
    )
}

async fn complete(State(mut engine): State<watch::Receiver<Engine>>) -> &'static str {
    // An engine that is gone answers too.
    drop(engine.wait_for(|engine| !engine.holds).await);
    r#"{"object":"text_completion","choices":[{"index":0,"text":"hello","finish_reason":"length"}]}"#
}
