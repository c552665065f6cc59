//! The controller under exactly the rights of the chart, and with each of them taken away.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use forewarm_control::ports::Gateway;
use forewarm_core::ScalerId;
use forewarm_kubernetes::{
    controller::{Controller, Options},
    gateways::{Connect, GatewayOptions},
    lease::LeaseOptions,
};
use forewarm_testbed::control_plane::{self, ColdStart, ControlPlane, Workload};
use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{chart, kubectl};
use crate::shared;

/// Longest wait for anything, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A kind of its own for the chart's `controller.scales`, whose number is not where others have it.
const SCALES: [&str; 4] = [
    "controller.scales[0].apiGroup=apps",
    "controller.scales[0].resources[0]=deployments",
    "controller.scales[1].apiGroup=testbed.forewarm.dev",
    "controller.scales[1].resources[0]=fleets",
];

/// What a controller that works brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    /// A status is written.
    Status,
    /// A Deployment gets its number.
    Scaled,
    /// A custom resource gets its number, where its definition says.
    FleetScaled,
    /// A pod that loads is kept from being moved.
    Protected,
    /// A pod that cannot start is made anew.
    Replaced,
    /// An HPA for the same target is seen.
    RivalSeen,
    /// An Event is written.
    Told,
}

use Done::{FleetScaled, Protected, Replaced, RivalSeen, Scaled, Status, Told};

const ALL: [Done; 7] = [Status, Scaled, FleetScaled, Protected, Replaced, RivalSeen, Told];

/// What need not come about without the rule for a resource; some of it does not.
fn lost_without(resource: &str) -> &'static [Done] {
    match resource {
        "inferencescalers" | "leases" | "pods" => &ALL,
        // Written before anything is done. People are told all the same.
        "inferencescalers/status" => &[Status, Scaled, FleetScaled, Protected, Replaced, RivalSeen],
        "horizontalpodautoscalers" => &[RivalSeen],
        "deployments" => &[Status, Scaled, Protected, Replaced, RivalSeen],
        "deployments/scale" => &[Scaled, Replaced],
        "fleets" | "fleets/scale" | "customresourcedefinitions" => &[FleetScaled],
        "events" => &[Told],
        other => panic!("a rule for `{other}`: say here what does not work without it"),
    }
}

/// Without definitions, the number of a custom resource is looked for in the usual place. Where it is not there, it is
/// written again and again, and comes out right.
const ONLY_SAVES: &str = "customresourcedefinitions";

/// There are no gateways here.
struct NoGateway;

impl Connect for NoGateway {
    fn gateway(&self, _: &ScalerId, address: &str) -> Arc<dyn Gateway> {
        panic!("nobody asked for a gateway at {address}")
    }
}

fn scaler(name: &str, kind: &str, api_version: &str, min: u32, deadline: &str) -> Value {
    json!({
        "apiVersion": "forewarm.dev/v1alpha1",
        "kind": "InferenceScaler",
        "metadata": {"name": name},
        "spec": {
            "target": {"kubernetes": {"apiVersion": api_version, "kind": kind, "name": name}},
            "environment": "dev",
            "replicas": {"min": min, "max": 4},
            "coldStart": {"expected": "1s", "deadline": deadline},
            "policy": {"queueDepth": {"perReplica": 5}},
        },
    })
}

/// A fleet has its number at `.spec.size`.
fn definition() -> Value {
    let number = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "fleets.testbed.forewarm.dev"},
        "spec": {
            "group": "testbed.forewarm.dev",
            "scope": "Namespaced",
            "names": {"kind": "Fleet", "plural": "fleets", "singular": "fleet"},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                    "status": number,
                }}},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.size",
                    "statusReplicasPath": ".status.size",
                    "labelSelectorPath": ".status.selector",
                }},
            }],
        },
    })
}

/// The resources that a controller meets, and a node.
async fn define(plane: &ControlPlane, objects: &[Value], node: &str) {
    let ours = objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition").cloned();
    let definitions: Vec<Value> = ours.chain([definition()]).collect();
    kubectl(plane, &["apply", "--server-side", "--force-conflicts"], &definitions).unwrap();
    kubectl(plane, &["wait", "--for=condition=Established"], &definitions).unwrap();
    plane.gpu_node(node, 1).await.unwrap();
}

/// One controller with some rights, in a namespace of its own.
struct Variant {
    namespace: String,
    /// The resource whose rule it lacks.
    lacks: Option<String>,
    client: Client,
    shutdown: CancellationToken,
    /// The pod that cannot start, as it was before the controller was there.
    first: String,
}

async fn the_pod_of(client: &Client, namespace: &str, app: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_app = watcher::Config::default().labels(&format!("app={app}"));
    let mut seen = std::pin::pin!(watcher(pods, of_app).applied_objects());
    let pod = tokio::time::timeout(PATIENCE, seen.try_next()).await.unwrap().unwrap();
    pod.unwrap().metadata.name.unwrap()
}

impl Variant {
    async fn start(
        plane: &ControlPlane,
        namespace: String,
        lacks: Option<String>,
        rules: &[(bool, Value)],
    ) -> Self {
        plane.namespace(&namespace).await.unwrap();
        let kubeconfig = plane.service_account(&namespace, "controller").await.unwrap();
        let mut objects = Vec::new();
        for (of_cluster, kind) in [(true, "ClusterRole"), (false, "Role")] {
            let own = rules.iter().filter(|(cluster, _)| *cluster == of_cluster).map(|(_, rule)| rule);
            let metadata = json!({"name": namespace, "namespace": (!of_cluster).then_some(&namespace)});
            let group = "rbac.authorization.k8s.io";
            objects.push(json!({
                "apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata,
                "rules": own.collect::<Vec<_>>(),
            }));
            objects.push(json!({
                "apiVersion": format!("{group}/v1"), "kind": format!("{kind}Binding"), "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": kind, "name": namespace},
                "subjects": [{"kind": "ServiceAccount", "name": "controller", "namespace": namespace}],
            }));
        }
        kubectl(plane, &["apply", "--server-side"], &objects).unwrap();
        let loads = ColdStart { load: PATIENCE * 4, ..ColdStart::default() };
        let fails = ColdStart { fail: Some("ImagePullBackOff".to_owned()), ..ColdStart::default() };
        for (name, cold_start) in [("llm", loads.clone()), ("broken", fails), ("shared", loads)] {
            let workload = Workload { gpus: 0, cold_start, ..Workload::new(name, 1) };
            plane.deploy(&namespace, &workload).await.unwrap();
        }
        let objects = [
            json!({
                "apiVersion": "testbed.forewarm.dev/v1", "kind": "Fleet", "metadata": {"name": "fleet"},
                "spec": {"size": 1},
            }),
            json!({
                "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "rival"},
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shared"},
                    "maxReplicas": 4,
                },
            }),
            scaler("llm", "Deployment", "apps/v1", 2, "30m"),
            scaler("broken", "Deployment", "apps/v1", 1, "3s"),
            scaler("shared", "Deployment", "apps/v1", 1, "30m"),
            scaler("fleet", "Fleet", "testbed.forewarm.dev/v1", 2, "30m"),
        ];
        kubectl(plane, &["apply", "--server-side", "--namespace", &namespace], &objects).unwrap();
        let client = plane.client().await.unwrap();
        let first = the_pod_of(&client, &namespace, "broken").await;
        let options = Options {
            namespace: Some(namespace.clone()),
            lease: LeaseOptions::new(&namespace, "forewarm-controller", "rights".to_owned()),
            gateways: GatewayOptions::none(),
            hold: Duration::ZERO,
        };
        let own = control_plane::client(&kubeconfig).await.unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(Controller::new(options, own, Arc::new(NoGateway)).run(shutdown.clone()));
        Self { namespace, lacks, client, shutdown, first }
    }

    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    async fn objects(&self, group: &str, version: &str, kind: &str) -> Vec<Value> {
        let list = self.api(group, version, kind).list(&ListParams::default()).await.unwrap();
        list.items.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect()
    }

    /// What has come about so far.
    async fn done(&self) -> BTreeSet<Done> {
        let scalers = self.objects("forewarm.dev", "v1alpha1", "InferenceScaler").await;
        let deployments = self.objects("apps", "v1", "Deployment").await;
        let fleets = self.objects("testbed.forewarm.dev", "v1", "Fleet").await;
        let pods = self.objects("", "v1", "Pod").await;
        let events = self.objects("events.k8s.io", "v1", "Event").await;
        let named = |objects: &[Value], name: &str| {
            let of_name = |object: &&Value| object["metadata"]["name"] == name;
            objects.iter().find(of_name).cloned().unwrap_or_default()
        };
        let contested = named(&scalers, "shared")["status"]["conditions"].to_string().contains("`rival`");
        let protected = |pod: &Value| pod["metadata"]["annotations"]["forewarm.dev/protected"] == "true";
        let is_new = |pod: &Value| pod["metadata"]["name"] != *self.first;
        let of_broken = |pod: &&Value| pod["metadata"]["labels"]["app"] == "broken";
        let facts = [
            (Status, named(&scalers, "llm")["status"]["desiredReplicas"] == 2),
            (Scaled, named(&deployments, "llm")["spec"]["replicas"] == 2),
            (FleetScaled, named(&fleets, "fleet")["spec"]["size"] == 2),
            (Protected, pods.iter().any(protected)),
            (Replaced, pods.iter().filter(of_broken).any(is_new)),
            (RivalSeen, contested),
            (Told, events.iter().any(|event| event["regarding"]["kind"] == "InferenceScaler")),
        ];
        facts.into_iter().filter(|(_, is_so)| *is_so).map(|(done, _)| done).collect()
    }

    /// Waits until everything has come about that does not need what it lacks.
    async fn settles(&self) -> BTreeSet<Done> {
        let lost = self.lacks.as_deref().map_or(&[][..], lost_without);
        let expected: BTreeSet<Done> = ALL.into_iter().filter(|done| !lost.contains(done)).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let done = self.done().await;
            if done.is_superset(&expected) {
                return done;
            }
            assert!(
                Instant::now() < deadline,
                "without `{:?}` only {done:?} of {expected:?}: {:#?}",
                self.lacks,
                self.objects("forewarm.dev", "v1alpha1", "InferenceScaler").await
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_controller_needs_every_right_that_the_chart_gives_it_and_no_other() {
    let (Some(plane), Some(chart)) = (shared().await, chart()) else { return };
    let objects = chart.objects(&SCALES).unwrap();
    define(plane, &objects, "rights").await;
    let of_controller = |object: &&Value| {
        matches!(object["kind"].as_str(), Some("ClusterRole" | "Role"))
            && object["metadata"]["labels"]["app.kubernetes.io/component"] == "controller"
    };
    let mut rules: Vec<(bool, Value)> = Vec::new();
    for role in objects.iter().filter(of_controller) {
        let of_cluster = role["kind"] == "ClusterRole";
        rules.extend(role["rules"].as_array().unwrap().iter().map(|rule| (of_cluster, rule.clone())));
    }
    let mut variants = vec![Variant::start(plane, "rights-all".to_owned(), None, &rules).await];
    for index in 0..rules.len() {
        let lacks = rules[index].1["resources"][0].as_str().unwrap().to_owned();
        let mut fewer = rules.clone();
        fewer.remove(index);
        variants.push(Variant::start(plane, format!("rights-{index}"), Some(lacks), &fewer).await);
    }
    let mut settled = JoinSet::new();
    for variant in variants {
        settled.spawn(async move { (variant.settles().await, variant) });
    }
    let settled = settled.join_all().await;
    // All had their time by now, those too of whom nothing was expected.
    let mut needless = Vec::new();
    for (_, variant) in settled {
        let lacks = variant.lacks.as_deref().filter(|lacks| *lacks != ONLY_SAVES);
        if lacks.is_some() && variant.done().await == BTreeSet::from(ALL) {
            needless.push(lacks.map(str::to_owned));
        }
        variant.shutdown.cancel();
    }
    assert!(needless.is_empty(), "everything is done without the rules for {needless:?}");
}

/// Uninstalling takes away the controller and its rights. What it scaled stays as it is.
#[tokio::test]
async fn what_was_scaled_stays_when_everything_goes() {
    let (Some(plane), Some(chart)) = (shared().await, chart()) else { return };
    let objects = chart.objects(&SCALES).unwrap();
    define(plane, &objects, "uninstall").await;
    let everything = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    let rules = [(true, everything.clone()), (false, everything)];
    let variant = Variant::start(plane, "uninstall".to_owned(), None, &rules).await;
    variant.settles().await;
    variant.shutdown.cancel();
    let scalers = variant.objects("forewarm.dev", "v1alpha1", "InferenceScaler").await;
    assert!(scalers.iter().all(|scaler| scaler["metadata"]["finalizers"].is_null()), "{scalers:?}");
    let resource = variant.api("forewarm.dev", "v1alpha1", "InferenceScaler");
    // Nobody is there any more to finish anything: what had to be finished would hang.
    for name in ["llm", "broken", "shared", "fleet"] {
        resource.delete(name, &kube::api::DeleteParams::default()).await.unwrap();
    }
    assert!(variant.objects("forewarm.dev", "v1alpha1", "InferenceScaler").await.is_empty());
    let deployments = variant.objects("apps", "v1", "Deployment").await;
    let llm = deployments.iter().find(|deployment| deployment["metadata"]["name"] == "llm").unwrap();
    assert_eq!(llm["spec"]["replicas"], 2);
    assert!(llm["metadata"]["finalizers"].is_null());
    // Whoever scales next finds nothing in the way.
    let next = json!({"spec": {"replicas": 3}});
    let deployments = variant.api("apps", "v1", "Deployment");
    deployments.patch("llm", &PatchParams::default(), &Patch::Merge(next)).await.unwrap();
    assert_eq!(
        variant
            .objects("apps", "v1", "Deployment")
            .await
            .iter()
            .filter(|one| one["spec"]["replicas"] == 3)
            .count(),
        1
    );
}
