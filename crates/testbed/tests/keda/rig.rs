//! KEDA, and a Deployment that it scales as forewarm's external scaler says.

use std::{io::Write as _, process::Stdio, time::Duration};

use forewarm_external_scaler::{Reading, Readings, ScalerConfig, ScalerServer, ServeError, TlsFiles};
use forewarm_testbed::{
    Certificates, Keda, Proxy,
    control_plane::{ControlPlane, ControlPlaneError, Workload},
};
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::wait::{Condition, await_condition},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, MutexGuard, OnceCell},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Longest wait for anything, on a slow machine: KEDA's parts try to reach each other every two minutes at last.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);

static KEDA: OnceCell<Keda<'static>> = OnceCell::const_new();
/// One test at a time: some of them stop KEDA, which is everybody's.
static TURN: Mutex<()> = Mutex::const_new(());

/// A Deployment `llm` without replicas in a namespace of its own, an external scaler that decided on none, and a
/// ScaledObject that KEDA has looked at once, and looks at again tomorrow: what happens from now on was pushed, or asked
/// for by the HPA.
pub(crate) struct Rig {
    pub(crate) keda: &'static Keda<'static>,
    network: Proxy,
    deployments: Api<Deployment>,
    hpas: Api<HorizontalPodAutoscaler>,
    objects: Api<DynamicObject>,
    namespace: &'static str,
    certificates: Certificates,
    scaler: Scaler,
    _folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Rig {
    /// `None`: a part of the testbed was never built, and that has been said.
    pub(crate) async fn set(namespace: &'static str) -> Option<Self> {
        let turn = TURN.lock().await;
        let (plane, keda) = or_skipped(shared().await)?;
        let client = plane.client().await.unwrap();
        plane.namespace(namespace).await.unwrap();
        plane.gpu_node(namespace, 32).await.unwrap();
        plane.deploy(namespace, &Workload::new("llm", 0)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::make(folder.path()).unwrap();
        let scaler = Scaler::start(0, &certificates).await;
        let network = Proxy::start(([127, 0, 0, 1], scaler.port).into()).await.unwrap();
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject"));
        let rig = Self {
            keda,
            network,
            deployments: Api::namespaced(client.clone(), namespace),
            hpas: Api::namespaced(client.clone(), namespace),
            objects: Api::namespaced_with(client, namespace, &kind),
            namespace,
            certificates,
            scaler,
            _folder: folder,
            _turn: turn,
        };
        rig.decided(Some(0));
        apply(plane, namespace, &rig.scaled_object());
        reached(&rig.hpas, "keda-hpa-llm", "KEDA's HPA", |hpa: Option<&HorizontalPodAutoscaler>| {
            hpa.is_some()
        })
        .await;
        reached(&rig.objects, "llm", "KEDA's first look", is_idle).await;
        Some(rig)
    }

    /// What forewarm decides from now on; `None`: nothing is known.
    pub(crate) fn decided(&self, desired: Option<u32>) {
        let reading = Reading { desired, queued: None, in_flight: None, at: Some(Instant::now()) };
        self.scaler.readings.publish(&format!("{}/llama3", self.namespace), reading);
    }

    /// The external scaler ends, in order.
    pub(crate) async fn stop_scaler(&mut self) {
        self.scaler.end().await;
    }

    /// Another one begins where the last one was, and knows of this decision.
    pub(crate) async fn start_scaler(&mut self, desired: u32) {
        self.scaler = Scaler::start(self.scaler.port, &self.certificates).await;
        self.decided(Some(desired));
    }

    /// Breaks all connections with the external scaler, and waits until KEDA tries to make new ones.
    pub(crate) async fn cut(&self) {
        let before = self.network.accepted();
        self.network.cut();
        let tried = async {
            while self.network.accepted() == before {
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(PATIENCE, tried).await.expect("KEDA connects again");
    }

    /// Connections are made again from now on.
    pub(crate) fn mend(&self) {
        self.network.mend();
    }

    /// KEDA has nothing to do with it any more.
    pub(crate) async fn end(mut self) {
        self.objects.delete("llm", &DeleteParams::default()).await.unwrap();
        self.scaler.end().await;
    }

    /// How often KEDA looks from now on.
    pub(crate) async fn poll_every(&self, seconds: u32) {
        let often = Patch::Merge(json!({"spec": {"pollingInterval": seconds}}));
        self.objects.patch("llm", &PatchParams::default(), &often).await.unwrap();
    }

    /// This many replicas are asked for.
    pub(crate) async fn replicas(&self, count: u32) {
        let count = i32::try_from(count).unwrap();
        let asked = move |deployment: Option<&Deployment>| {
            deployment.and_then(|deployment| deployment.spec.as_ref()?.replicas) == Some(count)
        };
        reached(&self.deployments, "llm", &format!("{count} replicas"), asked).await;
    }

    /// KEDA's HPA sees an error, and this many replicas are left alone.
    pub(crate) async fn held(&self, count: u32) {
        reached(&self.hpas, "keda-hpa-llm", "an HPA that sees an error", is_blind).await;
        let held = self.deployments.get("llm").await.unwrap().spec.unwrap().replicas;
        assert_eq!(held, i32::try_from(count).ok(), "what is not known takes nothing away");
    }

    /// Follows the external scaler over TLS with certificates on both sides.
    fn scaled_object(&self) -> [Value; 3] {
        let Certificates { ca, client_cert, client_key, .. } = &self.certificates;
        let read = |path| std::fs::read_to_string(path).unwrap();
        let key = |parameter: &str, key: &str| json!({"parameter": parameter, "name": "forewarm-client", "key": key});
        // As docs/keda.md has it.
        let at_once = |kind: &str, value: u32| {
            json!({
                "stabilizationWindowSeconds": 0,
                "policies": [{"type": kind, "value": value, "periodSeconds": 1}],
                "tolerance": "0",
            })
        };
        let behavior = json!({"scaleUp": at_once("Pods", 1000), "scaleDown": at_once("Percent", 100)});
        let address = format!("localhost:{}", self.network.address().port());
        [
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "forewarm-client"},
                "stringData": {"ca.crt": read(ca), "tls.crt": read(client_cert), "tls.key": read(client_key)},
            }),
            json!({
                "apiVersion": "keda.sh/v1alpha1",
                "kind": "TriggerAuthentication",
                "metadata": {"name": "forewarm"},
                "spec": {"secretTargetRef": [
                    key("caCert", "ca.crt"), key("tlsClientCert", "tls.crt"), key("tlsClientKey", "tls.key"),
                ]},
            }),
            json!({
                "apiVersion": "keda.sh/v1alpha1",
                "kind": "ScaledObject",
                "metadata": {"name": "llm"},
                "spec": {
                    "scaleTargetRef": {"name": "llm"},
                    "minReplicaCount": 0,
                    "maxReplicaCount": 20,
                    "cooldownPeriod": 0,
                    "pollingInterval": 86_400,
                    "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
                    "triggers": [{
                        "type": "external-push",
                        "metadata": {"scalerAddress": address, "enableTLS": "true", "scaler": "llama3"},
                        "authenticationRef": {"name": "forewarm"},
                    }],
                },
            }),
        ]
    }
}

/// An external scaler, and what it was told.
struct Scaler {
    port: u16,
    readings: Readings,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Scaler {
    async fn start(port: u16, certificates: &Certificates) -> Self {
        let config = ScalerConfig {
            listen: ([127, 0, 0, 1], port).into(),
            tls: Some(TlsFiles {
                cert: certificates.cert.clone(),
                key: certificates.key.clone(),
                client_ca: Some(certificates.ca.clone()),
            }),
            namespaced: true,
            max_age: PATIENCE * 10,
        };
        let (readings, shutdown) = (Readings::default(), CancellationToken::new());
        let server = ScalerServer::bind(config, readings.clone()).await.unwrap();
        let port = server.local_addr().unwrap().port();
        let served = tokio::spawn(server.serve(shutdown.clone()));
        Self { port, readings, shutdown, served }
    }

    async fn end(&mut self) {
        self.shutdown.cancel();
        (&mut self.served).await.unwrap().unwrap();
    }
}

async fn shared() -> Result<(&'static ControlPlane, &'static Keda<'static>), ControlPlaneError> {
    let plane = ControlPlane::shared().await?;
    Ok((plane, KEDA.get_or_try_init(|| Keda::start(plane)).await?))
}

/// Past the capture of a test that passes: nobody should believe that KEDA was there.
fn or_skipped<T>(started: Result<T, ControlPlaneError>) -> Option<T> {
    match started {
        Ok(started) => Some(started),
        Err(ControlPlaneError::NotFetched(why)) => {
            std::io::stdout().write_all(format!("\nskipped: {why}\n").as_bytes()).unwrap();
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn apply(plane: &ControlPlane, namespace: &str, objects: &[Value]) {
    let mut command = plane.kubectl().unwrap();
    command.args(["apply", "--server-side", "--namespace", namespace, "--filename", "-"]);
    let mut kubectl = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    kubectl.stdin.take().unwrap().write_all(list.to_string().as_bytes()).unwrap();
    assert!(kubectl.wait().unwrap().success());
}

/// KEDA has asked, and heard that nothing is needed.
fn is_idle(object: Option<&DynamicObject>) -> bool {
    let conditions = object.and_then(|object| object.data["status"]["conditions"].as_array());
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Active" && one["status"] == "False"))
}

fn is_blind(hpa: Option<&HorizontalPodAutoscaler>) -> bool {
    let conditions = hpa.and_then(|hpa| hpa.status.as_ref()?.conditions.as_ref());
    // Without replicas it is not active either, for another reason.
    let failed = |reason: Option<&str>| reason == Some("FailedGetExternalMetric");
    conditions.is_some_and(|all| {
        all.iter().any(|one| one.type_ == "ScalingActive" && failed(one.reason.as_deref()))
    })
}

async fn reached<K>(api: &Api<K>, name: &str, what: &str, condition: impl Condition<K>)
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + kube::Resource + 'static,
{
    let reached = timeout(PATIENCE, await_condition(api.clone(), name, condition)).await;
    match reached {
        Ok(seen) => drop(seen.unwrap()),
        Err(_) => panic!("not within {} s: {what}; it is {:?}", PATIENCE.as_secs(), api.get(name).await),
    }
}
