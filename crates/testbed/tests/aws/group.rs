//! An Auto Scaling group as a fleet.

use std::time::Duration;

use forewarm_control::ports::{Fleet, FleetError, FleetReplica, FleetView};
use forewarm_core::{Phase, Placement};
use forewarm_manifest::read_scalers;
use forewarm_testbed::Certificates;

use crate::support::{Stage, cloud, drain, only_allowed, start, stop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_start_serve_drain_and_go_in_that_order() {
    let Some(cloud) = cloud().await else { return };
    cloud.faults(|faults| faults.start_up = Duration::from_millis(500));
    let stage = Stage::new(cloud, "whole-life", 0, 5).await;
    stage.cloud.put_hook("whole-life", true).await.expect("a hook");
    stage.cloud.put_hook("whole-life", false).await.expect("a hook");
    assert!(stage.fleet.observe().await.expect("a view").replicas.is_empty());

    stage.fleet.apply(&start(2)).await.expect("capacity");
    let view = stage.fleet.observe().await.expect("a view");
    let requested = view.replicas.iter().filter(|replica| replica.phase == Phase::Requested).count();
    assert_eq!(requested, 2, "what was asked for is seen at once: {view:?}");
    stage
        .view("an instance that starts", |view| view.replicas.iter().any(|r| r.phase == Phase::Provisioning))
        .await;
    let ready = stage.ready(2).await;
    assert!(ready.iter().all(|replica| replica.stages_seconds.contains_key("provision")), "{ready:?}");
    // So that AWS chooses nobody.
    stage
        .until("both are protected", async || stage.shown("ProtectedFromScaleIn").await == ["true", "true"])
        .await;

    // The one that the core chose goes, and only when it is told to stop.
    let (chosen, stays) = (&ready[0].id, &ready[1].id);
    stage.fleet.apply(&drain(chosen)).await.expect("a drain");
    let view = stage.fleet.observe().await.expect("a view");
    let phase = |id| view.replicas.iter().find(|replica| &replica.id == id).map(|replica| replica.phase);
    assert_eq!((phase(chosen), phase(stays)), (Some(Phase::Draining), Some(Phase::Ready)));
    assert_eq!(stage.shown("DesiredCapacity").await, ["2"]);
    stage.fleet.apply(&stop(chosen)).await.expect("a stop");
    let left = stage.ready(1).await;
    assert_eq!(&left[0].id, stays);
    assert_eq!(stage.shown("DesiredCapacity").await, ["1"]);

    let calls = stage.cloud.calls();
    assert!(calls.contains_key("autoscaling:CompleteLifecycleAction"), "{calls:?}");
    assert_eq!(calls["autoscaling:SetDesiredCapacity"], 1, "{calls:?}");
    assert_eq!(calls["autoscaling:TerminateInstanceInAutoScalingGroup"], 1, "{calls:?}");
    only_allowed(&stage.cloud, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_groups_bounds_are_kept_and_named() {
    let Some(cloud) = cloud().await else { return };
    let stage = Stage::new(cloud, "bounds", 1, 3).await;
    let first = stage.ready(1).await;
    let error = stage.fleet.apply(&start(5)).await.expect_err("above MaxSize");
    assert!(matches!(error, FleetError::OutOfCapacity { wanted: 3, .. }), "{error}");
    assert!(error.to_string().contains("MaxSize 3"), "{error}");
    stage.ready(3).await;
    assert_eq!(stage.shown("DesiredCapacity").await, ["3"]);
    for id in stage.ready(3).await.iter().map(|replica| &replica.id).filter(|id| **id != first[0].id) {
        stage.fleet.apply(&stop(id)).await.expect("a stop");
        stage.view("it is gone", |view| view.replicas.iter().all(|replica| &replica.id != id)).await;
    }
    let error = stage.fleet.apply(&stop(&first[0].id)).await.expect_err("below MinSize");
    assert!(error.to_string().contains("MinSize 1"), "{error}");
    assert_eq!(stage.ready(1).await[0].id, first[0].id);
    // One that is to be replaced goes, and the group starts another.
    let replace = Placement { start: 1, stop: vec![first[0].id.clone()], ..Placement::default() };
    stage.fleet.apply(&replace).await.expect("a replacement");
    let id = &first[0].id;
    let others = |view: &FleetView| {
        view.replicas.len() == 1 && &view.replicas[0].id != id && view.replicas[0].phase == Phase::Ready
    };
    stage.view("another instance", others).await;
    assert_eq!(stage.shown("DesiredCapacity").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lack_of_capacity_is_a_failed_start_and_the_request_stands() {
    let Some(cloud) = cloud().await else { return };
    let stage = Stage::new(cloud, "no-capacity", 0, 5).await;
    stage.view("a look", |_| true).await;
    stage.cloud.run_out_of_capacity();
    stage.fleet.apply(&start(2)).await.expect("a desired capacity");
    let view = stage.view("a failed start", |view| !view.failed_starts.is_empty()).await;
    assert!(view.failed_starts[0].error.contains("InsufficientInstanceCapacity"), "{view:?}");
    assert_eq!(view.replicas.iter().filter(|replica| replica.phase == Phase::Requested).count(), 2);
    // Given up: the desired capacity goes back, and nothing that runs is in danger.
    stage.fleet.apply(&stop(&view.replicas[0].id)).await.expect("a cancelled request");
    assert_eq!(stage.fleet.observe().await.expect("a view").replicas.len(), 1);
    stage.cloud.find_capacity().await.expect("capacity");
    stage.ready(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_throttles_or_is_down_loses_nothing_and_is_not_stormed() {
    let Some(cloud) = cloud().await else { return };
    let stage = Stage::new(cloud, "bad-days", 2, 5).await;
    let before = stage.ready(2).await;
    for action in ["DescribeAutoScalingGroups", "TerminateInstanceInAutoScalingGroup", "SetDesiredCapacity"] {
        stage.cloud.throttle(action, 2);
    }
    stage.fleet.apply(&start(1)).await.expect("patience");
    let ready = stage.ready(3).await;
    let new = ready.iter().find(|replica| before.iter().all(|b| b.id != replica.id)).expect("a new one");
    stage.fleet.apply(&stop(&new.id)).await.expect("patience");
    stage.ready(2).await;

    stage.cloud.faults(|faults| faults.down = true);
    let gone = async {
        while stage.fleet.observe().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("an error instead of an old view");
    let error = stage.fleet.apply(&stop(&before[0].id)).await.expect_err("nobody answers");
    assert!(matches!(error, FleetError::Unreachable(_)), "{error}");
    stage.cloud.faults(|faults| faults.down = false);
    let after = stage.ready(2).await;
    let ids =
        |replicas: &[FleetReplica]| replicas.iter().map(|replica| replica.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&after), ids(&before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_do_is_seen_and_named_and_decided_anew() {
    let Some(cloud) = cloud().await else { return };
    let stage = Stage::new(cloud, "foreign", 1, 5).await;
    let before = stage.ready(1).await;
    let parameters = [("AutoScalingGroupName", "foreign"), ("DesiredCapacity", "2")];
    stage.cloud.ask("autoscaling", "SetDesiredCapacity", &parameters).await.expect("moto");
    // Decided by what was seen before: one too many would start.
    let error = stage.fleet.apply(&start(1)).await.expect_err("a change in between");
    assert!(error.to_string().contains("from 1 to 2"), "{error}");
    stage.ready(2).await;
    // An instance that AWS takes away.
    stage.cloud.reclaim(before[0].id.as_str()).await.expect("moto");
    let view = stage.view("an end", |view| !view.ended.is_empty()).await;
    assert_eq!(view.ended[0].id, before[0].id);
    stage.ready(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_looks_at_the_group_as_it_is() {
    let Some(cloud) = cloud().await else { return };
    cloud.faults(|faults| faults.start_up = Duration::from_millis(500));
    let stage = Stage::new(cloud, "restart", 0, 5).await;
    stage.view("a look", |_| true).await;
    stage.fleet.apply(&start(3)).await.expect("capacity");
    let stage = stage.restart();
    let view = stage.fleet.observe().await.expect("a view");
    assert_eq!(view.replicas.len(), 3, "what was asked for before the crash counts: {view:?}");
    stage.ready(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_that_speak_tls_are_asked_over_tls() {
    let Some(cloud) = cloud().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let shown = Certificates::make(folder.path()).expect("certificates");
    let manifest = format!(
        "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: llm}}\nspec:\n  \
         target: {{awsAutoScalingGroup: {{name: llm}}}}\n  replicas: {{min: 1, max: 1}}\n  \
         policy: {{queueDepth: {{}}}}\n  \
         engine: {{scheme: HTTPS, tls: {{caFile: '{}', serverName: localhost}}}}\n",
        shown.ca.display()
    );
    let scaler = read_scalers("llm.yaml", &manifest).expect("a manifest").remove(0);
    let stage = Stage::over(Some((&shown, &scaler)), cloud, "encrypted", 1, 1).await;
    stage.ready(1).await;
}
