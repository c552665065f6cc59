//! What happens to a target, its resource, its controllers and the API server: nothing is lost, nothing taken away
//! that should stay.

use std::time::Duration;

use forewarm_kubernetes::resource::InferenceScaler;
use forewarm_testbed::control_plane::{ColdStart, ControlPlaneOptions, Workload};
use k8s_openapi::{
    api::{apps::v1::Deployment, coordination::v1::Lease},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, CustomResourceExt as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    own,
    rig::{Rig, install, until},
    shared,
};

fn merge(patch: serde_json::Value) -> Patch<serde_json::Value> {
    Patch::Merge(patch)
}

#[tokio::test]
async fn a_rolling_update_changes_no_number() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "rolling", 16).await;
    let load = Duration::from_millis(300);
    let cold_start = ColdStart { load, ..ColdStart::default() };
    rig.deploy(&Workload { cold_start, ..Workload::new("llama", 3) }).await;
    rig.report("llama", |report| report.queued = 15);
    rig.scale("llama", json!({})).await;
    let running = rig.start("a");
    rig.until_ready("llama", 3).await;
    rig.until_condition("llama", "Ready", "AsDesired").await;
    let before = rig.deployments().get("llama").await.unwrap();
    let template = json!({"spec": {"template": {"metadata": {"labels": {"model": "next"}}}}});
    rig.deployments().patch("llama", &PatchParams::default(), &merge(template)).await.unwrap();
    let updated = |deployment: &Deployment| {
        let status = deployment.status.as_ref();
        let is_new = deployment.metadata.generation > before.metadata.generation;
        is_new
            && status.is_some_and(|status| {
                status.observed_generation == deployment.metadata.generation
                    && status.updated_replicas == Some(3)
                    && status.replicas == Some(3)
                    && status.ready_replicas == Some(3)
            })
    };
    let after = until(&rig.deployments(), "llama", "a new revision", updated).await;
    // One generation for the update itself: nobody wrote the number on the way.
    assert_eq!(after.metadata.generation, before.metadata.generation.map(|generation| generation + 1));
    assert_eq!(rig.events("llama").await.len(), 0);
    rig.report("llama", |report| report.queued = 20);
    rig.until_asked_for("llama", 4).await;
    running.stop().await;
}

#[tokio::test]
async fn a_paused_deployment_scales_and_one_that_is_made_again_gets_its_number_back() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "again", 16).await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.scale("llama", json!({})).await;
    let running = rig.start("a");
    let paused = json!({"spec": {"paused": true}});
    rig.deployments().patch("llama", &PatchParams::default(), &merge(paused)).await.unwrap();
    rig.report("llama", |report| report.queued = 20);
    rig.until_asked_for("llama", 4).await;
    rig.until_ready("llama", 4).await;
    rig.until_condition("llama", "Ready", "AsDesired").await;

    rig.deployments().delete("llama", &DeleteParams::foreground()).await.unwrap();
    rig.until_condition("llama", "Ready", "TargetNotFound").await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.until_asked_for("llama", 4).await;
    rig.until_ready("llama", 4).await;
    let message = rig.until_condition("llama", "Contested", "Alone").await;
    assert!(message.contains("Nobody else"), "{message}");
    running.stop().await;
}

#[tokio::test]
async fn a_target_that_changes_all_the_time_gets_its_number_all_the_same() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "storm", 8).await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.scale("llama", json!({})).await;
    let running = rig.start("a");
    rig.until_condition("llama", "Ready", "AsDesired").await;
    let deployments = rig.deployments();
    let storm = tokio::spawn(async move {
        for turn in 0.. {
            let patch = json!({"metadata": {"annotations": {"turn": format!("{turn}")}}});
            deployments.patch("llama", &PatchParams::default(), &merge(patch)).await.unwrap();
        }
    });
    rig.report("llama", |report| report.queued = 20);
    rig.until_asked_for("llama", 4).await;
    storm.abort();
    running.stop().await;
}

#[tokio::test]
async fn a_controller_that_dies_is_followed_by_another_and_each_decision_is_made_once() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "leaders", 8).await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.scale("llama", json!({})).await;
    let first = rig.start("first");
    first.until_leads().await;
    let second = rig.start("second");
    rig.until_condition("llama", "Ready", "AsDesired").await;
    rig.report("llama", |report| report.queued = 20);
    rig.until_asked_for("llama", 4).await;
    // In the middle of what it does.
    first.kill();
    second.until_leads().await;
    rig.until_ready("llama", 4).await;
    rig.report("llama", |report| report.queued = 25);
    rig.until_asked_for("llama", 5).await;
    let leases: Api<Lease> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let lease = leases.get("forewarm").await.unwrap().spec.unwrap();
    assert_eq!((lease.holder_identity.as_deref(), lease.lease_transitions), (Some("second"), Some(2)));
    assert_eq!(rig.status("llama").await.decisions[0].to, 5);

    // In order: the lease is given back, and taken at once.
    let third = rig.start("third");
    second.stop().await;
    third.until_leads().await;
    rig.report("llama", |report| report.queued = 30);
    rig.until_asked_for("llama", 6).await;
    third.stop().await;
}

#[tokio::test]
async fn an_api_server_that_is_restarted_is_found_again_and_nothing_is_taken_away() {
    let Some(plane) = own(ControlPlaneOptions::default()).await else { return };
    install(&plane.client().await.unwrap()).await;
    let rig = Rig::without_resource(&plane, "restart", 8).await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.scale("llama", json!({})).await;
    let running = rig.start("a");
    rig.report("llama", |report| report.queued = 15);
    rig.until_asked_for("llama", 3).await;
    rig.until_ready("llama", 3).await;
    plane.api_server().lock().await.kill();
    // The burst comes while nobody can be told.
    rig.report("llama", |report| report.queued = 25);
    plane.restart_api_server().await.unwrap();
    rig.until_asked_for("llama", 5).await;
    rig.until_ready("llama", 5).await;
    let least = rig.status("llama").await.decisions.iter().map(|decision| decision.to).min();
    assert!(least >= Some(3), "{least:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_resource_that_is_upgraded_under_load_loses_no_decision() {
    let Some(plane) = own(ControlPlaneOptions::default()).await else { return };
    install(&plane.client().await.unwrap()).await;
    let rig = Rig::without_resource(&plane, "upgrade", 16).await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.scale("llama", json!({})).await;
    let running = rig.start("a");
    rig.report("llama", |report| report.queued = 10);
    rig.until_asked_for("llama", 2).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(rig.client.clone());
    let name = InferenceScaler::crd().name_any();
    for step in 3..=5 {
        // The next version beside this one, and stored from now on.
        let mut crd = InferenceScaler::crd();
        let mut next = crd.spec.versions[0].clone();
        next.name = format!("v1beta{step}");
        crd.spec.versions[0].storage = false;
        crd.spec.versions.push(next);
        let mut known = definitions.get(&name).await.unwrap();
        known.spec.versions.retain(|version| version.name != "v1alpha1");
        known.spec.versions.iter_mut().for_each(|version| version.storage = false);
        crd.spec.versions.splice(1..1, known.spec.versions);
        crd.metadata.resource_version = known.metadata.resource_version;
        definitions.replace(&name, &Default::default(), &crd).await.unwrap();
        rig.report("llama", |report| report.queued = 5 * step);
        rig.until_asked_for("llama", i32::try_from(step).unwrap()).await;
    }
    rig.until_ready("llama", 5).await;
    rig.until_condition("llama", "Ready", "AsDesired").await;
    let to: Vec<i32> = rig.status("llama").await.decisions.iter().map(|decision| decision.to).collect();
    assert_eq!(to, [5, 4, 3, 2]);
    running.stop().await;
}
