//! The controller against a real API server: what people see when they use it.

use std::time::Duration;

use forewarm_core::pool::PoolPlan;
use forewarm_testbed::control_plane::{ColdStart, Workload};
use k8s_openapi::api::{apps::v1::StatefulSet, autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    cluster::Engines,
    rig::{Rig, SOON, scaler, until},
    shared,
};

/// Writes a number of replicas as somebody else.
async fn write_as(rig: &Rig, manager: &str, name: &str, replicas: i32) {
    let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    let patch = json!({"spec": {"replicas": replicas}});
    rig.deployments().patch(name, &params, &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn a_queue_scales_a_deployment_up_and_its_status_and_events_say_why() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "up", 8).await;
    let load = Duration::from_millis(500);
    let cold_start = ColdStart { load, ..ColdStart::default() };
    rig.deploy(&Workload { cold_start, ..Workload::new("llama", 1) }).await;
    rig.scale("llama", json!({})).await;
    let running = rig.start("a");
    rig.until_condition("llama", "Ready", "AsDesired").await;
    rig.report("llama", |report| report.queued = 20);
    rig.until_asked_for("llama", 4).await;
    rig.until_ready("llama", 4).await;
    let note = rig.until_event("llama", "ScaledUp").await;
    assert_eq!(note, "1 → 4 replicas: 20 requests wait, a replica is worth 5 of them");
    rig.until_condition("llama", "Ready", "AsDesired").await;
    let status = rig.status("llama").await;
    assert_eq!(
        (status.replicas, status.ready_replicas, status.desired_replicas),
        (Some(4), Some(4), Some(4))
    );
    assert_eq!(status.decisions[0].summary, note);
    // It is told right after the status is written.
    let knows_all = |plan: &PoolPlan| plan.endpoints.len() == 4;
    tokio::time::timeout(SOON, rig.gateways.of("up.llama").until_planned(knows_all)).await.unwrap();

    let text = |args: &[&str]| {
        let output = plane.kubectl().unwrap().args(["-n", "up"]).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = text(&["get", "inferencescalers"]);
    for word in ["TARGET", "MIN", "MAX", "DESIRED", "STATUS", "llama", "AsDesired"] {
        assert!(listed.contains(word), "{listed}");
    }
    assert!(
        text(&["explain", "inferencescaler.spec.coldStart.expected"])
            .contains("Learned from the third start on")
    );
    text(&["scale", "inferencescaler", "llama", "--replicas", "5"]);
    rig.until_asked_for("llama", 5).await;
    running.stop().await;
}

#[tokio::test]
async fn the_pod_with_the_least_work_goes_and_only_when_it_has_none() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "down", 8).await;
    rig.deploy(&Workload::new("llama", 3)).await;
    rig.until_ready("llama", 3).await;
    let names = rig.pod_names().await;
    // Set before anything runs: the one in the middle has the least.
    let work = [9, 1, 8];
    rig.report("llama", |report| {
        report.in_flight = names.iter().map(|name| name.as_str().into()).zip(work).collect();
    });
    rig.scale("llama", json!({"engine": {"maxConcurrency": 10}})).await;
    let running = rig.start("a");
    let drains = |pod: &Pod| pod.annotations().contains_key("forewarm.dev/draining");
    let drained = until(&rig.pods(), &names[1], "a mark that it drains", drains).await;
    assert_eq!(drained.annotations()["karpenter.sh/do-not-disrupt"], "true");
    assert_eq!(drained.annotations()["cluster-autoscaler.kubernetes.io/safe-to-evict"], "false");
    let plan = rig.gateways.of("down.llama").plans().pop().unwrap();
    let endpoint = plan.endpoints.iter().find(|endpoint| endpoint.replica.as_str() == names[1]).unwrap();
    assert!(endpoint.draining, "the gateway was told first");
    rig.until_asked_for("llama", 3).await;
    rig.report("llama", |report| report.in_flight.retain(|id, _| id.as_str() != names[1]));
    rig.until_asked_for("llama", 2).await;
    rig.until_ready("llama", 2).await;
    let left = rig.pod_names().await;
    assert_eq!(left, [names[0].clone(), names[2].clone()]);
    running.stop().await;
}

#[tokio::test]
async fn of_a_stateful_set_the_last_goes() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "ordinals", 8).await;
    let deployment = serde_json::to_value(Workload::new("llama", 3).deployment()).unwrap();
    let mut set = json!({
        "metadata": {"name": "llama"},
        "spec": {
            "replicas": 3,
            "serviceName": "llama",
            "podManagementPolicy": "Parallel",
            "selector": deployment["spec"]["selector"],
            "template": deployment["spec"]["template"],
        },
    });
    set["kind"] = "StatefulSet".into();
    let sets: Api<StatefulSet> = Api::namespaced(rig.client.clone(), &rig.namespace);
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    let ready =
        |set: &StatefulSet| set.status.as_ref().is_some_and(|status| status.ready_replicas == Some(3));
    until(&sets, "llama", "3 ready replicas", ready).await;
    rig.report("llama", |report| {
        report.in_flight = [("llama-0".into(), 1), ("llama-1".into(), 9), ("llama-2".into(), 8)].into();
    });
    let target = json!({"kubernetes": {"kind": "StatefulSet", "name": "llama"}});
    rig.scale("llama", json!({"target": target, "engine": {"maxConcurrency": 10}})).await;
    let running = rig.start("a");
    let drains = |pod: &Pod| pod.annotations().contains_key("forewarm.dev/draining");
    until(&rig.pods(), "llama-2", "a mark that it drains", drains).await;
    rig.report("llama", |report| report.in_flight.retain(|id, _| id.as_str() != "llama-2"));
    let asked = |set: &StatefulSet| set.spec.as_ref().is_some_and(|spec| spec.replicas == Some(2));
    until(&sets, "llama", "2 replicas", asked).await;
    running.stop().await;
}

#[tokio::test]
async fn who_else_writes_the_number_is_named_and_left_alone() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "contested", 8).await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.scale("llama", json!({})).await;
    let running = rig.start("a");
    rig.report("llama", |report| report.queued = 20);
    rig.until_asked_for("llama", 4).await;
    rig.until_ready("llama", 4).await;
    rig.until_condition("llama", "Ready", "AsDesired").await;
    write_as(&rig, "argocd-controller", "llama", 2).await;
    let message = rig.until_condition("llama", "Contested", "CompetingWriter").await;
    assert!(
        message.starts_with("Argo CD (`argocd-controller`) set the number of replicas to 2"),
        "{message}"
    );
    rig.until_event("llama", "CompetingWriter").await;
    rig.until_asked_for("llama", 2).await;
    assert_eq!(rig.status("llama").await.desired_replicas, Some(4), "it still decides");
    running.stop().await;
}

#[tokio::test]
async fn a_horizontal_pod_autoscaler_of_the_same_target_is_named_and_watched_only() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "rival", 8).await;
    rig.deploy(&Workload::new("llama", 2)).await;
    let hpa: HorizontalPodAutoscaler = serde_json::from_value(json!({
        "metadata": {"name": "old"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llama"},
            "minReplicas": 2, "maxReplicas": 3,
        },
    }))
    .unwrap();
    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(rig.client.clone(), &rig.namespace);
    hpas.create(&PostParams::default(), &hpa).await.unwrap();
    rig.scale("llama", json!({})).await;
    let running = rig.start("a");
    rig.report("llama", |report| report.queued = 20);
    let message = rig.until_condition("llama", "Contested", "Rival").await;
    assert!(message.starts_with("HorizontalPodAutoscaler `old` scales the same target"), "{message}");
    rig.until_event("llama", "WouldScale").await;
    rig.until_asked_for("llama", 2).await;
    hpas.delete("old", &Default::default()).await.unwrap();
    rig.until_asked_for("llama", 4).await;
    running.stop().await;
}

#[tokio::test]
async fn a_shadow_decides_and_records_and_leaves_the_target_alone() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "shadow", 8).await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.scale("llama", json!({"mode": "Shadow"})).await;
    let running = rig.start("a");
    rig.report("llama", |report| report.queued = 20);
    let note = rig.until_event("llama", "WouldScale").await;
    assert!(note.starts_with("1 → 4 replicas"), "{note}");
    rig.until_condition("llama", "Ready", "Shadow").await;
    let deployment = rig.deployments().get("llama").await.unwrap();
    let writers: Vec<_> =
        deployment.managed_fields().iter().filter_map(|entry| entry.manager.clone()).collect();
    assert!(!writers.contains(&"forewarm".to_owned()), "{writers:?}");
    running.stop().await;
}

#[tokio::test]
async fn replicas_that_no_node_has_room_for_are_reported_in_the_schedulers_words() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "full", 0).await;
    // More than any node of these tests has.
    rig.deploy(&Workload { gpus: 64, ..Workload::new("llama", 1) }).await;
    rig.scale("llama", json!({"coldStart": {"expected": "1s", "deadline": "3s"}})).await;
    let running = rig.start("a");
    let message = rig.until_condition("llama", "CapacityAvailable", "Unschedulable").await;
    assert!(message.contains("Insufficient nvidia.com/gpu"), "{message}");
    let first = rig.pod_names().await.remove(0);
    let note = rig.until_event("llama", "StartFailed").await;
    assert!(note.contains("llama"), "{note}");
    let gone = |pod: Option<&Pod>| pod.is_none();
    kube::runtime::wait::await_condition(rig.pods(), &first, gone).await.unwrap();
    assert_eq!(rig.deployments().get("llama").await.unwrap().spec.unwrap().replicas, Some(1));
    running.stop().await;
}

#[tokio::test]
async fn what_the_schema_can_say_the_api_server_refuses_and_the_rest_becomes_a_condition() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "refused", 1).await;
    let cases = [
        (json!({"replicas": {"min": 4, "max": 2}}), "replicas.max must be at least replicas.min"),
        (json!({"replicas": {"min": 0, "max": 2}}), "allowScaleToZero: true"),
        (json!({"policy": {}}), "policy needs exactly one of"),
        (json!({"policy": {"forewarm": {}}}), "set spec.objective"),
        (json!({"engine": {"tls": {"unsafeSsl": true}}}), "engine.tls needs `scheme: HTTPS` as well"),
        (json!({"coldStart": {"expected": "9m", "deadline": "5m"}}), "coldStart.deadline must be at least"),
        (json!({"drainDeadline": "soon"}), "spec.drainDeadline"),
        (json!({"mode": "Dance"}), "spec.mode"),
    ];
    for (change, wanted) in cases {
        let object = serde_json::from_value::<kube::api::DynamicObject>(scaler("llama", change)).unwrap();
        let resource = kube::api::ApiResource::erase::<forewarm_kubernetes::resource::InferenceScaler>(&());
        let api: Api<kube::api::DynamicObject> =
            Api::namespaced_with(rig.client.clone(), &rig.namespace, &resource);
        let error = api.create(&PostParams::default(), &object).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let running = rig.start("a");
    rig.scale("llama", json!({"policy": {"queueDepth": {"perReplica": 0}}})).await;
    let message = rig.until_condition("llama", "Ready", "InvalidSpec").await;
    assert_eq!(message, "spec.policy.queueDepth.perReplica: found 0, wanted a quantity above zero");
    rig.until_event("llama", "InvalidSpec").await;
    let scaled = |spec: Value| Patch::Merge(json!({"spec": spec}));
    let params = PatchParams::default();
    rig.scalers()
        .patch("llama", &params, &scaled(json!({"policy": {"queueDepth": {"perReplica": 5}}})))
        .await
        .unwrap();
    let message = rig.until_condition("llama", "Ready", "TargetNotFound").await;
    assert!(message.contains("there is no Deployment `llama` in the namespace `refused`"), "{message}");
    running.stop().await;
}

#[tokio::test]
async fn without_a_gateway_the_engines_are_asked_pod_by_pod() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "engines", 8).await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.until_ready("llama", 1).await;
    let _engines = Engines::follow(rig.client.clone(), &rig.namespace, 12.0);
    rig.scale("llama", json!({"signals": []})).await;
    let running = rig.start_alone("a", rig.client.clone());
    // One engine with 12 waiting requests: three replicas.
    rig.until_asked_for("llama", 3).await;
    let note = rig.until_event("llama", "ScaledUp").await;
    assert!(note.starts_with("1 → 3 replicas: 12 requests wait"), "{note}");
    running.stop().await;
}
