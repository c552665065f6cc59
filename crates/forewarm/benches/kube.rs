//! From a burst of requests to the write of `/scale`, in a real cluster: forewarm's controller and gateway beside
//! the real HPA on forewarm's metrics.
//!
//! Prints one JSON row a line, for `cargo xtask bench kube`. Everything is as it is shipped: the programs of this
//! package as processes, a real API server, the HPA controller at its default period of 15 s. A lane is a Deployment
//! with one autoscaler of it. Bursts come at random moments, so that they find the HPA in every phase of its period.
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
    control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions, Workload},
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
/// Deployments with each kind of autoscaler.
const LANES: usize = 6;
/// Bursts at each of them: 30 of each kind in all.
const BURSTS: usize = 5;
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
    for lane in 0..LANES {
        ours.spawn(stage.forewarm_lane(lane).await?);
        theirs.spawn(stage.hpa_lane(lane).await?);
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

async fn all(mut lanes: JoinSet<Result<Vec<f64>>>) -> Result<Vec<f64>> {
    let mut seconds = Vec::new();
    while let Some(lane) = lanes.join_next().await {
        seconds.extend(lane??);
    }
    Ok(seconds)
}

fn quantile(seconds: &mut [f64], q: f64) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[((q * seconds.len() as f64).ceil() as usize).clamp(1, seconds.len()) - 1]
}

/// forewarm's programs around a control plane.
struct Stage {
    client: Client,
    gateway: SocketAddr,
    engines: Engines,
    /// Replicas that each Deployment is asked for.
    asked: watch::Receiver<BTreeMap<String, i32>>,
    _folder: tempfile::TempDir,
    _programs: Vec<Server>,
    _tasks: JoinSet<()>,
}

impl Stage {
    async fn start(plane: &ControlPlane) -> Result<Self> {
        let client = plane.client().await?;
        let folder = tempfile::tempdir()?;
        plane.namespace(NAMESPACE).await?;
        plane.gpu_node("bench", u32::try_from(2 * LANES * 8)?).await?;
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
        // Registered for as long as the control plane lives.
        std::mem::forget(plane.aggregate(&SERVED, metrics.port()).await?);
        let engines = Engines::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_pods(Api::namespaced(client.clone(), NAMESPACE), engines.clone()));
        let (sender, asked) = watch::channel(BTreeMap::new());
        tasks.spawn(follow(Api::namespaced(client.clone(), NAMESPACE), sender));
        Ok(Self { client, gateway, engines, asked, _folder: folder, _programs: programs, _tasks: tasks })
    }

    /// Requests go to forewarm's gateway, and its controller scales.
    async fn forewarm_lane(&self, lane: usize) -> Result<impl Future<Output = Result<Vec<f64>>> + use<>> {
        let name = format!("forewarm-{lane}");
        let mut random = ChaCha8Rng::seed_from_u64(lane as u64);
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
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
            },
        }))?;
        scalers.create(&PostParams::default(), &scaler).await?;
        let (engines, asked) = (self.engines.clone(), self.asked.clone());
        let url = format!("http://{}/v1/completions", self.gateway);
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(async move {
            let mut seconds = Vec::new();
            // A request that comes before the gateway knows the model would be refused.
            let body = json!({"model": name, "prompt": "hello", "max_tokens": 1}).to_string();
            let send = move |http: reqwest::Client, url: String, body: String| async move {
                http.post(url).header("content-type", "application/json").body(body).send().await
            };
            let deadline = Instant::now() + SOON;
            while !send(http.clone(), url.clone(), body.clone()).await?.status().is_success() {
                anyhow::ensure!(Instant::now() < deadline, "the gateway does not serve {name}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            for _ in 0..BURSTS {
                at_rest(&asked, &name).await?;
                random_moment(&mut random).await;
                engines.hold(&name, true);
                let start = Instant::now();
                let mut burst = JoinSet::new();
                for _ in 0..REQUESTS {
                    burst.spawn(send(http.clone(), url.clone(), body.clone()));
                }
                seconds.push(
                    until(&asked, &name, |replicas| replicas > 1).await?.duration_since(start).as_secs_f64(),
                );
                engines.hold(&name, false);
                while let Some(answer) = burst.join_next().await {
                    answer??;
                }
            }
            Ok(seconds)
        })
    }

    /// Requests wait in the engine, and the HPA scales.
    async fn hpa_lane(&self, lane: usize) -> Result<impl Future<Output = Result<Vec<f64>>> + use<>> {
        let name = format!("hpa-{lane}");
        let mut random = ChaCha8Rng::seed_from_u64((LANES + lane) as u64);
        self.deploy(&name).await?;
        let at_once = json!({"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}]});
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
                "behavior": {"scaleUp": at_once, "scaleDown": at_once},
            },
        }))?;
        let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), NAMESPACE);
        // Each in a phase of its own.
        random_moment(&mut random).await;
        hpas.create(&PostParams::default(), &hpa).await?;
        let (engines, asked) = (self.engines.clone(), self.asked.clone());
        Ok(async move {
            let mut seconds = Vec::new();
            for _ in 0..BURSTS {
                at_rest(&asked, &name).await?;
                random_moment(&mut random).await;
                let start = Instant::now();
                engines.wait(&name, REQUESTS as f64);
                seconds.push(
                    until(&asked, &name, |replicas| replicas > 1).await?.duration_since(start).as_secs_f64(),
                );
                engines.wait(&name, 0.0);
            }
            Ok(seconds)
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

/// One replica, and nobody who would change that.
async fn at_rest(asked: &watch::Receiver<BTreeMap<String, i32>>, name: &str) -> Result<()> {
    until(asked, name, |replicas| replicas == 1).await.map(drop)
}

/// When the Deployment was asked for such a number.
async fn until(
    asked: &watch::Receiver<BTreeMap<String, i32>>,
    name: &str,
    wanted: impl Fn(i32) -> bool,
) -> Result<Instant> {
    let mut asked = asked.clone();
    let reached = asked.wait_for(|replicas| replicas.get(name).is_some_and(|replicas| wanted(*replicas)));
    tokio::time::timeout(SOON, reached).await.with_context(|| format!("{name} is not scaled"))??;
    Ok(Instant::now())
}

/// At any point of the HPA controller's period.
async fn random_moment(random: &mut ChaCha8Rng) {
    let share: f64 = random.random();
    tokio::time::sleep(HPA_PERIOD.mul_f64(share)).await;
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
