//! forewarm's programs around a control plane, and bursts for what they and others scale.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use forewarm_testbed::{
    Launch, Server,
    control_plane::{ControlPlane, Workload},
    free_port,
};
use futures_util::TryStreamExt;
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, PostParams},
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    engines::{Engines, serve_numbers, serve_pods},
    objects::{By, From},
};

/// Requests of a burst: eight times what a replica is worth, so that every kind of autoscaler goes up.
const REQUESTS: usize = 40;
/// Longer than any autoscaler here takes.
const SOON: Duration = Duration::from_secs(60);
/// Longer than KEDA takes to make its HPAs, one after another.
const SETTLED: Duration = Duration::from_secs(300);
pub(crate) const NAMESPACE: &str = "bench";

/// What all bursts share.
pub(crate) struct Stage<'a> {
    plane: &'a ControlPlane,
    client: Client,
    folder: PathBuf,
    gateway: SocketAddr,
    engines: Engines,
    /// Who says as JSON how many requests wait.
    pub(crate) numbers: SocketAddr,
    /// Replicas that each Deployment is asked for.
    asked: watch::Receiver<BTreeMap<String, i32>>,
    made: Vec<(ApiResource, String)>,
    _programs: Vec<Server>,
    _tasks: JoinSet<()>,
}

impl<'a> Stage<'a> {
    /// Starts the gateway and the controller. Everything that is written goes to `folder`.
    pub(crate) async fn start(plane: &'a ControlPlane, folder: &Path) -> Result<Self> {
        let client = plane.client().await?;
        plane.namespace(NAMESPACE).await?;
        plane.gpu_node("bench", 1024).await?;
        define_resource(plane, folder)?;
        let numbers = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (sender, asked) = watch::channel(BTreeMap::new());
        let (engines, mut tasks) = (Engines::default(), JoinSet::new());
        tasks.spawn(serve_pods(Api::namespaced(client.clone(), NAMESPACE), engines.clone()));
        tasks.spawn(follow(Api::namespaced(client.clone(), NAMESPACE), sender));
        let mut stage = Self {
            plane,
            client,
            folder: folder.to_owned(),
            gateway: local()?,
            numbers: numbers.local_addr()?,
            asked,
            made: Vec::new(),
            _programs: Vec::new(),
            _tasks: tasks,
            engines: engines.clone(),
        };
        stage._tasks.spawn(serve_numbers(numbers, engines));
        let (control, admin) = (local()?, local()?);
        let (at, controlled, told) = (stage.gateway.to_string(), control.to_string(), admin.to_string());
        let gateway = ["gateway", "--listen", &at, "--control", &controlled];
        let controller = [
            ["kube", "controller", "--namespace", NAMESPACE, "--lease-namespace", NAMESPACE].as_slice(),
            &["--admin", &told, "--gateway", &controlled],
        ];
        stage._programs = vec![
            stage.program("gateway", &gateway, control).await?,
            stage.program("controller", &controller.concat(), admin).await?,
        ];
        Ok(stage)
    }

    /// Starts one of forewarm's commands, and waits until it listens.
    pub(crate) async fn program(&self, name: &str, args: &[&str], listens: SocketAddr) -> Result<Server> {
        let forewarm = env!("CARGO_BIN_EXE_forewarm");
        let launch = Launch {
            name: name.to_owned(),
            command: std::iter::once(&forewarm).chain(args).map(|&word| word.to_owned()).collect(),
            env: vec![("KUBECONFIG".to_owned(), self.plane.kubeconfig().display().to_string())],
            folder: self.folder.clone(),
        };
        Ok(Server::start(launch, SOON, async || TcpStream::connect(listens).await.is_ok()).await?)
    }

    /// A Deployment with what scales it, and the burst that comes to it: so long `after` the future is first polled. It
    /// says how many seconds the Deployment took to be scaled.
    pub(crate) async fn burst(
        &mut self,
        by: By,
        from: From,
        number: usize,
        after: Duration,
    ) -> Result<impl Future<Output = Result<f64>> + Send + use<>> {
        let name = format!("{}-from-{}-{number}", by.prefix(), from.word());
        let deployment = Workload::new(&name, from.replicas()).deployment();
        self.create(&serde_json::to_value(deployment)?).await?;
        for object in by.objects(&name, from) {
            self.create(&object).await?;
        }
        let burst = Burst {
            scaled: Scaled { name: name.clone(), from, asked: self.asked.clone() },
            engines: self.engines.clone(),
            url: format!("http://{}/v1/completions", self.gateway),
        };
        Ok(async move {
            sleep(after).await;
            match by.is_at_the_gateway() {
                true => burst.at_the_gateway().await,
                false => burst.at_the_engines().await,
            }
        })
    }

    async fn create(&mut self, object: &Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        let types = object.types.as_ref().context("an object says what it is")?;
        let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
        self.api(&kind).create(&PostParams::default(), &object).await?;
        self.made.push((kind, object.name_any()));
        Ok(())
    }

    /// Waits until every HPA has looked once, those that KEDA makes as well.
    pub(crate) async fn looked_once(&self) -> Result<()> {
        let hpa = |(kind, name): &(ApiResource, String)| match kind.kind.as_str() {
            "HorizontalPodAutoscaler" => Some(name.clone()),
            "ScaledObject" => Some(format!("keda-hpa-{name}")),
            _ => None,
        };
        let wanted: BTreeSet<String> = self.made.iter().filter_map(hpa).collect();
        let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), NAMESPACE);
        let looked = |hpa: &HorizontalPodAutoscaler| {
            hpa.status.as_ref().and_then(|status| status.conditions.as_ref()).is_some()
        };
        let settled = async {
            loop {
                let seen = hpas.list(&ListParams::default()).await?;
                let seen: BTreeSet<String> =
                    seen.items.iter().filter(|hpa| looked(hpa)).map(ResourceExt::name_any).collect();
                if wanted.is_subset(&seen) {
                    return Ok(());
                }
                sleep(Duration::from_secs(1)).await;
            }
        };
        timeout(SETTLED, settled).await.context("not every HPA has looked")?
    }

    /// Deletes what the bursts so far were about, so that it is in nobody's way.
    pub(crate) async fn clear(&mut self) -> Result<()> {
        for (kind, name) in std::mem::take(&mut self.made) {
            self.api(&kind).delete(&name, &DeleteParams::default()).await?;
        }
        Ok(())
    }

    fn api(&self, kind: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), NAMESPACE, kind)
    }
}

struct Burst {
    scaled: Scaled,
    engines: Engines,
    url: String,
}

impl Burst {
    /// Requests go to the gateway, and wait there.
    async fn at_the_gateway(self) -> Result<f64> {
        let Self { scaled, engines, url } = self;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let body = json!({"model": scaled.name, "prompt": "hello", "max_tokens": 1}).to_string();
        let send = || {
            let request = http.post(&url).header("content-type", "application/json");
            request.body(body.clone()).send()
        };
        engines.hold(&scaled.name, true);
        let start = Instant::now();
        let mut burst: JoinSet<_> = (0..REQUESTS).map(|_| send()).collect();
        let seconds = scaled.reached().await?.duration_since(start).as_secs_f64();
        engines.hold(&scaled.name, false);
        while let Some(answer) = burst.join_next().await {
            answer??.error_for_status()?;
        }
        Ok(seconds)
    }

    /// Requests wait in the engines.
    async fn at_the_engines(self) -> Result<f64> {
        let start = Instant::now();
        self.engines.wait(&self.scaled.name, REQUESTS as f64);
        Ok(self.scaled.reached().await?.duration_since(start).as_secs_f64())
    }
}

struct Scaled {
    name: String,
    from: From,
    asked: watch::Receiver<BTreeMap<String, i32>>,
}

impl Scaled {
    /// When the Deployment was asked for more than it began with.
    async fn reached(&self) -> Result<Instant> {
        let Self { name, from, asked } = self;
        let more =
            |asked: &BTreeMap<String, i32>| asked.get(name).is_some_and(|asked| *asked > from.replicas());
        let mut asked = asked.clone();
        let reached = timeout(SOON, asked.wait_for(more)).await;
        reached.with_context(|| format!("{name} is not scaled"))??;
        Ok(Instant::now())
    }
}

/// An address that nobody listens at.
pub(crate) fn local() -> Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}

fn define_resource(plane: &ControlPlane, folder: &Path) -> Result<()> {
    let crd = folder.join("crd.yaml");
    let printed =
        std::process::Command::new(env!("CARGO_BIN_EXE_forewarm")).args(["kube", "crd"]).output()?;
    std::fs::write(&crd, printed.stdout)?;
    for words in [["apply", "--server-side", "-f"].as_slice(), &["wait", "--for=condition=Established", "-f"]]
    {
        let status = plane.kubectl()?.args(words).arg(&crd).stdout(std::process::Stdio::null()).status()?;
        anyhow::ensure!(status.success(), "kubectl {} failed", words.join(" "));
    }
    Ok(())
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
