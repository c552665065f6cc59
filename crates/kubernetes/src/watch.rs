//! Watches: paginated lists, then changes. What is read is made small at once; no object is kept whole.

use std::{collections::BTreeSet, fmt::Debug};

use futures_util::StreamExt as _;
use k8s_openapi::api::{autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ApiResource, DynamicObject},
    core::{GroupVersionKind, Selector},
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    pod::{PodView, is_started},
    scaler::Key,
    table::{Change, Input, KindRef, PodObject, RivalObject, ScalerObject},
    target::{Paths, TargetView},
};

/// Where the table's owner takes what happened.
pub type Inputs = mpsc::Sender<Input>;

/// What names an object.
pub fn key(object: &impl kube::ResourceExt) -> Key {
    Key::new(&object.namespace().unwrap_or_default(), &object.name_any())
}

/// Follows the objects of a kind until nobody listens. A watch that ends or is too old begins anew by itself.
pub async fn follow<K, T>(
    api: Api<K>,
    config: watcher::Config,
    inputs: Inputs,
    read: impl Fn(K) -> T,
    wrap: impl Fn(Change<T>) -> Input,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    follow_dynamic(watcher(api, config), inputs, read, wrap).await;
}

async fn follow_dynamic<K: kube::ResourceExt + Clone, T>(
    stream: impl futures_util::Stream<Item = watcher::Result<watcher::Event<K>>>,
    inputs: Inputs,
    read: impl Fn(K) -> T,
    wrap: impl Fn(Change<T>) -> Input,
) {
    let mut stream = std::pin::pin!(stream.default_backoff());
    let mut listed = BTreeSet::new();
    while let Some(event) = stream.next().await {
        let change = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                let key = key(&object);
                listed.insert(key.clone());
                Change::Apply(key, read(object))
            }
            Ok(watcher::Event::InitDone) => Change::Listed(std::mem::take(&mut listed)),
            Ok(watcher::Event::Apply(object)) => Change::Apply(key(&object), read(object)),
            Ok(watcher::Event::Delete(object)) => Change::Delete(key(&object)),
            Err(error) => {
                tracing::debug!(%error, "a watch is interrupted");
                continue;
            }
        };
        if inputs.send(wrap(change)).await.is_err() {
            return;
        }
    }
}

/// Objects of all namespaces, or of one.
pub fn scoped(client: Client, namespace: Option<&str>, resource: &ApiResource) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, resource),
        None => Api::all_with(client, resource),
    }
}

/// Follows scalers. Objects of another version of the schema are read as far as they can be.
pub async fn scalers(client: Client, namespace: Option<String>, resource: ApiResource, inputs: Inputs) {
    let read = |object: DynamicObject| ScalerObject {
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        spec: object.data.get("spec").cloned().unwrap_or(Value::Null),
        status: object
            .data
            .get("status")
            .and_then(|status| serde_json::from_value(status.clone()).ok())
            .unwrap_or_default(),
    };
    let api = scoped(client, namespace.as_deref(), &resource);
    let stream = watcher_of(api);
    follow_dynamic(stream, inputs, read, Input::Scaler).await;
}

/// Follows targets of one kind.
pub async fn targets(
    client: Client,
    namespace: Option<String>,
    resource: ApiResource,
    kind: KindRef,
    paths: Paths,
    inputs: Inputs,
) {
    let api = scoped(client, namespace.as_deref(), &resource);
    let read = |object: DynamicObject| TargetView::of(&object, &paths);
    let wrap = |change| Input::Target(kind.clone(), change);
    let told = inputs.clone();
    // A kind that may not be listed must not hold up the others. The watch tries again by itself, and tells again.
    let stream = watcher_of(api).inspect(|event| {
        if let Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) = event
            && status.code == 403
        {
            let why = format!("spec.target.kubernetes: {} cannot be listed: {}", kind.kind, status.message);
            told.try_send(Input::NoKind(kind.clone(), why)).ok();
        }
    });
    follow_dynamic(stream, inputs, read, wrap).await;
}

fn watcher_of(
    api: Api<DynamicObject>,
) -> impl futures_util::Stream<Item = watcher::Result<watcher::Event<DynamicObject>>> {
    watcher(api, watcher::Config::default())
}

/// Follows pods.
pub async fn pods(client: Client, namespace: Option<String>, inputs: Inputs) {
    let api: Api<Pod> = match &namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    follow(api, watcher::Config::default(), inputs, |pod| pod_object(&pod), Input::Pod).await;
}

/// Finds the pods of a scaler that came after them.
///
/// # Errors
/// When they cannot be listed.
pub async fn pods_of(
    client: Client,
    key: &Key,
    selector: &Selector,
) -> Result<Vec<(Key, PodObject)>, kube::Error> {
    let api: Api<Pod> = Api::namespaced(client, &key.namespace);
    let params = kube::api::ListParams::default().labels_from(selector);
    let list = api.list(&params).await?;
    Ok(list.items.iter().map(|pod| (self::key(pod), pod_object(pod))).collect())
}

fn pod_object(pod: &Pod) -> PodObject {
    PodObject {
        view: PodView::of(pod),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        is_started: is_started(pod),
    }
}

/// Follows HorizontalPodAutoscalers: the rivals that there may be, KEDA's among them.
pub async fn rivals(client: Client, namespace: Option<String>, inputs: Inputs) {
    let api: Api<HorizontalPodAutoscaler> = match &namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let told = inputs.clone();
    // Nothing is decided before rivals are known. Where they may not be listed, they are taken to be none.
    let stream = watcher(api, watcher::Config::default()).inspect(|event| {
        if let Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) = event
            && status.code == 403
        {
            tracing::warn!(why = status.message, "who else scales is not seen");
            told.try_send(Input::Rival(Change::Listed(BTreeSet::new()))).ok();
        }
    });
    follow_dynamic(stream, inputs, |hpa| rival(&hpa), Input::Rival).await;
}

fn rival(hpa: &HorizontalPodAutoscaler) -> RivalObject {
    let target = hpa.spec.as_ref().map(|spec| &spec.scale_target_ref);
    let owner = hpa.owner_references().iter().find(|owner| owner.kind == "ScaledObject");
    RivalObject {
        target: target.map_or_else(Default::default, |target| {
            (target.api_version.clone().unwrap_or_default(), target.kind.clone(), target.name.clone())
        }),
        shown: match owner {
            Some(owner) => format!("ScaledObject `{}` of KEDA", owner.name),
            None => format!("HorizontalPodAutoscaler `{}`", hpa.name_any()),
        },
    }
}

/// The resource of a kind, and where its objects have what matters.
///
/// # Errors
/// In words for the scaler's condition: there is no such kind, or it cannot be scaled.
pub async fn resource_of(client: &Client, kind: &KindRef) -> Result<(ApiResource, Paths), String> {
    let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
    let gvk = GroupVersionKind::gvk(group, version, &kind.kind);
    let found = kube::discovery::pinned_kind(client, &gvk).await;
    let (resource, capabilities) = found.map_err(|error| {
        format!(
            "spec.target.kubernetes: the cluster has no kind {} in {}: {error}",
            kind.kind, kind.api_version
        )
    })?;
    if let Some(path) = &kind.replicas_path {
        return Ok((resource, Paths::with_replicas(path)));
    }
    if !capabilities.subresources.iter().any(|(sub, _)| sub.plural == "scale") {
        return Err(format!(
            "spec.target.kubernetes: {} has no scale subresource: set `replicasPath` and `selector`",
            kind.kind
        ));
    }
    let paths = paths_of(client, &resource, version).await.unwrap_or_default();
    Ok((resource, paths))
}

/// Where a custom resource has its number, as its definition says; `None` for Kubernetes' own kinds.
async fn paths_of(client: &Client, resource: &ApiResource, version: &str) -> Option<Paths> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    if !resource.group.contains('.') {
        return None;
    }
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = format!("{}.{}", resource.plural, resource.group);
    let definition = api.get_opt(&name).await.ok()??;
    let version = definition.spec.versions.into_iter().find(|known| known.name == version)?;
    let scale = version.subresources?.scale?;
    Some(Paths {
        replicas: scale.spec_replicas_path,
        selector: scale.label_selector_path.unwrap_or_else(|| Paths::default().selector),
    })
}
