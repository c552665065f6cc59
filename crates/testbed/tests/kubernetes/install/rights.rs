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
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{chart, kubectl};
use crate::{calls::Calls, rig::until, shared};

/// Longest wait for anything, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Kinds of their own for the chart's `controller.scales`: one whose number is not where others have it, one without a
/// scale.
const SCALES: [&str; 7] = [
    "controller.scales[0].apiGroup=apps",
    "controller.scales[0].resources[0]=deployments",
    "controller.scales[1].apiGroup=testbed.forewarm.dev",
    "controller.scales[1].resources[0]=fleets",
    "controller.scales[2].apiGroup=testbed.forewarm.dev",
    "controller.scales[2].resources[0]=fields",
    "controller.scales[2].scale=false",
];

/// What a controller that works brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    /// The Lease is renewed.
    Renewed,
    /// A status is written.
    Status,
    /// A Deployment gets its number, although it changes all the time.
    Scaled,
    /// So does a custom resource, where its definition says.
    FleetScaled,
    /// The pods of a custom resource are known, as its definition says.
    FleetCounted,
    /// So does one without a scale, where its scaler says.
    FieldScaled,
    /// A pod that loads is kept from being moved.
    Protected,
    /// A pod that cannot start is made anew.
    Replaced,
    /// An HPA for the same target is seen.
    RivalSeen,
    /// An Event is written.
    Told,
    /// What is asked for later is done.
    Respecified,
    /// A pod that is made later is kept from being moved.
    ProtectedLater,
    /// An Event is written that is like one before.
    ToldAgain,
    /// A Deployment that goes is missed.
    Missed,
    /// So is a custom resource.
    FleetMissed,
    /// So is one without a scale.
    FieldMissed,
    /// An HPA that goes is none any more.
    RivalGone,
}

use Done::{
    FieldMissed, FieldScaled, FleetCounted, FleetMissed, FleetScaled, Missed, Protected, ProtectedLater,
    Renewed, Replaced, Respecified, RivalGone, RivalSeen, Scaled, Status, Told, ToldAgain,
};

/// What comes about at first, and what does after changes.
const FIRST: [Done; 10] =
    [Renewed, Status, Scaled, FleetScaled, FleetCounted, FieldScaled, Protected, Replaced, RivalSeen, Told];
const THEN: [Done; 7] = [Respecified, ProtectedLater, ToldAgain, Missed, FleetMissed, FieldMissed, RivalGone];

/// One verb on one resource.
#[derive(Clone, Debug)]
struct Right {
    resource: String,
    verb: String,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)
    }
}

impl Right {
    /// What need not come about without it; some of it does not.
    fn lost_without(&self) -> Vec<Done> {
        let later = [Respecified, ProtectedLater, ToldAgain];
        let only = |lost: &[Done]| lost.to_vec();
        match (self.resource.as_str(), self.verb.as_str()) {
            // Nobody leads, or nothing is known.
            ("leases", "create" | "get" | "update") | ("inferencescalers" | "pods", "list") => {
                FIRST.into_iter().chain(THEN).collect()
            }
            ("inferencescalers", "watch") => only(&later),
            // Written before anything is done. People are told all the same.
            ("inferencescalers/status", "patch") => {
                let kept = [Renewed, Told];
                FIRST.into_iter().chain(THEN).filter(|done| !kept.contains(done)).collect()
            }
            ("pods", "watch") => only(&[ProtectedLater]),
            // What goes first is marked before the number falls, so the number waits.
            ("pods", "patch") => [only(&[Scaled, Protected, Replaced]), only(&later)].concat(),
            ("pods", "delete") => only(&[Replaced]),
            ("horizontalpodautoscalers", "list") => only(&[RivalSeen, RivalGone]),
            ("horizontalpodautoscalers", "watch") => only(&[RivalGone]),
            ("deployments", "list") => {
                [only(&[Status, Scaled, Protected, Replaced, RivalSeen, RivalGone]), only(&later)].concat()
            }
            ("deployments", "watch") => only(&[Missed]),
            ("deployments/scale", "get" | "patch") => {
                [only(&[Scaled, Protected, Replaced]), only(&later)].concat()
            }
            ("fleets", "list") => only(&[FleetScaled, FleetCounted]),
            ("fleets", "watch") => only(&[FleetMissed]),
            ("fleets/scale", "get" | "patch") => only(&[FleetScaled]),
            ("fields", "list" | "get" | "patch") => only(&[FieldScaled]),
            ("fields", "watch") => only(&[FieldMissed]),
            ("customresourcedefinitions", "get") => only(&[FleetScaled, FleetCounted]),
            ("events", "create") => only(&[Told, ToldAgain]),
            ("events", "patch") => only(&[ToldAgain]),
            _ => panic!("the right to {self}: say here what does not work without it"),
        }
    }
}

/// A rule of a role, and whether the role is the cluster's.
type Rule = (bool, Value);

/// Each right of these rules, and the rules without it.
fn one_less(rules: &[Rule]) -> Vec<(Right, Vec<Rule>)> {
    let texts =
        |rule: &Value, field: &str| -> Vec<String> { serde_json::from_value(rule[field].clone()).unwrap() };
    let mut all = Vec::new();
    for (index, (of_cluster, rule)) in rules.iter().enumerate() {
        for resource in texts(rule, "resources") {
            for verb in texts(rule, "verbs") {
                let with = |resources: Vec<&String>, verbs: Vec<&String>| {
                    let mut part = rule.clone();
                    (part["resources"], part["verbs"]) = (json!(resources), json!(verbs));
                    let is_rule = !resources.is_empty() && !verbs.is_empty();
                    is_rule.then_some((*of_cluster, part))
                };
                let (resources, verbs) = (texts(rule, "resources"), texts(rule, "verbs"));
                let others = resources.iter().filter(|other| **other != resource).collect();
                let other_verbs = verbs.iter().filter(|other| **other != verb).collect();
                let mut fewer = rules.to_vec();
                let parts = [with(others, verbs.iter().collect()), with(vec![&resource], other_verbs)];
                fewer.splice(index..=index, parts.into_iter().flatten());
                all.push((Right { resource: resource.clone(), verb }, fewer));
            }
        }
    }
    all
}

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

/// A fleet has its number at `.spec.size`, a field has no scale.
fn definitions() -> [Value; 2] {
    let scale = json!({
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.size",
        "labelSelectorPath": ".status.selector",
    });
    [definition("Fleet", json!({"status": {}, "scale": scale})), definition("Field", json!({"status": {}}))]
}

fn definition(kind: &str, subresources: Value) -> Value {
    let singular = kind.to_lowercase();
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{singular}s.testbed.forewarm.dev")},
        "spec": {
            "group": "testbed.forewarm.dev",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": format!("{singular}s"), "singular": singular},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": anything, "status": anything},
                }},
                "subresources": subresources,
            }],
        },
    })
}

/// The resources that a controller meets, and a node.
async fn define(plane: &ControlPlane, objects: &[Value], node: &str) {
    let ours = objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition").cloned();
    let definitions: Vec<Value> = ours.chain(definitions()).collect();
    kubectl(plane, &["apply", "--server-side", "--force-conflicts"], &definitions).unwrap();
    kubectl(plane, &["wait", "--for=condition=Established"], &definitions).unwrap();
    plane.gpu_node(node, 1).await.unwrap();
}

/// One controller with some rights, in a namespace of its own.
struct Variant {
    namespace: String,
    /// What it may not do.
    lacks: Option<Right>,
    client: Client,
    shutdown: CancellationToken,
    /// The pod that cannot start, as it was before the controller was there.
    first: String,
    done: BTreeSet<Done>,
}

async fn the_pod_of(client: &Client, namespace: &str, app: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_app = watcher::Config::default().labels(&format!("app={app}"));
    let mut seen = std::pin::pin!(watcher(pods, of_app).applied_objects());
    let pod = tokio::time::timeout(PATIENCE, seen.try_next()).await.unwrap().unwrap();
    pod.unwrap().metadata.name.unwrap()
}

/// The roles of an account with these rules.
fn roles(namespace: &str, rules: &[Rule]) -> Vec<Value> {
    let mut objects = Vec::new();
    for (of_cluster, kind) in [(true, "ClusterRole"), (false, "Role")] {
        let own = rules.iter().filter(|(cluster, _)| *cluster == of_cluster).map(|(_, rule)| rule);
        let metadata = json!({"name": namespace, "namespace": (!of_cluster).then_some(namespace)});
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
    objects
}

/// What a controller has to do.
fn work() -> Vec<Value> {
    let loads = ColdStart { load: PATIENCE * 4, ..ColdStart::default() };
    let fails = ColdStart { fail: Some("ImagePullBackOff".to_owned()), ..ColdStart::default() };
    let mut field = scaler("field", "Field", "testbed.forewarm.dev/v1", 2, "30m");
    field["spec"]["target"]["kubernetes"]["replicasPath"] = ".spec.crop.rows".into();
    field["spec"]["target"]["kubernetes"]["selector"] = json!({"app": "field"});
    let mut objects = vec![
        json!({
            "apiVersion": "testbed.forewarm.dev/v1", "kind": "Fleet", "metadata": {"name": "fleet"},
            "spec": {"size": 1},
        }),
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fleet", "labels": {"app": "fleet"}},
            "spec": {"containers": [{"name": "engine", "image": "engine"}]},
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
        json!({
            "apiVersion": "testbed.forewarm.dev/v1", "kind": "Field", "metadata": {"name": "field"},
            "spec": {"crop": {"rows": 1}},
        }),
        field,
    ];
    for (name, cold_start) in [("llm", loads.clone()), ("broken", fails), ("shared", loads)] {
        let workload = Workload { gpus: 0, cold_start, ..Workload::new(name, 1) };
        let mut deployment = serde_json::to_value(workload.deployment()).unwrap();
        (deployment["apiVersion"], deployment["kind"]) = ("apps/v1".into(), "Deployment".into());
        objects.push(deployment);
    }
    objects
}

impl Variant {
    /// Makes a namespace with work for a controller that has these rights, and no controller.
    async fn prepare(
        plane: &ControlPlane,
        namespace: &str,
        lacks: Option<Right>,
        rules: &[Rule],
    ) -> (Self, Vec<Value>) {
        plane.namespace(namespace).await.unwrap();
        let mut objects = work();
        objects.iter_mut().for_each(|object| object["metadata"]["namespace"] = namespace.into());
        objects.extend(roles(namespace, rules));
        let variant = Self {
            namespace: namespace.to_owned(),
            lacks,
            client: plane.client().await.unwrap(),
            shutdown: CancellationToken::new(),
            first: String::new(),
            done: BTreeSet::new(),
        };
        (variant, objects)
    }

    /// Starts its controller, when all the work is there.
    async fn start(&mut self, plane: &ControlPlane) {
        let namespace = &self.namespace;
        let fleets = self.api("testbed.forewarm.dev", "v1", "Fleet");
        let status = json!({"status": {"size": 1, "selector": "app=fleet"}});
        fleets.patch_status("fleet", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        until(&pods, "fleet", "a life", |pod: &Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
        })
        .await;
        self.first = the_pod_of(&self.client, namespace, "broken").await;
        let options = Options {
            namespace: Some(namespace.clone()),
            lease: LeaseOptions::new(namespace, "forewarm-controller", "rights".to_owned()),
            gateways: GatewayOptions::none(),
            hold: Duration::ZERO,
        };
        let kubeconfig = plane.service_account(namespace, "controller").await.unwrap();
        let own = control_plane::client(&kubeconfig).await.unwrap();
        let calls = Calls::with_others(own, self.client.clone());
        calls.come_second(|call| call.path.ends_with("/scale") || call.path.ends_with("/fields/field"));
        let controller = Controller::new(options, calls.client(), Arc::new(NoGateway));
        tokio::spawn(controller.run(self.shutdown.clone()));
    }

    /// What others do later.
    async fn change(&self) {
        let more = json!({"spec": {"replicas": {"min": 3}}});
        let scalers = self.api("forewarm.dev", "v1alpha1", "InferenceScaler");
        scalers.patch("llm", &PatchParams::default(), &Patch::Merge(more)).await.unwrap();
        for (group, version, kind, name) in [
            ("apps", "v1", "Deployment", "broken"),
            ("testbed.forewarm.dev", "v1", "Fleet", "fleet"),
            ("testbed.forewarm.dev", "v1", "Field", "field"),
            ("autoscaling", "v2", "HorizontalPodAutoscaler", "rival"),
        ] {
            self.api(group, version, kind).delete(name, &DeleteParams::default()).await.unwrap();
        }
    }

    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    async fn objects(&self, group: &str, version: &str, kind: &str) -> Vec<Value> {
        let list = self.api(group, version, kind).list(&ListParams::default()).await.unwrap();
        list.items.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect()
    }

    /// Looks at what has come about.
    async fn look(&mut self) {
        let scalers = self.objects("forewarm.dev", "v1alpha1", "InferenceScaler").await;
        let deployments = self.objects("apps", "v1", "Deployment").await;
        let fleets = self.objects("testbed.forewarm.dev", "v1", "Fleet").await;
        let fields = self.objects("testbed.forewarm.dev", "v1", "Field").await;
        let pods = self.objects("", "v1", "Pod").await;
        let events = self.objects("events.k8s.io", "v1", "Event").await;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let lease = leases.get_opt("forewarm-controller").await.unwrap().and_then(|lease| lease.spec);
        let named = |objects: &[Value], name: &str| {
            let of_name = |object: &&Value| object["metadata"]["name"] == name;
            objects.iter().find(of_name).cloned().unwrap_or_default()
        };
        let status = |name: &str| named(&scalers, name)["status"].clone();
        let condition = |name: &str, kind: &str| {
            let status = status(name);
            let all = status["conditions"].as_array().into_iter().flatten();
            all.clone().find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
        };
        let missed = |name: &str| condition(name, "Ready")["reason"] == "TargetNotFound";
        let of = |pod: &&Value, app: &str| pod["metadata"]["labels"]["app"] == app;
        let protected = |pod: &&Value| pod["metadata"]["annotations"]["forewarm.dev/protected"] == "true";
        let is_new = |pod: &Value| pod["metadata"]["name"] != *self.first;
        let ours = || events.iter().filter(|event| event["regarding"]["kind"] == "InferenceScaler");
        let contested = condition("shared", "Contested");
        let rival_seen = contested["message"].to_string().contains("`rival`");
        let facts = [
            (Renewed, lease.is_some_and(|lease| lease.renew_time != lease.acquire_time)),
            (Status, status("llm")["desiredReplicas"] == 2),
            (Scaled, named(&deployments, "llm")["spec"]["replicas"] == 2),
            (FleetScaled, named(&fleets, "fleet")["spec"]["size"] == 2),
            (FieldScaled, named(&fields, "field")["spec"]["crop"]["rows"] == 2),
            (FleetCounted, status("fleet")["readyReplicas"] == 1),
            (Protected, pods.iter().any(|pod| protected(&pod))),
            (Replaced, pods.iter().filter(|pod| of(pod, "broken")).any(is_new)),
            (RivalSeen, rival_seen),
            (Told, ours().next().is_some()),
            (Respecified, named(&deployments, "llm")["spec"]["replicas"] == 3),
            (ProtectedLater, pods.iter().filter(|pod| of(pod, "llm")).filter(protected).count() == 3),
            (ToldAgain, ours().any(|event| event["series"]["count"].as_i64() >= Some(2))),
            (Missed, missed("broken")),
            (FleetMissed, missed("fleet")),
            (FieldMissed, missed("field")),
            (RivalGone, contested["status"] == "False" && self.done.contains(&RivalSeen)),
        ];
        self.done.extend(facts.into_iter().filter(|(_, is_so)| *is_so).map(|(done, _)| done));
    }

    /// Waits until all of this has come about that does not need what it lacks.
    async fn settles(&mut self, expected: &[Done]) {
        let lost = self.lacks.as_ref().map_or_else(Vec::new, Right::lost_without);
        let expected: BTreeSet<Done> = expected.iter().copied().filter(|done| !lost.contains(done)).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.look().await;
            if self.done.is_superset(&expected) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "without the right to {:?} only {:?} of {expected:?}: {:#?}",
                self.lacks.as_ref().map(Right::to_string),
                self.done,
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
    let mut rules: Vec<Rule> = Vec::new();
    for role in objects.iter().filter(of_controller) {
        let of_cluster = role["kind"] == "ClusterRole";
        rules.extend(role["rules"].as_array().unwrap().iter().map(|rule| (of_cluster, rule.clone())));
    }
    let all = (None, rules.clone());
    let fewer = one_less(&rules).into_iter().map(|(right, rules)| (Some(right), rules));
    let (mut variants, mut objects) = (Vec::new(), Vec::new());
    for (index, (lacks, rules)) in std::iter::once(all).chain(fewer).enumerate() {
        let (variant, own) = Variant::prepare(plane, &format!("rights-{index}"), lacks, &rules).await;
        variants.push(variant);
        objects.extend(own);
    }
    kubectl(plane, &["apply", "--server-side"], &objects).unwrap();
    let mut settled = JoinSet::new();
    for mut variant in variants {
        settled.spawn(async move {
            variant.start(plane).await;
            variant.settles(&FIRST).await;
            variant.change().await;
            variant.settles(&THEN).await;
            variant
        });
    }
    // All have had their time by then, those too of whom nothing was expected.
    let mut needless = Vec::new();
    for mut variant in settled.join_all().await {
        variant.look().await;
        variant.shutdown.cancel();
        let everything: BTreeSet<Done> = FIRST.into_iter().chain(THEN).collect();
        needless.extend(variant.lacks.filter(|_| variant.done == everything).map(|right| right.to_string()));
    }
    assert!(needless.is_empty(), "everything is done without the right to {needless:?}");
}

/// Uninstalling takes away the controller and its rights. What it scaled stays as it is.
#[tokio::test]
async fn what_was_scaled_stays_when_everything_goes() {
    let (Some(plane), Some(chart)) = (shared().await, chart()) else { return };
    let objects = chart.objects(&SCALES).unwrap();
    define(plane, &objects, "uninstall").await;
    let everything = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    let rules = [(true, everything.clone()), (false, everything)];
    let (mut variant, objects) = Variant::prepare(plane, "uninstall", None, &rules).await;
    kubectl(plane, &["apply", "--server-side"], &objects).unwrap();
    variant.start(plane).await;
    variant.settles(&FIRST).await;
    variant.shutdown.cancel();
    let scalers = variant.objects("forewarm.dev", "v1alpha1", "InferenceScaler").await;
    assert!(scalers.iter().all(|scaler| scaler["metadata"]["finalizers"].is_null()), "{scalers:?}");
    let resource = variant.api("forewarm.dev", "v1alpha1", "InferenceScaler");
    // Nobody is there any more to finish anything: what had to be finished would hang.
    for name in ["llm", "broken", "shared", "fleet", "field"] {
        resource.delete(name, &DeleteParams::default()).await.unwrap();
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
