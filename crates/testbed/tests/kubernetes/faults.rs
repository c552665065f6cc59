//! What goes wrong between a controller and the API server, its clock, its signals and its life: nothing is taken away
//! that should stay, nothing that was decided is lost, and all is well again by itself.

use std::{net::SocketAddr, time::Duration};

use forewarm_kubernetes::resource::InferenceScaler;
use forewarm_testbed::{
    Proxy,
    control_plane::{ColdStart, ControlPlaneOptions, Workload},
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, coordination::v1::Lease, core::v1::Pod,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    calls::{Calls, Fate},
    cluster::{Engines, SOON},
    own,
    rig::{Rig, condition, install, until},
    shared,
};

/// Every number of replicas that a Deployment was asked for.
struct Numbers {
    seen: watch::Receiver<Vec<i32>>,
    _watch: AbortOnDropHandle<()>,
}

impl Numbers {
    fn of(deployments: Api<Deployment>, name: &str) -> Self {
        let (sees, seen) = watch::channel(Vec::new());
        let only = format!("metadata.name={name}");
        let watch = async move {
            let config = watcher::Config::default().fields(&only);
            let mut changes =
                std::pin::pin!(watcher(deployments, config).default_backoff().applied_objects());
            while let Some(change) = changes.next().await {
                let Ok(deployment) = change else { continue };
                let number = deployment.spec.and_then(|spec| spec.replicas).unwrap_or_default();
                sees.send_if_modified(|seen: &mut Vec<i32>| {
                    let is_new = seen.last() != Some(&number);
                    seen.extend(is_new.then_some(number));
                    is_new
                });
            }
        };
        Self { seen, _watch: AbortOnDropHandle::new(tokio::spawn(watch)) }
    }

    /// They are these, one after the other.
    async fn are(&mut self, numbers: &[i32]) {
        let reached = self.seen.wait_for(|seen| seen.last() == numbers.last());
        tokio::time::timeout(SOON, reached).await.expect("in time").expect("a watch");
        assert_eq!(*self.seen.borrow(), numbers);
    }
}

/// The last decisions of a scaler, the first one first.
async fn decided(rig: &Rig, name: &str) -> Vec<i32> {
    let mut to: Vec<i32> = rig.status(name).await.decisions.iter().map(|decision| decision.to).collect();
    to.reverse();
    to
}

/// What nobody may do in less than five minutes is not done by a test that takes less.
fn patient() -> serde_json::Value {
    json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}}})
}

#[tokio::test]
async fn a_leader_that_dies_before_or_after_it_writes_more_leaves_that_to_the_next() {
    let Some(plane) = shared().await else { return };
    for (namespace, fate) in [("more-before", Fate::HeldBefore), ("more-after", Fate::HeldAfter)] {
        let rig = Rig::new(plane, namespace, 8).await;
        rig.deploy(&Workload::new("llama", 1)).await;
        rig.scale("llama", patient()).await;
        let calls = Calls::to(rig.client.clone());
        let first = rig.start_through("first", calls.client());
        rig.until_condition("llama", "Ready", "AsDesired").await;
        let second = rig.start("second");
        let written = rig.generation("llama").await;
        calls.rule(move |call| if call.scales() { fate } else { Fate::Passes });
        rig.report("llama", |report| report.queued = 20);
        calls.until_held().await;
        assert_eq!(rig.status("llama").await.desired_replicas, Some(4), "it was written down first");
        // What it was decided on is gone: only what was written down knows of it.
        rig.report("llama", |report| report.queued = 0);
        first.kill();
        second.until_leads().await;
        rig.until_asked_for("llama", 4).await;
        rig.until_ready("llama", 4).await;
        rig.until_condition("llama", "Ready", "AsDesired").await;
        assert_eq!(rig.generation("llama").await, written + 1, "{namespace}: one number, written once");
        rig.until_condition("llama", "Contested", "Alone").await;
        rig.report("llama", |report| report.queued = 25);
        rig.until_asked_for("llama", 5).await;
        let to = decided(&rig, "llama").await;
        assert!(to.starts_with(&[4]) && to.ends_with(&[5]), "{namespace}: {to:?}");
        assert!(to.iter().all(|to| *to >= 4), "{namespace}: {to:?}");
        second.stop().await;
    }
}

#[tokio::test]
async fn a_leader_that_dies_before_or_after_it_writes_less_takes_away_one_and_no_more() {
    let Some(plane) = shared().await else { return };
    for (namespace, fate) in [("less-before", Fate::HeldBefore), ("less-after", Fate::HeldAfter)] {
        let rig = Rig::new(plane, namespace, 8).await;
        rig.deploy(&Workload::new("llama", 3)).await;
        rig.until_ready("llama", 3).await;
        let names = rig.pod_names().await;
        // Two have work that fills them, so that two are needed.
        let work = [8, 0, 8];
        rig.report("llama", |report| {
            report.in_flight = names.iter().map(|name| name.as_str().into()).zip(work).collect();
        });
        let calls = Calls::to(rig.client.clone());
        calls.rule(move |call| if call.scales() { fate } else { Fate::Passes });
        rig.scale("llama", json!({})).await;
        let written = rig.generation("llama").await;
        let first = rig.start_through("first", calls.client());
        calls.until_held().await;
        let second = rig.start("second");
        first.kill();
        second.until_leads().await;
        rig.until_asked_for("llama", 2).await;
        rig.until_ready("llama", 2).await;
        rig.until_condition("llama", "Ready", "AsDesired").await;
        assert_eq!(rig.pod_names().await, [names[0].clone(), names[2].clone()], "{namespace}");
        assert_eq!(rig.generation("llama").await, written + 1, "{namespace}: one number, written once");
        second.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_neither_another_writer_nor_written_again() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "unanswered", 8).await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.scale("llama", patient()).await;
    let calls = Calls::to(rig.client.clone());
    let running = rig.start_through("a", calls.client());
    rig.until_condition("llama", "Ready", "AsDesired").await;
    let written = rig.generation("llama").await;
    calls.rule(|call| if call.scales() { Fate::Unanswered } else { Fate::Passes });
    rig.report("llama", |report| report.queued = 20);
    rig.until_asked_for("llama", 4).await;
    rig.until_ready("llama", 4).await;
    rig.until_condition("llama", "Ready", "AsDesired").await;
    rig.until_condition("llama", "Contested", "Alone").await;
    calls.release();
    rig.report("llama", |report| report.queued = 25);
    rig.until_asked_for("llama", 5).await;
    assert_eq!(rig.generation("llama").await, written + 2);
    assert_eq!(decided(&rig, "llama").await, [4, 5]);
    running.stop().await;
}

#[tokio::test]
async fn what_a_leader_wrote_that_is_one_no_more_comes_too_late() {
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "late", 8).await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.scale("llama", patient()).await;
    let calls = Calls::to(rig.client.clone());
    let first = rig.start_through("first", calls.client());
    rig.until_condition("llama", "Ready", "AsDesired").await;
    calls.rule(|call| if call.scales() { Fate::HeldBefore } else { Fate::Passes });
    rig.report("llama", |report| report.queued = 20);
    calls.until_held().await;
    // It is stopped where it is, as a process or its network would be.
    calls.rule(|_| Fate::HeldBefore);
    first.until_leads_no_more().await;
    let second = rig.start("second");
    second.until_leads().await;
    rig.report("llama", |report| report.queued = 25);
    rig.until_asked_for("llama", 5).await;
    let written = rig.generation("llama").await;
    let before = calls.count();
    calls.release();
    calls.until(before, "number that was held", |call| call.scales()).await;
    // Both live, and one leads.
    rig.report("llama", |report| report.queued = 30);
    rig.until_asked_for("llama", 6).await;
    assert_eq!(rig.generation("llama").await, written + 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn controllers_whose_clocks_are_wrong_by_minutes_take_turns_and_give_up_nothing() {
    const MINUTES: i64 = 7 * 60;
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "skew", 8).await;
    let load = Duration::from_secs(6);
    let cold_start = ColdStart { load, ..ColdStart::default() };
    rig.deploy(&Workload { cold_start, ..Workload::new("llama", 1) }).await;
    let mut change = patient();
    change["coldStart"] = json!({"expected": "6s", "deadline": "5m"});
    rig.scale("llama", change).await;
    let mut numbers = Numbers::of(rig.deployments(), "llama");
    let began = jiff::Timestamp::now();
    let behind = rig.start_ahead("behind", -MINUTES);
    behind.until_leads().await;
    let ahead = rig.start_ahead("ahead", MINUTES);
    rig.until_condition("llama", "Ready", "AsDesired").await;
    rig.report("llama", |report| report.queued = 20);
    rig.until_asked_for("llama", 4).await;
    // Who waits takes nothing that is renewed, whatever the times in it.
    let leases: Api<Lease> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let lease = leases.get("forewarm").await.unwrap().spec.unwrap();
    assert_eq!((lease.holder_identity.as_deref(), lease.lease_transitions), (Some("behind"), Some(1)));
    // Three load. To a clock that is ahead they are older than their deadline.
    until(&rig.deployments(), "llama", "4 pods", |deployment| {
        deployment.status.as_ref().is_some_and(|status| status.replicas == Some(4))
    })
    .await;
    let loading = rig.pod_names().await;
    rig.report("llama", |report| report.queued = 0);
    behind.stop().await;
    ahead.until_leads().await;
    rig.until_ready("llama", 4).await;
    rig.until_condition("llama", "Ready", "AsDesired").await;
    assert_eq!(rig.pod_names().await, loading, "nothing was given up");
    // And back again, after a crash.
    let behind = rig.start_ahead("behind again", -MINUTES);
    ahead.kill();
    behind.until_leads().await;
    rig.report("llama", |report| report.queued = 25);
    rig.until_asked_for("llama", 5).await;
    numbers.are(&[1, 4, 5]).await;
    let known: Vec<String> = rig.events("llama").await.into_iter().map(|(reason, _)| reason).collect();
    assert!(known.iter().all(|reason| reason == "ScaledUp"), "{known:?}");
    // Whoever decided: the times are the API server's, which is this machine's.
    let now = jiff::Timestamp::now();
    let is_right =
        |at: jiff::Timestamp| at >= began - Duration::from_secs(5) && at <= now + Duration::from_secs(5);
    for decision in rig.status("llama").await.decisions {
        assert!(is_right(decision.at.parse().unwrap()), "{} is not after {began}", decision.at);
    }
    let lease = leases.get("forewarm").await.unwrap().spec.unwrap();
    for at in [lease.acquire_time.unwrap().0, lease.renew_time.unwrap().0] {
        assert!(is_right(at), "{at} is not after {began}");
    }
    behind.stop().await;
}

#[tokio::test]
async fn metrics_that_are_gone_for_an_hour_take_nothing_away_and_are_missed_aloud() {
    const STEP_SECONDS: i64 = 5 * 60;
    let Some(plane) = shared().await else { return };
    let rig = Rig::new(plane, "an-hour", 8).await;
    rig.deploy(&Workload::new("llama", 1)).await;
    rig.until_ready("llama", 1).await;
    let first = rig.pod_names().await.remove(0);
    let engines = Engines::follow(rig.client.clone(), &rig.namespace, 0.0);
    engines.let_only_say(&first, 15.0);
    let calls = Calls::to(rig.client.clone());
    // Down at once, if anything said that it may.
    let signals = json!([{"name": "waiting", "engine": {"metric": "waiting"}}]);
    rig.scale("llama", json!({"signals": signals, "maxSignalAge": "20s"})).await;
    let running = rig.start_alone("a", calls.client());
    rig.until_asked_for("llama", 3).await;
    rig.until_ready("llama", 3).await;
    rig.until_condition("llama", "Ready", "AsDesired").await;
    let written = rig.generation("llama").await;

    engines.say(None);
    let is_missed = |scaler: &InferenceScaler| {
        let (reason, message) = condition(scaler, "SignalsKnown").unwrap_or_default();
        reason == "SignalsMissing" && message.starts_with("`waiting`") && message.contains("503")
    };
    until(&rig.scalers(), "llama", "no signals, and why", is_missed).await;
    let at = |scaler: &InferenceScaler| {
        let state = scaler.status.as_ref()?.state.as_ref()?;
        state.at.parse::<jiff::Timestamp>().ok()
    };
    let mut then = at(&rig.scalers().get("llama").await.unwrap()).unwrap();
    for _ in 0..3600 / STEP_SECONDS {
        calls.put_clock_forward(STEP_SECONDS);
        let later = then + jiff::SignedDuration::from_secs(STEP_SECONDS - 1);
        let is_later = |scaler: &InferenceScaler| at(scaler).is_some_and(|at| at >= later);
        then = at(&until(&rig.scalers(), "llama", "a later status", is_later).await).unwrap();
        rig.until_asked_for("llama", 3).await;
    }
    assert_eq!(rig.generation("llama").await, written, "nobody touched the number");
    assert!(is_missed(&rig.scalers().get("llama").await.unwrap()));

    engines.let_only_say(&first, 30.0);
    rig.until_condition("llama", "SignalsKnown", "SignalsKnown").await;
    rig.until_asked_for("llama", 6).await;
    running.stop().await;
}

#[tokio::test]
async fn a_watch_that_is_too_old_begins_anew_and_nothing_that_it_missed_is_lost() {
    let Some(plane) = own(ControlPlaneOptions::default()).await else { return };
    install(&plane.client().await.unwrap()).await;
    let rig = Rig::without_resource(&plane, "expired", 16).await;
    let address: SocketAddr = plane.url().trim_start_matches("https://").parse().unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    let calls = Calls::to(plane.client_through(proxy.address()).await.unwrap());
    for (name, replicas) in [("llama", 1), ("forgotten", 1), ("rivalled", 1)] {
        rig.deploy(&Workload::new(name, replicas)).await;
        rig.scale(name, patient()).await;
    }
    let mut numbers = Numbers::of(rig.deployments(), "llama");
    let running = rig.start_through("a", calls.client());
    rig.report("llama", |report| report.queued = 15);
    rig.until_asked_for("llama", 3).await;
    rig.until_ready("llama", 3).await;
    rig.until_condition("llama", "Ready", "AsDesired").await;
    let learned = |scaler: &InferenceScaler| {
        let cold_start = scaler.status.as_ref().and_then(|status| status.cold_start.as_ref());
        cold_start.is_some_and(|cold_start| cold_start.samples == 2)
    };
    until(&rig.scalers(), "llama", "2 starts", learned).await;

    proxy.cut();
    running.until_leads_no_more().await;
    let before = calls.count();
    let listed = rig.pods().list(&ListParams::default()).await.unwrap();
    let version = listed.metadata.resource_version.unwrap();
    // All of this happens while the controller sees nothing, and is history when it does again.
    let lost = listed.items.iter().find(|pod| pod.labels()["app"] == "llama").unwrap().name_any();
    rig.pods().delete(&lost, &DeleteParams::default()).await.unwrap();
    rig.until_ready("llama", 3).await;
    rig.scalers().delete("forgotten", &DeleteParams::default()).await.unwrap();
    rig.deploy(&Workload::new("new", 1)).await;
    rig.scale("new", json!({"replicas": {"min": 2, "max": 8}})).await;
    let hpa: HorizontalPodAutoscaler = serde_json::from_value(json!({
        "metadata": {"name": "rival"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "rivalled"},
            "maxReplicas": 1,
        },
    }))
    .unwrap();
    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(rig.client.clone(), &rig.namespace);
    hpas.create(&PostParams::default(), &hpa).await.unwrap();
    plane.forget_history().await.unwrap();
    assert_eq!(code_of_watch(&rig.pods(), &version).await, 410, "it is too old");

    rig.report("llama", |report| report.queued = 25);
    for name in ["forgotten", "rivalled"] {
        rig.report(name, |report| report.queued = 40);
    }
    proxy.mend();
    rig.until_asked_for("llama", 5).await;
    rig.until_ready("llama", 5).await;
    rig.until_condition("llama", "Ready", "AsDesired").await;
    rig.until_asked_for("new", 2).await;
    let message = rig.until_condition("rivalled", "Contested", "Rival").await;
    assert!(message.contains("`rival`"), "{message}");
    for kind in ["pods", "deployments", "inferencescalers", "horizontalpodautoscalers"] {
        calls.until(before, &format!("list of {kind}"), |call| call.lists(kind)).await;
    }
    for name in ["forgotten", "rivalled"] {
        rig.until_asked_for(name, 1).await;
    }
    numbers.are(&[1, 3, 5]).await;
    assert_eq!(decided(&rig, "llama").await, [3, 5]);
    let learned = rig.status("llama").await.cold_start.unwrap().samples;
    assert!(learned >= 2, "what was learned is known still: {learned}");
    running.stop().await;
}

/// What the API server says to a watch from a version on.
async fn code_of_watch(pods: &Api<Pod>, version: &str) -> u16 {
    let changes = match pods.watch(&WatchParams::default(), version).await {
        Ok(changes) => changes,
        Err(kube::Error::Api(status)) => return status.code,
        Err(error) => panic!("{error}"),
    };
    let change = std::pin::pin!(changes).try_next().await.unwrap();
    let Some(WatchEvent::Error(status)) = change else { panic!("{change:?}") };
    status.code
}
