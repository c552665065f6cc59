//! What is scaled besides Kubernetes' own kinds: groups of pods with a leader each, and objects without a scale.

use forewarm_kubernetes::resource::InferenceScaler;
use forewarm_testbed::control_plane::{ControlPlane, Workload};
use futures_util::TryStreamExt as _;
use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::Pod},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    runtime::{
        WatchStreamExt as _,
        wait::{await_condition, conditions::is_crd_established},
        watcher,
    },
};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    calls::Calls,
    rig::{Rig, until},
    shared,
};

/// Makes a kind of objects with one version.
async fn define(plane: &ControlPlane, group: &str, kind: &str, version: &str, subresources: Value) {
    let (singular, plural) = (kind.to_lowercase(), format!("{}s", kind.to_lowercase()));
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": singular},
            "versions": [{
                "name": version, "served": true, "storage": true, "subresources": subresources,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": anything, "status": anything},
                }},
            }],
        },
    }))
    .unwrap();
    let api: Api<CustomResourceDefinition> = Api::all(plane.client().await.unwrap());
    api.create(&PostParams::default(), &definition).await.unwrap();
    await_condition(api, &definition.name_any(), is_crd_established()).await.unwrap();
}

fn objects(rig: &Rig, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(rig.client.clone(), &rig.namespace, &resource)
}

async fn until_number(api: &Api<DynamicObject>, name: &str, path: &str, number: i64) -> DynamicObject {
    let is_so = |object: &DynamicObject| object.data.pointer(path) == Some(&number.into());
    until(api, name, &format!("{number} at {path}"), is_so).await
}

const NAME: &str = "leaderworkerset.sigs.k8s.io/name";
const GROUP_INDEX: &str = "leaderworkerset.sigs.k8s.io/group-index";
const WORKER_INDEX: &str = "leaderworkerset.sigs.k8s.io/worker-index";

/// A StatefulSet of pods with these labels, beside those that the group has of its own.
fn pods_of(name: &str, replicas: i64, first: i64, labels: &Value) -> Value {
    let engine = serde_json::to_value(Workload::new("llama", 0).deployment()).unwrap();
    let mut template = engine["spec"]["template"].clone();
    template["metadata"]["labels"] = labels.clone();
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "ordinals": {"start": first},
            "serviceName": "llama",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": template,
        },
    })
}

/// Plays the controller of LeaderWorkerSets with groups of two: a StatefulSet of leaders, and one of workers for each
/// leader, which goes with it.
async fn play_leader_worker_sets(groups: Api<DynamicObject>, sets: Api<StatefulSet>, pods: Api<Pod>) {
    let apply = PatchParams::apply("leaderworkerset").force();
    let leaders = json!({NAME: "llama", WORKER_INDEX: "0"});
    let lead = async {
        let mut seen = std::pin::pin!(watcher(groups.clone(), watcher::Config::default()).applied_objects());
        while let Some(group) = seen.try_next().await.unwrap() {
            let replicas = group.data["spec"]["replicas"].as_i64().unwrap();
            let set = pods_of("llama", replicas, 0, &leaders);
            sets.patch("llama", &apply, &Patch::Apply(set)).await.unwrap();
            let selector = format!("{NAME}=llama,{WORKER_INDEX}=0");
            let status = json!({"status": {"replicas": replicas, "hpaPodSelector": selector}});
            groups.patch_status("llama", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        }
    };
    let follow = async {
        let of_leaders = watcher::Config::default().labels(&format!("{WORKER_INDEX}=0"));
        let mut seen = std::pin::pin!(watcher(pods, of_leaders).applied_objects());
        while let Some(leader) = seen.try_next().await.unwrap() {
            if leader.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let (name, uid) = (leader.name_any(), leader.uid().unwrap());
            let group = name.rsplit_once('-').unwrap().1;
            let labels = json!({NAME: "llama", GROUP_INDEX: group, WORKER_INDEX: "1"});
            let mut set = pods_of(&name, 1, 1, &labels);
            set["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]);
            sets.patch(&name, &apply, &Patch::Apply(set)).await.unwrap();
        }
    };
    tokio::join!(lead, follow);
}

#[tokio::test]
async fn of_a_leader_worker_set_leaders_count_and_the_last_group_goes() {
    let Some(plane) = shared().await else { return };
    let (group, kind) = ("leaderworkerset.x-k8s.io", "LeaderWorkerSet");
    let scale = json!({
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.hpaPodSelector",
    });
    define(plane, group, kind, "v1", json!({"status": {}, "scale": scale})).await;
    let rig = Rig::new(plane, "leaders-workers", 16).await;
    let groups = objects(&rig, group, "v1", kind);
    let sets: Api<StatefulSet> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let played = play_leader_worker_sets(groups.clone(), sets.clone(), rig.pods());
    let _controller = AbortOnDropHandle::new(tokio::spawn(played));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    let object = DynamicObject::new("llama", &resource).data(json!({"spec": {"replicas": 2}}));
    groups.create(&PostParams::default(), &object).await.unwrap();
    let target = json!({"kubernetes": {"apiVersion": format!("{group}/v1"), "kind": kind, "name": "llama"}});
    rig.scale("llama", json!({"target": target})).await;
    // Each has as much as it takes, so that nobody is too many.
    let work = |work: [u32; 3]| {
        let pods = ["llama-0", "llama-1", "llama-2"].map(Into::into).into_iter();
        pods.zip(work).filter(|(_, work)| *work > 0).collect()
    };
    rig.report("llama", |report| report.in_flight = work([8, 8, 0]));
    let running = rig.start("a");
    rig.report("llama", |report| report.queued = 15);
    until_number(&groups, "llama", "/spec/replicas", 3).await;
    for (name, replicas) in [("llama", 3), ("llama-0", 1), ("llama-1", 1), ("llama-2", 1)] {
        let ready = |set: &StatefulSet| {
            set.status.as_ref().is_some_and(|status| status.ready_replicas == Some(replicas))
        };
        until(&sets, name, "ready pods", ready).await;
    }
    rig.report("llama", |report| (report.queued, report.in_flight) = (0, work([1, 8, 7])));
    // The first has the least to do, and stays.
    let drains = |pod: &Pod| pod.annotations().contains_key("forewarm.dev/draining");
    until(&rig.pods(), "llama-2", "a mark that it drains", drains).await;
    let plan = rig.gateways.of("leaders-workers.llama").plans().pop().unwrap();
    let told: Vec<(&str, bool)> =
        plan.endpoints.iter().map(|endpoint| (endpoint.replica.as_str(), endpoint.draining)).collect();
    assert_eq!(told, [("llama-0", false), ("llama-1", false), ("llama-2", true)], "no worker serves");
    assert_eq!(rig.status("llama").await.replicas, Some(3));
    rig.report("llama", |report| report.in_flight = work([1, 8, 0]));
    until_number(&groups, "llama", "/spec/replicas", 2).await;
    rig.until_condition("llama", "Ready", "AsDesired").await;
    let gone = |pod: Option<&Pod>| pod.is_none();
    // Named by their place in the group that they belong to.
    for name in ["llama-2", "llama-2-1"] {
        await_condition(rig.pods(), name, gone).await.unwrap();
    }
    let left = rig.pods().list(&ListParams::default()).await.unwrap().items;
    let names: Vec<String> = left.iter().map(Pod::name_any).collect();
    assert_eq!(names, ["llama-0", "llama-0-1", "llama-1", "llama-1-1"]);
    let is_marked = |pod: &Pod| pod.annotations().keys().any(|key| key.starts_with("forewarm.dev/"));
    assert!(!left.iter().any(is_marked), "nobody else was touched: {left:#?}");
    running.stop().await;
}

#[tokio::test]
async fn an_object_without_a_scale_has_its_number_where_the_scaler_says() {
    let Some(plane) = shared().await else { return };
    let (group, kind) = ("testbed.forewarm.dev", "Pool");
    define(plane, group, kind, "v1", json!({"status": {}})).await;
    let rig = Rig::new(plane, "pools", 8).await;
    let pools = objects(&rig, group, "v1", kind);
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    // Left out means one.
    let pool = DynamicObject::new("llama", &resource).data(json!({"spec": {"workers": {"image": "engine"}}}));
    pools.create(&PostParams::default(), &pool).await.unwrap();
    rig.deploy(&Workload::new("worker", 1)).await;
    rig.until_ready("worker", 1).await;
    let target = json!({"kubernetes": {
        "apiVersion": format!("{group}/v1"), "kind": kind, "name": "llama",
        "replicasPath": ".spec.workers.count", "selector": {"app": "worker"},
    }});
    rig.scale("llama", json!({"target": target})).await;
    let calls = Calls::to(rig.client.clone());
    calls.come_second(|call| call.path.ends_with("/pools/llama"));
    let running = rig.start_through("a", calls.client());
    rig.until_condition("llama", "Ready", "AsDesired").await;
    rig.report("llama", |report| report.queued = 20);
    let pool = until_number(&pools, "llama", "/spec/workers/count", 4).await;
    assert_eq!(pool.data["spec"]["workers"]["image"], "engine", "nothing else was touched");
    let counts = |scaler: &InferenceScaler| {
        let status = scaler.status.as_ref();
        status.is_some_and(|status| (status.replicas, status.ready_replicas) == (Some(4), Some(1)))
    };
    until(&rig.scalers(), "llama", "4 replicas, one of which serves", counts).await;

    let by_hand = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    let fewer = json!({"spec": {"workers": {"count": 2}}});
    pools.patch("llama", &by_hand, &Patch::Merge(fewer)).await.unwrap();
    let message = rig.until_condition("llama", "Contested", "CompetingWriter").await;
    assert!(message.starts_with("`kubectl-edit` set the number of replicas to 2"), "{message}");
    until_number(&pools, "llama", "/spec/workers/count", 2).await;
    running.stop().await;
}
