//! Engines at the addresses of pods, and what they say of themselves.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// What the engines of each Deployment do.
#[derive(Clone, Default)]
pub(crate) struct Engines(Arc<Mutex<BTreeMap<String, watch::Sender<Engine>>>>);

#[derive(Clone, Copy, Default)]
struct Engine {
    /// Requests that wait, as its page says.
    waiting: f64,
    /// Whether it keeps requests without an answer.
    holds: bool,
}

impl Engines {
    /// Whether they keep requests without an answer from now on.
    pub(crate) fn hold(&self, name: &str, holds: bool) {
        self.change(name, |engine| engine.holds = holds);
    }

    /// Requests that wait in each of them from now on.
    pub(crate) fn wait(&self, name: &str, waiting: f64) {
        self.change(name, |engine| engine.waiting = waiting);
    }

    fn of(&self, name: &str) -> watch::Receiver<Engine> {
        self.change(name, |_| {})
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Engine)) -> watch::Receiver<Engine> {
        let mut engines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = engines.entry(name.to_owned()).or_default();
        engine.send_modify(change);
        engine.subscribe()
    }
}

/// The engine at an address: that of the last pod that has it.
type Tenant = Arc<Mutex<watch::Receiver<Engine>>>;

/// An engine at the address of each pod.
pub(crate) async fn serve_pods(pods: Api<Pod>, engines: Engines) {
    let mut servers = JoinSet::new();
    let mut tenants: BTreeMap<IpAddr, Tenant> = BTreeMap::new();
    let mut seen = std::pin::pin!(watcher(pods, watcher::Config::default()).applied_objects());
    while let Ok(Some(pod)) = seen.try_next().await {
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
        let Some(ip) = ip.and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
        let engine = engines.of(pod.labels().get("app").map(String::as_str).unwrap_or_default());
        if let Some(tenant) = tenants.get(&ip) {
            *tenant.lock().unwrap_or_else(PoisonError::into_inner) = engine;
            continue;
        }
        let tenant = Arc::new(Mutex::new(engine));
        tenants.insert(ip, Arc::clone(&tenant));
        servers.spawn(async move {
            let app = Router::new()
                .route("/metrics", get(page))
                .route("/health", get(|| async {}))
                .route("/v1/completions", post(complete))
                .with_state(tenant);
            match TcpListener::bind(SocketAddr::from((ip, 8000))).await {
                Ok(listener) => axum::serve(listener, app).await,
                Err(error) => Err(error),
            }
        });
    }
}

fn engine(tenant: &Tenant) -> watch::Receiver<Engine> {
    tenant.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The same numbers for who asks for one as JSON: `/DEPLOYMENT` says how many requests wait.
pub(crate) async fn serve_numbers(listener: TcpListener, engines: Engines) {
    let app = Router::new().route("/{name}", get(waiting)).with_state(engines);
    // Without it a burst says that nothing was scaled.
    axum::serve(listener, app).await.ok();
}

async fn waiting(Path(name): Path<String>, State(engines): State<Engines>) -> Json<Value> {
    Json(json!({"waiting": engines.of(&name).borrow().waiting}))
}

async fn page(State(tenant): State<Tenant>) -> String {
    let waiting = engine(&tenant).borrow().waiting;
    format!(
        "vllm:num_requests_waiting{{model_name=\"m\"}} {waiting}\nvllm:num_requests_running{{model_name=\"m\"}} 0\n"
    )
}

async fn complete(State(tenant): State<Tenant>) -> &'static str {
    // An engine that is gone answers too.
    drop(engine(&tenant).wait_for(|engine| !engine.holds).await);
    r#"{"object":"text_completion","choices":[{"index":0,"text":"hello","finish_reason":"length"}]}"#
}
