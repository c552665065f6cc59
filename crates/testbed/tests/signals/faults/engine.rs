//! An engine, asked for its own metrics. It is this program, started again with [`serve`] as its only test.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use forewarm_control::{
    Clock,
    ports::{FleetReplica, SignalSource as Source},
};
use forewarm_core::{Phase, Signal, Tier};
use forewarm_engine::{
    ColdStart, EngineConfig, EngineProfile, LoadingBehaviour,
    cold_start::{ColdStartStage, SecondsDistribution, Stage},
};
use forewarm_signals::engine::{
    EngineKind, EngineMetric, EngineScraper, EngineSignal, EngineSource, ScrapeOptions,
};
use forewarm_testbed::{Launch, Page, Proxy, Server, free_port};
use futures_util::future::{BoxFuture, FutureExt};
use reqwest::StatusCode;
use tempfile::TempDir;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{Fault, Words};
use crate::stage::MAX_AGE;

/// What the engine is told, in JSON; its presence makes this program an engine.
const CONFIG: &str = "TEST_ENGINE";
const START: Duration = Duration::from_secs(60);
const WAITING: &str = "vllm:num_requests_waiting{";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "plays the engine for another test"]
async fn serve() {
    let Ok(config) = std::env::var(CONFIG) else { return };
    let shutdown = CancellationToken::new();
    let mut told = signal(SignalKind::terminate()).unwrap();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        told.recv().await;
        stop.cancel();
    });
    forewarm_engine::run(serde_json::from_str(&config).unwrap(), shutdown).await.unwrap();
}

pub(super) struct World {
    server: Server,
    /// The same that loads, in its place.
    loading: Option<Server>,
    address: SocketAddr,
    proxy: Proxy,
    /// What answers in the engine's place, when it is another.
    another: Page,
    requests: JoinSet<()>,
    folder: TempDir,
}

impl World {
    pub(super) async fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let folder = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            listen: address,
            profile: EngineProfile::simple(1),
            // Nobody waits for an answer here.
            speed: 0.001,
            ..EngineConfig::default()
        };
        let ready = async || health(address).await == Some(StatusCode::OK);
        let server = Server::start(launch(&config, folder.path()), START, ready).await.unwrap();
        let proxy = Proxy::start(address).await.unwrap();
        let another = Page::start("another_engine:requests_waiting 40\n").await.unwrap();
        Self { server, loading: None, address, proxy, another, requests: JoinSet::new(), folder }
    }

    /// Waits until so many requests wait in the engine.
    async fn until_waiting(&self, requests: usize) {
        let url = format!("http://{}/metrics", self.address);
        loop {
            let page = reqwest::get(&url).await.unwrap().text().await.unwrap();
            let line = page.lines().find(|line| line.starts_with(WAITING)).unwrap();
            if line.rsplit(' ').next().unwrap().parse() == Ok(requests as f64) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn launch(config: &EngineConfig, folder: &Path) -> Launch {
    let program = std::env::current_exe().unwrap().display().to_string();
    let arguments = ["--exact", "faults::engine::serve", "--ignored", "--nocapture"].map(str::to_owned);
    Launch {
        name: "engine".to_owned(),
        command: [vec![program], arguments.to_vec()].concat(),
        env: vec![(CONFIG.to_owned(), serde_json::to_string(config).unwrap())],
        folder: folder.to_owned(),
    }
}

async fn health(address: SocketAddr) -> Option<StatusCode> {
    Some(reqwest::get(format!("http://{address}/health")).await.ok()?.status())
}

/// A request that is as good as never done.
async fn request(address: SocketAddr) {
    let body = serde_json::json!({"prompt": "a request", "max_tokens": 1000});
    let sent = reqwest::Client::new().post(format!("http://{address}/v1/completions")).json(&body).send();
    // The engine dies with it, now and then.
    drop(sent.await);
}

/// One engine, whatever the fleet is.
#[derive(Debug)]
struct OneEngine {
    source: EngineSource,
    engine: FleetReplica,
}

impl Source for OneEngine {
    fn read<'a>(&'a self, _replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move { self.source.read(std::slice::from_ref(&self.engine)).await }.boxed()
    }
}

impl super::World for World {
    fn name(&self) -> &'static str {
        "engine"
    }

    fn source(&self, clock: Clock, timeout: Duration) -> Arc<dyn Source> {
        let options = ScrapeOptions { timeout, keep_for: MAX_AGE, ..ScrapeOptions::of(EngineKind::Vllm) };
        let scraper = Arc::new(EngineScraper::new(options, clock).unwrap());
        let engine = FleetReplica {
            id: "engine".into(),
            phase: Phase::Ready,
            age: Duration::ZERO,
            address: Some(self.proxy.address().to_string()),
            stages_seconds: [].into(),
            ordinal: None,
            notice: None,
            tier: Tier::Cold,
        };
        let signal = EngineSignal::Metric(EngineMetric::Waiting);
        Arc::new(OneEngine { source: EngineSource { scraper, signal }, engine })
    }

    fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    fn network(&self) -> &Proxy {
        &self.proxy
    }

    async fn start_again(&mut self) {
        let address = self.address;
        self.server.restart(START, async || health(address).await == Some(StatusCode::OK)).await.unwrap();
    }

    async fn load(&mut self, messages: usize) {
        self.requests.shutdown().await;
        // One of them does not wait.
        for _ in 0..=messages {
            self.requests.spawn(request(self.address));
        }
        self.until_waiting(messages).await;
    }

    /// Its requests are gone with it, and their clients ask again: nobody sees it in between.
    async fn restart(&mut self) {
        let waiting = self.requests.len() - 1;
        self.proxy.cut();
        self.requests.shutdown().await;
        self.server.terminate();
        self.start_again().await;
        self.load(waiting).await;
        self.proxy.mend();
    }

    async fn refuse(&mut self) {
        self.server.kill();
        let seconds = SecondsDistribution::Constant(600.0);
        let stage = ColdStartStage { stage: Stage::Load, seconds, failure_probability: 0.0 };
        let config = EngineConfig {
            listen: self.address,
            cold_start: ColdStart { stages: vec![stage], seed: 0 },
            loading: LoadingBehaviour::LlamaCpp,
            ..EngineConfig::default()
        };
        let address = self.address;
        let loads = async || health(address).await == Some(StatusCode::SERVICE_UNAVAILABLE);
        let loading = Server::start(launch(&config, self.folder.path()), START, loads).await.unwrap();
        self.loading = Some(loading);
    }

    async fn accept(&mut self) {
        self.loading = None;
        self.start_again().await;
    }

    async fn remove(&mut self) {
        self.proxy.lead_to(self.another.address());
    }

    async fn put_back(&mut self) {
        self.proxy.lead_to(self.address);
    }

    fn text(&self, fault: Fault) -> &'static str {
        match fault {
            Fault::Restarted => "restarted, and its clients ask again",
            Fault::Refused => "loads its model, answers 503",
            Fault::Absent => "an update renames the metric",
            Fault::Killed | Fault::Paused | Fault::Cut | Fault::BlackHole => fault.text(),
        }
    }

    fn words(&self) -> Words {
        Words {
            unreachable: "no answer:",
            refused: "HTTP 503 Service Unavailable",
            absent: "`waiting` was reported before and has disappeared",
        }
    }
}
