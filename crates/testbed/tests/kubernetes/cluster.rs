//! What several of these tests set up: engines that answer at the addresses of pods, the metrics APIs, roles.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use forewarm_metrics_api::{CertificateFiles, EngineOptions, MetricsApi, MetricsApiConfig, Queues, SERVED};
use forewarm_testbed::control_plane::{self, Aggregation, ControlPlane};
use futures_util::TryStreamExt;
use k8s_openapi::api::{
    core::v1::Pod,
    rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        WatchStreamExt,
        wait::{Condition, await_condition},
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than anything here takes, so that only what never comes about fails.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// Waits until an object is as it should be.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, condition: impl Condition<K>) -> K
where
    K: Resource + Clone + std::fmt::Debug + Send + Serialize + DeserializeOwned + 'static,
{
    let reached = tokio::time::timeout(SOON, await_condition(api.clone(), name, condition)).await;
    let Ok(reached) = reached else {
        let mut now = serde_json::to_value(api.get(name).await.unwrap()).unwrap();
        now["metadata"]["managedFields"] = json!(null);
        panic!("{name} is still {now:#}")
    };
    reached.expect("a watch").expect("an object")
}

/// Applies an object, whoever had it before.
pub(crate) async fn apply<K>(api: &Api<K>, object: &K) -> K
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let parameters = PatchParams::apply("tests").force();
    api.patch(&object.name_any(), &parameters, &Patch::Apply(object)).await.unwrap()
}

/// What the engines of a namespace say.
#[derive(Clone, Default)]
struct Said {
    /// Waiting requests, by pod; `None`: it fails.
    waiting: BTreeMap<String, Option<f64>>,
    /// Of pods that are not in there.
    otherwise: Option<f64>,
}

/// An engine at the address of each pod of a namespace, with vLLM's page.
pub(crate) struct Engines {
    said: Arc<Mutex<Said>>,
    _stop: DropGuard,
}

impl Engines {
    /// Every pod says that so many requests wait.
    pub(crate) fn follow(client: Client, namespace: &str, waiting: f64) -> Self {
        let said = Arc::new(Mutex::new(Said { otherwise: Some(waiting), ..Said::default() }));
        let stop = CancellationToken::new();
        let task = serve_pods(Api::namespaced(client, namespace), Arc::clone(&said));
        tokio::spawn(stop.clone().run_until_cancelled_owned(task));
        Self { said, _stop: stop.drop_guard() }
    }

    /// Every pod says so from now on; `None`: it fails.
    pub(crate) fn say(&self, waiting: Option<f64>) {
        *self.said.lock().unwrap() = Said { otherwise: waiting, ..Said::default() };
    }

    /// One pod says so from now on, and all others that nobody waits.
    pub(crate) fn let_only_say(&self, pod: &str, waiting: f64) {
        let only = BTreeMap::from([(pod.to_owned(), Some(waiting))]);
        *self.said.lock().unwrap() = Said { waiting: only, otherwise: Some(0.0) };
    }

    /// One pod says so from now on.
    pub(crate) fn let_say(&self, pod: &str, waiting: Option<f64>) {
        self.said.lock().unwrap().waiting.insert(pod.to_owned(), waiting);
    }
}

/// Its server ends with this task.
async fn serve_pods(pods: Api<Pod>, said: Arc<Mutex<Said>>) {
    let mut servers = JoinSet::new();
    let mut served = BTreeMap::new();
    let mut seen = std::pin::pin!(watcher(pods, watcher::Config::default()).applied_objects());
    while let Ok(Some(pod)) = seen.try_next().await {
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
        let Some(ip) = ip.and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
        let name = pod.name_any();
        if served.insert(name.clone(), ip) == Some(ip) {
            continue;
        }
        let said = Arc::clone(&said);
        servers.spawn(async move {
            let listener = TcpListener::bind(SocketAddr::from((ip, 8000))).await.unwrap();
            let app = Router::new().route("/metrics", get(page)).with_state((name, said));
            axum::serve(listener, app).await.unwrap();
        });
    }
}

async fn page(State((pod, said)): State<(String, Arc<Mutex<Said>>)>) -> Result<String, StatusCode> {
    let said = said.lock().unwrap();
    let waiting = said.waiting.get(&pod).copied().unwrap_or(said.otherwise);
    let waiting = waiting.ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(format!(
        "# TYPE vllm:num_requests_waiting gauge\n\
         vllm:num_requests_waiting{{engine=\"0\",model_name=\"llama\"}} {waiting}\n"
    ))
}

/// A server at the addresses of pods that play a node's dcgm-exporter.
pub(crate) async fn serve_text(address: SocketAddr, text: Arc<Mutex<String>>) -> DropGuard {
    let listener = TcpListener::bind(address).await.unwrap();
    let shown = get(async move || text.lock().unwrap().clone());
    let stop = CancellationToken::new();
    let server = async move { axum::serve(listener, Router::new().route("/metrics", shown)).await };
    tokio::spawn(stop.clone().run_until_cancelled_owned(server));
    stop.drop_guard()
}

/// The metrics APIs, served by forewarm behind the API server, with an account that may do no more than it has to.
pub(crate) struct Metrics<'a> {
    pub(crate) address: SocketAddr,
    aggregation: Aggregation<'a>,
    _certificate: tempfile::TempDir,
    _stop: DropGuard,
}

impl<'a> Metrics<'a> {
    pub(crate) async fn start(
        plane: &'a ControlPlane,
        engines: EngineOptions,
        queues: Option<Arc<dyn Queues>>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = write_certificate(plane, folder.path());
        let config = MetricsApiConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificate,
            engines,
            gpu_exporters: "app.kubernetes.io/name=dcgm-exporter".to_owned(),
            queues,
        };
        let api = MetricsApi::bind(config, account(plane).await).await.unwrap();
        let address = api.address();
        let stop = CancellationToken::new();
        tokio::spawn(api.run(stop.clone()));
        let aggregation = plane.aggregate(&SERVED, address.port()).await.unwrap();
        Self { address, aggregation, _certificate: folder, _stop: stop.drop_guard() }
    }

    /// The next test finds no metrics APIs.
    pub(crate) async fn end(self) {
        self.aggregation.end().await.unwrap();
    }
}

/// A certificate for the name by which the API server asks.
pub(crate) fn write_certificate(plane: &ControlPlane, folder: &Path) -> CertificateFiles {
    let identity = plane.server_identity(&[&plane.aggregated_name()]).unwrap();
    let files = CertificateFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
    std::fs::write(&files.certificate, identity.certificate).unwrap();
    std::fs::write(&files.key, identity.key).unwrap();
    files
}

/// A client of the account that the metrics APIs run with.
async fn account(plane: &ControlPlane) -> Client {
    let admin = plane.client().await.unwrap();
    let subject = json!([{"kind": "ServiceAccount", "name": "forewarm-metrics", "namespace": "default"}]);
    let role = json!({
        "metadata": {"name": "forewarm-metrics"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]},
            {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["get"]},
        ],
    });
    let role: ClusterRole = serde_json::from_value(role).unwrap();
    apply(&Api::all(admin.clone()), &role).await;
    for role in ["forewarm-metrics", "system:auth-delegator"] {
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": format!("forewarm-metrics:{role}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": subject,
        }))
        .unwrap();
        apply(&Api::all(admin.clone()), &binding).await;
    }
    let reader = "extension-apiserver-authentication-reader";
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "forewarm-metrics", "namespace": "kube-system"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": reader},
        "subjects": subject,
    }))
    .unwrap();
    apply(&Api::namespaced(admin, "kube-system"), &binding).await;
    let kubeconfig = plane.service_account("default", "forewarm-metrics").await.unwrap();
    control_plane::client(&kubeconfig).await.unwrap()
}
