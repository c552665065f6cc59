//! Objects as the API server has them: what is read of pods and targets, and how a scaler is explained.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::collections::BTreeMap;

use forewarm_control::Clock;
use forewarm_core::{Phase, Timestamp};
use forewarm_kubernetes::{
    clock::ServerClock,
    pod::PodView,
    resource::{ColdStartStatus, DecisionLine, InferenceScalerStatus, StepLine},
    target::{Paths, TargetView},
    why::{EventLine, Told},
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use serde_json::{Value, json};

fn pod(change: Value) -> PodView {
    let mut object = json!({
        "metadata": {"name": "llm-1", "uid": "1", "creationTimestamp": "2026-11-25T10:00:00Z"},
        "spec": {"containers": [{"name": "engine", "ports": [
            {"name": "metrics", "containerPort": 9000}, {"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Pending"},
    });
    for (field, value) in change.as_object().unwrap() {
        match (object[field].as_object_mut(), value) {
            (Some(there), Value::Object(more)) => there.extend(more.clone()),
            _ => object[field] = value.clone(),
        }
    }
    PodView::of(&serde_json::from_value::<Pod>(object).unwrap())
}

fn condition(kind: &str, status: &str, at: &str) -> Value {
    json!({"type": kind, "status": status, "lastTransitionTime": format!("2026-11-25T10:{at}Z")})
}

fn container(more: Value) -> Value {
    let mut status = json!({"name": "engine", "image": "", "imageID": "", "ready": false, "restartCount": 0});
    more.as_object().unwrap().iter().for_each(|(field, value)| status[field] = value.clone());
    json!([status])
}

#[test]
fn a_pods_life_becomes_phases_and_stages() {
    let new = pod(json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/3 nodes are available"}]}}));
    assert_eq!(
        (new.phase, new.unschedulable.as_deref()),
        (Phase::Provisioning, Some("0/3 nodes are available"))
    );
    let pulling = pod(json!({"spec": {"nodeName": "gpu-1"}, "status": {"conditions": [
        condition("PodScheduled", "True", "00:02"), condition("Ready", "False", "00:02")]}}));
    assert_eq!((pulling.phase, pulling.unschedulable), (Phase::Provisioning, None));
    let running = json!({"state": {"running": {"startedAt": "2026-11-25T10:01:00Z"}}});
    let loading =
        pod(json!({"spec": {"nodeName": "gpu-1"}, "status": {"phase": "Running", "podIP": "10.1.2.3",
        "conditions": [condition("PodScheduled", "True", "00:02"), condition("Ready", "False", "00:02")],
        "containerStatuses": container(running.clone())}}));
    assert_eq!((loading.phase, loading.starting_since), (Phase::Loading, loading.created));
    let ready =
        pod(json!({"spec": {"nodeName": "gpu-1"}, "status": {"phase": "Running", "podIP": "10.1.2.3",
        "conditions": [condition("PodScheduled", "True", "00:02"), condition("Ready", "True", "04:00")],
        "containerStatuses": container(running.clone())}}));
    assert_eq!((ready.phase, ready.address(None).as_deref()), (Phase::Ready, Some("10.1.2.3:8080")));
    assert_eq!(ready.address(Some(8000)).as_deref(), Some("10.1.2.3:8000"));
    let stages: BTreeMap<String, f64> = ready.stages.seconds();
    assert_eq!(
        stages,
        BTreeMap::from([
            ("scheduled".to_owned(), 2.0),
            ("pulled".to_owned(), 60.0),
            ("ready".to_owned(), 240.0)
        ])
    );
    // It had been ready: what it takes until it is again is no cold start of an hour.
    let lost = pod(json!({"spec": {"nodeName": "gpu-1"}, "status": {"phase": "Running",
        "conditions": [condition("Ready", "False", "58:00")], "containerStatuses": container(running)}}));
    assert_eq!(lost.phase, Phase::Loading);
    assert_eq!(lost.starting_since.since(lost.created).as_secs(), 58 * 60);
}

#[test]
fn a_pod_that_does_not_start_says_why() {
    let crashed = json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}});
    let crashed = pod(json!({"status": {"containerStatuses": container(crashed)}}));
    assert_eq!(crashed.failing, Some((3, "OOMKilled: exit code 137, 3 restarts".into())));
    let pull = json!({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}});
    let pull = pod(json!({"status": {"containerStatuses": container(pull)}}));
    assert_eq!(pull.failing, Some((0, "ImagePullBackOff: not found".into())));
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_target_is_any_object_with_a_number_of_replicas_and_who_wrote_it_is_known() {
    let managed = |manager: &str, subresource: &str, at: &str, fields: Value| {
        json!({"manager": manager,
        "operation": "Update", "apiVersion": "apps/v1", "subresource": subresource, "fieldsType": "FieldsV1",
        "time": format!("2026-11-25T{at}Z"), "fieldsV1": fields})
    };
    let replicas = json!({"f:spec": {"f:replicas": {}}});
    let deployment = object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "llm", "uid": "d", "resourceVersion": "77", "managedFields": [
            managed("kubectl-client-side-apply", "", "08:00:00", json!({"f:spec": {"f:replicas": {}, "f:paused": {}}})),
            managed("forewarm", "scale", "10:00:00", replicas.clone()),
            managed("kube-controller-manager", "scale", "09:00:00", replicas),
            managed("kube-controller-manager", "status", "11:00:00", json!({"f:status": {"f:replicas": {}}})),
        ]},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "llm"}}},
        "status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}]},
    }));
    let view = TargetView::of(&deployment, &Paths::default()).unwrap();
    assert_eq!((view.desired, &*view.resource_version), (3, "77"));
    assert_eq!(view.selector.unwrap().to_string(), "app=llm");
    assert_eq!(view.writer.unwrap().to_string(), "a HorizontalPodAutoscaler");
    assert_eq!(view.failure.as_deref(), Some("exceeded quota: gpus"));
    let group = object(json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": {"name": "llm"},
        "spec": {"workers": {"count": 2}},
        "status": {"hpaPodSelector": "leaderworkerset.sigs.k8s.io/name=llm,leaderworkerset.sigs.k8s.io/worker-index=0"},
    }));
    let paths = Paths { replicas: ".spec.workers.count".into(), selector: ".status.hpaPodSelector".into() };
    let view = TargetView::of(&group, &paths).unwrap();
    assert_eq!((view.desired, view.writer), (2, None));
    assert!(view.selector.unwrap().to_string().contains("worker-index=0"));
    let wrong = object(json!({"metadata": {"name": "llm"}, "spec": {"replicas": "many"}}));
    assert_eq!(TargetView::of(&wrong, &Paths::default()), None);
}

#[test]
fn time_is_the_api_servers_and_small_differences_are_none() {
    let own = Clock::start(1.0);
    let clock = ServerClock::new(own);
    let before = clock.now();
    assert!(!clock.set(Timestamp::from_millis(before.as_millis() / 1000 * 1000)));
    assert!(clock.now().since(before).as_millis() < 1000, "rounding is no difference");
    assert!(clock.set(Timestamp::from_millis(before.as_millis() + 3_600_000)));
    let ahead = clock.now().since(before).as_secs();
    assert!((3_599..3_602).contains(&ahead), "{ahead}");
    assert!(clock.set(before));
    assert!(clock.now().since(before).as_secs() < 2);
}

#[test]
fn why_reads_like_an_account() {
    let step = |stage: &str, replicas, reason: &str| StepLine {
        stage: stage.into(),
        replicas,
        reason: reason.into(),
    };
    let told = Told {
        namespace: "ai-serving".into(),
        name: "llama3".into(),
        target: "Deployment vllm-llama3".into(),
        status: InferenceScalerStatus {
            replicas: Some(4),
            ready_replicas: Some(2),
            desired_replicas: Some(4),
            cold_start: Some(ColdStartStatus {
                expected_seconds: 240,
                samples: 3,
                stages: BTreeMap::from([("scheduled".to_owned(), 2), ("ready".to_owned(), 231)]),
            }),
            decisions: vec![DecisionLine {
                at: "2026-11-25T10:00:00Z".into(),
                from: 2,
                to: 4,
                summary: "2 → 4 replicas: 20 requests wait, a replica is worth 5 of them".into(),
                steps: vec![
                    step("propose", 4, "20 requests wait, a replica is worth 5 of them"),
                    step("allocate", 4, "2 replicas are started"),
                ],
            }],
            ..InferenceScalerStatus::default()
        },
        events: vec![EventLine {
            at: "2026-11-25T10:00:01Z".to_owned(),
            kind: "Normal".to_owned(),
            reason: "ScaledUp".to_owned(),
            note: "2 → 4 replicas".to_owned(),
        }],
    };
    insta::assert_snapshot!(told.text(), @r"
    ai-serving/llama3 scales Deployment vllm-llama3
      4 wanted, 4 asked for, 2 serve
      a start is expected to take 240 s (3 were seen); the last: scheduled after 2 s, ready after 231 s

    Decisions, the last one first:
      2026-11-25T10:00:00Z  2 → 4 replicas: 20 requests wait, a replica is worth 5 of them
          propose       4  20 requests wait, a replica is worth 5 of them
          allocate      4  2 replicas are started

    Events:
      2026-11-25T10:00:01Z  Normal   ScaledUp: 2 → 4 replicas
    ");
}
