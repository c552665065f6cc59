//! The gateways of the cluster: who they are, and what they say of each scaler.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use forewarm_control::{Several, ports::Gateway};
use forewarm_core::ScalerId;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{sync::watch, task::AbortHandle};

use crate::{
    pod::PodView,
    scaler::Key,
    table::Input,
    watch::{Inputs, key},
};
use forewarm_core::Phase;

/// Shortest time between two questions to the gateways of one scaler.
const MIN_GAP: Duration = Duration::from_millis(10);
/// They are asked this often when nothing changes.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The port for controllers of a pod that does not name it.
const CONTROL_PORT: u16 = 8081;

/// Speaks to gateways. The crate of the gateway is not known here.
pub trait Connect: Send + Sync + 'static {
    /// The gateway at an address, as one scaler sees it.
    fn gateway(&self, scaler: &ScalerId, address: &str) -> Arc<dyn Gateway>;
}

/// Where gateways are.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// Labels of their pods; `None`: none are looked for.
    pub selector: Option<String>,
    /// Their namespace; `None`: any.
    pub namespace: Option<String>,
    /// Gateways at fixed addresses.
    pub addresses: Vec<String>,
}

impl GatewayOptions {
    /// As the Helm chart labels them.
    pub const SELECTOR: &str = "app.kubernetes.io/name=forewarm,app.kubernetes.io/component=gateway";

    /// No gateways.
    pub fn none() -> Self {
        Self { selector: None, namespace: None, addresses: Vec::new() }
    }
}

/// Follows which gateways there are.
pub async fn discover(client: Client, options: GatewayOptions, found: watch::Sender<BTreeSet<String>>) {
    let fixed: BTreeSet<String> = options.addresses.into_iter().collect();
    found.send_replace(fixed.clone());
    let Some(selector) = options.selector else { return };
    let api: Api<Pod> = match &options.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let mut stream =
        std::pin::pin!(watcher(api, watcher::Config::default().labels(&selector)).default_backoff());
    let mut pods: BTreeMap<Key, Option<String>> = BTreeMap::new();
    let mut listed = None;
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Init) => listed = Some(BTreeMap::new()),
            Ok(watcher::Event::InitApply(pod)) => {
                listed.get_or_insert_default().insert(key(&pod), address(&pod));
                continue;
            }
            Ok(watcher::Event::InitDone) => pods = listed.take().unwrap_or_default(),
            Ok(watcher::Event::Apply(pod)) => {
                pods.insert(key(&pod), address(&pod));
            }
            Ok(watcher::Event::Delete(pod)) => {
                pods.remove(&key(&pod));
            }
            Err(error) => tracing::debug!(%error, "the watch of gateways is interrupted"),
        }
        let all: BTreeSet<String> = fixed.iter().cloned().chain(pods.values().flatten().cloned()).collect();
        found.send_if_modified(|before| std::mem::replace(before, all.clone()) != all);
    }
}

fn address(pod: &Pod) -> Option<String> {
    let view = PodView::of(pod);
    let serves = view.lives() && view.phase == Phase::Ready;
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.find(|port| port.name.as_deref() == Some("control"));
    let port = named.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(CONTROL_PORT);
    view.address(Some(port)).filter(|_| serves)
}

/// The gateways of one scaler, and the task that listens to them. It ends when this is dropped.
pub struct Followed {
    members: BTreeMap<String, Arc<dyn Gateway>>,
    all: Arc<Several>,
    listens: AbortHandle,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.listens.abort();
    }
}

impl Followed {
    /// Follows the gateways at these addresses; `None` when there is no address. Those of `before` stay connected.
    pub fn new(
        scaler: &Key,
        id: &ScalerId,
        addresses: &BTreeSet<String>,
        before: Option<&Followed>,
        connect: &dyn Connect,
        inputs: Inputs,
    ) -> Option<Self> {
        if addresses.is_empty() {
            return None;
        }
        let member = |address: &String| {
            let known = before.and_then(|before| before.members.get(address));
            (address.clone(), known.map_or_else(|| connect.gateway(id, address), Arc::clone))
        };
        let members: BTreeMap<String, Arc<dyn Gateway>> = addresses.iter().map(member).collect();
        let all = Arc::new(Several::new(members.clone().into_iter().collect()));
        let listens = tokio::spawn(listen(scaler.clone(), Arc::clone(&all), inputs)).abort_handle();
        Some(Self { members, all, listens })
    }

    /// All of them as one.
    pub fn gateway(&self) -> Arc<dyn Gateway> {
        Arc::clone(&self.all) as Arc<dyn Gateway>
    }
}

async fn listen(scaler: Key, gateway: Arc<Several>, inputs: Inputs) {
    loop {
        let report = gateway.report().await;
        if inputs.send(Input::Report(scaler.clone(), report)).await.is_err() {
            return;
        }
        tokio::time::sleep(MIN_GAP).await;
        tokio::select! {
            () = gateway.changed() => {}
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
}
