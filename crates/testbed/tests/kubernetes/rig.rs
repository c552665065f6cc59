//! A controller of one namespace, with a gateway that reports what a test tells it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use forewarm_control::{Clock, ports::Gateway};
use forewarm_core::{ScalerId, Timestamp, pool::PoolReport};
use forewarm_kubernetes::{
    controller::{Controller, Options},
    gateways::{Connect, GatewayOptions},
    lease::{Leadership, LeaseOptions},
    resource::{InferenceScaler, InferenceScalerStatus},
};
use forewarm_testbed::control_plane::{ControlPlane, Workload};
use forewarm_testkit::FakeGateway;
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod, events::v1::Event},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResourceExt as _, Resource, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{sync::OnceCell, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, so that only what never comes about fails.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// The gateways of the controllers of a test, by scaler.
#[derive(Default)]
pub(crate) struct Gateways(Mutex<BTreeMap<ScalerId, Arc<FakeGateway>>>);

impl Gateways {
    pub(crate) fn of(&self, id: &str) -> Arc<FakeGateway> {
        Arc::clone(self.0.lock().unwrap().entry(ScalerId::from(id)).or_default())
    }
}

impl Connect for Gateways {
    fn gateway(&self, scaler: &ScalerId, _address: &str) -> Arc<dyn Gateway> {
        self.of(scaler.as_str())
    }
}

/// A namespace with a node, and what is needed to scale in it.
pub(crate) struct Rig {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) gateways: Arc<Gateways>,
}

/// A controller that runs. It is told to stop when this is dropped.
pub(crate) struct Running {
    leadership: Leadership,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Waits until it leads.
    pub(crate) async fn until_leads(&self) {
        let mut leads = self.leadership.subscribe();
        let leads = tokio::time::timeout(SOON, leads.wait_for(|leads| *leads)).await;
        assert!(leads.is_ok(), "it never led");
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Waits until it leads no more.
    pub(crate) async fn until_leads_no_more(&self) {
        let mut leads = self.leadership.subscribe();
        let ended = tokio::time::timeout(SOON, leads.wait_for(|leads| !*leads)).await;
        assert!(ended.is_ok(), "it leads on");
    }

    /// Ends it as a crash does: nothing is finished, nothing is given back.
    pub(crate) fn kill(self) {
        self.task.abort();
    }
}

static CRD: OnceCell<()> = OnceCell::const_new();

/// Installs the resource.
pub(crate) async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = InferenceScaler::crd();
    let params = PatchParams::apply("tests").force();
    api.patch(&crd.name_any(), &params, &Patch::Apply(&crd)).await.unwrap();
    await_condition(api, &crd.name_any(), is_crd_established()).await.unwrap();
}

impl Rig {
    /// A namespace of its own, with a node.
    pub(crate) async fn new(plane: &ControlPlane, namespace: &str, gpus: u32) -> Self {
        let client = plane.client().await.unwrap();
        CRD.get_or_init(|| install(&client)).await;
        Self::without_resource(plane, namespace, gpus).await
    }

    /// The same on a control plane where the resource is installed by other means.
    pub(crate) async fn without_resource(plane: &ControlPlane, namespace: &str, gpus: u32) -> Self {
        plane.namespace(namespace).await.unwrap();
        if gpus > 0 {
            plane.gpu_node(&format!("node-{namespace}"), gpus).await.unwrap();
        }
        let client = plane.client().await.unwrap();
        Self { client, namespace: namespace.to_owned(), gateways: Arc::default() }
    }

    /// Starts a controller of this namespace.
    pub(crate) fn start(&self, identity: &str) -> Running {
        self.start_through(identity, self.client.clone())
    }

    /// The same with a way of its own to the API server.
    pub(crate) fn start_through(&self, identity: &str, client: Client) -> Running {
        run(self.controller(identity, client, true))
    }

    /// The same without a gateway.
    pub(crate) fn start_alone(&self, identity: &str, client: Client) -> Running {
        run(self.controller(identity, client, false))
    }

    /// The same on a machine whose clock is ahead by so many seconds.
    pub(crate) fn start_ahead(&self, identity: &str, seconds: i64) -> Running {
        let right = Clock::start(1.0);
        let wrong = Timestamp::from_millis(right.now().as_millis() + seconds * 1000);
        run(self.controller(identity, self.client.clone(), true).with_clock(right.set_to(wrong)))
    }

    fn controller(&self, identity: &str, client: Client, has_gateway: bool) -> Controller {
        let addresses = if has_gateway { vec!["in memory".to_owned()] } else { Vec::new() };
        let options = Options {
            namespace: Some(self.namespace.clone()),
            lease: LeaseOptions {
                duration: Duration::from_secs(4),
                look_every: Duration::from_millis(200),
                ..LeaseOptions::new(&self.namespace, "forewarm", identity.to_owned())
            },
            gateways: GatewayOptions { addresses, ..GatewayOptions::none() },
            // Tests that take something away do not wait for minutes.
            hold: Duration::ZERO,
        };
        Controller::new(options, client, Arc::clone(&self.gateways) as Arc<dyn Connect>)
    }

    pub(crate) fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn scalers(&self) -> Api<InferenceScaler> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn deploy(&self, workload: &Workload) {
        self.deployments().create(&Default::default(), &workload.deployment()).await.unwrap();
    }

    /// A scaler of the Deployment of the same name.
    pub(crate) async fn scale(&self, name: &str, change: Value) {
        let object = scaler(name, change);
        let object: InferenceScaler = serde_json::from_value(object).unwrap();
        self.scalers().create(&Default::default(), &object).await.unwrap();
    }

    /// What the gateway says of a scaler from now on.
    pub(crate) fn report(&self, name: &str, change: impl FnOnce(&mut PoolReport)) {
        self.gateways.of(&format!("{}.{name}", self.namespace)).set_report(change);
    }

    /// Waits until the Deployment is asked for so many.
    pub(crate) async fn until_asked_for(&self, name: &str, replicas: i32) {
        let asked = |deployment: &Deployment| {
            deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(replicas)
        };
        until(&self.deployments(), name, &format!("{replicas} replicas"), asked).await;
    }

    /// Waits until so many of its pods serve.
    pub(crate) async fn until_ready(&self, name: &str, replicas: i32) {
        let ready = |deployment: &Deployment| {
            deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0) == replicas
        };
        until(&self.deployments(), name, &format!("{replicas} ready replicas"), ready).await;
    }

    /// How often somebody changed what is asked of the Deployment.
    pub(crate) async fn generation(&self, name: &str) -> i64 {
        self.deployments().get(name).await.unwrap().metadata.generation.unwrap()
    }

    /// Waits until a condition of a scaler has this reason; its message.
    pub(crate) async fn until_condition(&self, name: &str, kind: &str, reason: &str) -> String {
        let is_so = |scaler: &InferenceScaler| condition(scaler, kind).is_some_and(|(now, _)| now == reason);
        let scaler = until(&self.scalers(), name, &format!("{kind} for {reason}"), is_so).await;
        condition(&scaler, kind).unwrap().1
    }

    /// What was told about a scaler: reason and note.
    pub(crate) async fn events(&self, name: &str) -> Vec<(String, String)> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let events = api.list(&ListParams::default()).await.unwrap().items.into_iter();
        let about = events.filter(|event| {
            let about = event.regarding.as_ref();
            about.is_some_and(|about| {
                about.name.as_deref() == Some(name) && about.kind.as_deref() == Some("InferenceScaler")
            })
        });
        about.map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default())).collect()
    }

    /// Waits for an Event with this reason; its note.
    pub(crate) async fn until_event(&self, name: &str, reason: &str) -> String {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let events = self.events(name).await;
            if let Some((_, note)) = events.iter().find(|(known, _)| known == reason) {
                return note.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "no Event {reason} among {events:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn status(&self, name: &str) -> InferenceScalerStatus {
        self.scalers().get(name).await.unwrap().status.unwrap_or_default()
    }

    /// The names of the pods that are not being deleted.
    pub(crate) async fn pod_names(&self) -> Vec<String> {
        let pods = self.pods().list(&ListParams::default()).await.unwrap().items.into_iter();
        pods.filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(|pod| pod.name_any()).collect()
    }
}

fn run(controller: Controller) -> Running {
    let leadership = controller.leadership();
    let stop = CancellationToken::new();
    let shutdown = stop.clone();
    let task = tokio::spawn(async move { controller.run(shutdown).await.unwrap() });
    Running { leadership, stop, task }
}

/// A scaler's manifest: five waiting requests a replica, down at once, and as few in flight as a replica takes.
pub(crate) fn scaler(name: &str, change: Value) -> Value {
    let mut spec = json!({
        "target": {"kubernetes": {"kind": "Deployment", "name": name}},
        "replicas": {"min": 1, "max": 8},
        "engine": {"maxConcurrency": 8},
        "policy": {"queueDepth": {"perReplica": 5}},
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        // Nobody answers at the addresses of these pods, and this one is not counted.
        "signals": [{"name": "unused", "engine": {"metric": "kv_usage"}}],
    });
    for (field, value) in change.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({
        "apiVersion": "forewarm.dev/v1alpha1",
        "kind": "InferenceScaler",
        "metadata": {"name": name},
        "spec": spec,
    })
}

pub(crate) fn condition(scaler: &InferenceScaler, kind: &str) -> Option<(String, String)> {
    let conditions = &scaler.status.as_ref()?.conditions;
    let condition = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((condition.reason.clone(), condition.message.clone()))
}

/// Waits until an object is as it should be.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, what: &str, is_so: impl Fn(&K) -> bool) -> K
where
    K: Resource + Clone + std::fmt::Debug + Send + Serialize + DeserializeOwned + 'static,
{
    let condition = |object: Option<&K>| object.is_some_and(&is_so);
    match tokio::time::timeout(SOON, await_condition(api.clone(), name, condition)).await {
        Ok(reached) => reached.unwrap().unwrap(),
        Err(_) => {
            let now = api.get(name).await.map(|object| serde_json::to_value(object).unwrap());
            panic!("{name} never had {what}; it is {:#}", now.unwrap_or_default())
        }
    }
}
