//! The testbed itself: what the other tests take for granted.

use std::{collections::BTreeMap, time::Duration};

use forewarm_testbed::control_plane::{self, ColdStart, Workload};
use k8s_openapi::api::{
    apps::v1::Deployment,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
    runtime::wait::{Condition, await_condition},
};

use crate::{own, shared};

const SOON: Duration = Duration::from_secs(60);

async fn until(deployments: &Api<Deployment>, name: &str, condition: impl Condition<Deployment>) {
    let reached = await_condition(deployments.clone(), name, condition);
    tokio::time::timeout(SOON, reached).await.expect("in time").expect("a watch");
}

fn ready(count: i32) -> impl Condition<Deployment> {
    move |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| status.ready_replicas.unwrap_or(0) == count)
    }
}

fn condition(pod: &Pod, name: &str) -> Option<(String, Option<String>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == name)?;
    Some((found.status.clone(), found.reason.clone()))
}

fn waits_for(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

#[tokio::test]
async fn pods_start_stage_by_stage_where_there_are_gpus() {
    let Some(plane) = shared().await else { return };
    let client = plane.client().await.unwrap();
    plane.namespace("stages").await.unwrap();
    plane.gpu_node("stages", 2).await.unwrap();
    let mut workload = Workload::new("llm", 1);
    workload.cold_start.load = Duration::from_secs(2);
    plane.deploy("stages", &workload).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "stages");
    until(&deployments, "llm", ready(1)).await;
    let pods: Api<Pod> = Api::namespaced(client, "stages");
    let pod = pods.list(&ListParams::default()).await.unwrap().items.remove(0);
    let status = pod.status.as_ref().unwrap();
    assert!(status.pod_ip.as_ref().unwrap().starts_with("127."));
    let running = status.container_statuses.as_ref().unwrap()[0].state.as_ref().unwrap().running.as_ref();
    let started = running.unwrap().started_at.as_ref().unwrap().0;
    let conditions = status.conditions.as_ref().unwrap();
    let became_ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    // Both are whole seconds.
    let loaded = became_ready.last_transition_time.as_ref().unwrap().0.duration_since(started);
    assert!((1..=10).contains(&loaded.as_secs()), "{loaded:?}");
    pods.delete(pod.metadata.name.as_ref().unwrap(), &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn pods_that_cannot_start_say_why() {
    let Some(plane) = shared().await else { return };
    let client = plane.client().await.unwrap();
    plane.namespace("failing").await.unwrap();
    plane.gpu_node("failing", 8).await.unwrap();
    let fail = |reason: &str| ColdStart { fail: Some(reason.to_owned()), ..ColdStart::default() };
    for (name, gpus, cold_start) in [
        ("image", 1, fail("ImagePullBackOff")),
        ("crash", 1, fail("CrashLoopBackOff")),
        ("big", 64, ColdStart::default()),
    ] {
        let workload = Workload { gpus, cold_start, ..Workload::new(name, 1) };
        plane.deploy("failing", &workload).await.unwrap();
    }
    let pods: Api<Pod> = Api::namespaced(client, "failing");
    let expected = BTreeMap::from([
        ("big".to_owned(), "Unschedulable".to_owned()),
        ("crash".to_owned(), "CrashLoopBackOff".to_owned()),
        ("image".to_owned(), "ImagePullBackOff".to_owned()),
    ]);
    let said = async {
        loop {
            let list = pods.list(&ListParams::default()).await.unwrap().items;
            let reasons: BTreeMap<String, String> = list
                .iter()
                .filter_map(|pod| {
                    let app = pod.metadata.labels.as_ref()?.get("app")?.clone();
                    let unscheduled = condition(pod, "PodScheduled").and_then(|(_, reason)| reason);
                    Some((app, waits_for(pod).or(unscheduled)?))
                })
                .collect();
            if reasons == expected {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, said).await.expect("every pod says why");
}

#[tokio::test]
async fn a_service_account_may_do_what_roles_say() {
    let Some(plane) = shared().await else { return };
    plane.namespace("accounts").await.unwrap();
    let kubeconfig = plane.service_account("accounts", "nobody").await.unwrap();
    let client = control_plane::client(&kubeconfig).await.unwrap();
    let error =
        Api::<Pod>::namespaced(client.clone(), "accounts").list(&ListParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!(status.code, 403, "{}", status.message);
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some("list".to_owned()),
                resource: Some("pods".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let review = Api::all(client).create(&PostParams::default(), &review).await.unwrap();
    assert!(!review.status.unwrap().allowed);
}

#[tokio::test]
async fn an_api_server_that_was_killed_comes_back_with_what_it_had() {
    let Some(plane) = own(Default::default()).await else { return };
    plane.namespace("kept").await.unwrap();
    plane.api_server().lock().await.kill();
    let client = plane.client().await.unwrap();
    assert!(client.apiserver_version().await.is_err());
    plane.restart_api_server().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kept");
    pods.list(&ListParams::default()).await.unwrap();
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client);
    namespaces.get("kept").await.unwrap();
}
