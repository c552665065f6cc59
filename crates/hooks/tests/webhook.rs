//! A fleet behind a webhook: what is sent, what is made of the answers, and what of none.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use aws_lc_rs::hmac;
use axum::http::StatusCode;
use forewarm_control::{
    Clock,
    ports::{Fleet, FleetError, SignalSet},
};
use forewarm_core::{Phase, Placement, Reading, ReplicaId, ScalerId};
use forewarm_hooks::HookFleet;
use forewarm_manifest::{SecretRef, WebhookTarget};
use serde_json::json;
use support::{Reply, Server, words};

/// A secret in a file, and the target that names it.
struct Target {
    _folder: tempfile::TempDir,
    target: WebhookTarget,
}

const SECRET: &str = "swordfish";

fn target(url: &str) -> Target {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let target = WebhookTarget {
        url: url.to_owned(),
        secret: SecretRef::File(file),
        timeout: Duration::from_secs(5),
        ca_file: None,
        allow_insecure: false,
    };
    Target { _folder: folder, target }
}

fn fleet(target: &Target) -> HookFleet {
    HookFleet::webhook(ScalerId::from("llama3"), &target.target, Clock::start(1.0)).unwrap()
}

fn replica(id: &str, phase: &str) -> serde_json::Value {
    json!({"id": id, "phase": phase})
}

fn seen(replicas: &[serde_json::Value]) -> Reply {
    Reply::json(json!({"version": 1, "replicas": replicas}))
}

fn start(count: u32) -> Placement {
    Placement { start: count, ..Placement::default() }
}

#[tokio::test]
async fn it_is_asked_what_there_is_and_told_what_to_do_in_signed_requests() {
    let server = Server::start([
        Reply::json(json!({"version": 1, "replicas": [
            {"id": "a", "phase": "ready", "address": "10.0.0.7:8000", "ageSeconds": 812.5},
            {"id": "b", "phase": "loading"},
            {"id": "c", "phase": "draining", "address": "[::1]:8000"},
        ]})),
        Reply::json(json!({"version": 1})),
    ])
    .await;
    let target = target(&server.url());
    let fleet = fleet(&target);
    let view = fleet.observe().await.unwrap();
    let phases: Vec<_> = view.replicas.iter().map(|replica| (replica.id.as_str(), replica.phase)).collect();
    assert_eq!(phases, [("a", Phase::Ready), ("b", Phase::Loading), ("c", Phase::Draining)]);
    assert_eq!(view.replicas[0].address.as_deref(), Some("10.0.0.7:8000"));
    assert!(view.replicas[0].age >= Duration::from_millis(812_500));
    let ids = |name: &str| vec![ReplicaId::from(name)];
    let placement = Placement { start: 2, revive: ids("c"), drain: ids("a"), stop: ids("b") };
    fleet.apply(&placement).await.unwrap();

    let [observe, apply] = server.requests().try_into().unwrap();
    assert_eq!(observe.body, json!({"version": 1, "operation": "observe", "scaler": "llama3"}));
    assert_eq!(observe.header("idempotency-key"), None);
    let key = apply.header("idempotency-key").unwrap().to_owned();
    assert_eq!(key.len(), 32);
    let expected = json!({
        "version": 1, "operation": "apply", "scaler": "llama3", "key": key, "dryRun": false,
        "start": 2, "revive": ["c"], "drain": ["a"], "stop": ["b"],
    });
    assert_eq!(apply.body, expected);
    for request in [observe, apply] {
        let header: BTreeMap<&str, &str> = request
            .header("forewarm-signature")
            .unwrap()
            .split(',')
            .map(|p| p.split_once('=').unwrap())
            .collect();
        let signed = [header["t"].as_bytes(), b".", &request.raw].concat();
        let mac: Vec<u8> =
            (0..64).step_by(2).map(|i| u8::from_str_radix(&header["v1"][i..i + 2], 16).unwrap()).collect();
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), &signed, &mac).unwrap();
    }
}

#[tokio::test]
async fn a_change_that_nobody_answers_for_is_asked_for_again_under_its_key_before_anything_else() {
    let busy = || Reply::status(StatusCode::SERVICE_UNAVAILABLE);
    let server = Server::start([
        seen(&[]),
        busy(),
        busy(),
        busy(),
        Reply::json(json!({"version": 1})),
        seen(&[replica("a", "requested")]),
    ])
    .await;
    let target = target(&server.url());
    let fleet = fleet(&target);
    fleet.observe().await.unwrap();
    let error = words(&fleet.apply(&start(1)).await.unwrap_err());
    assert!(error.contains("answered 503") && error.contains("asked again"), "{error}");
    let view = fleet.observe().await.unwrap();
    assert_eq!(view.replicas.len(), 1);
    let requests = server.requests();
    let operations: Vec<_> =
        requests.iter().map(|request| request.body["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["observe", "apply", "apply", "apply", "apply", "observe"]);
    let keys: Vec<_> =
        requests[1..5].iter().map(|request| request.header("idempotency-key").unwrap()).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert!(requests[1..5].iter().all(|request| request.raw == requests[1].raw));
}

#[tokio::test]
async fn each_change_has_a_key_of_its_own() {
    let done = || Reply::json(json!({"version": 1}));
    let server = Server::start([seen(&[]), done(), done()]).await;
    let target = target(&server.url());
    let fleet = fleet(&target);
    fleet.observe().await.unwrap();
    fleet.apply(&start(1)).await.unwrap();
    fleet.apply(&start(1)).await.unwrap();
    let keys: Vec<_> =
        server.requests()[1..].iter().map(|r| r.header("idempotency-key").unwrap().to_owned()).collect();
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn what_is_refused_is_not_asked_again_and_a_start_that_is_refused_has_failed() {
    struct Case {
        reply: Reply,
        error: &'static str,
    }
    let cases = [
        Case {
            reply: Reply::status(StatusCode::BAD_REQUEST).with("no such pool"),
            error: "cannot start a replica: answered 400 Bad Request: no such pool",
        },
        Case {
            reply: Reply::json(
                json!({"version": 1, "error": {"code": "outOfCapacity", "message": "no H100 left"}}),
            ),
            error: "no capacity for 2 more: no H100 left",
        },
        Case {
            reply: Reply::json(json!({"version": 1, "error": {"code": "refused", "message": "frozen"}}))
                .and_status(StatusCode::CONFLICT),
            error: "cannot start a replica: frozen",
        },
        Case {
            reply: Reply::json(json!({"version": 1, "done": true})),
            error: "cannot start a replica: the answer is not of version 1 of the protocol: done: unknown field",
        },
    ];
    for Case { reply, error } in cases {
        let server = Server::start([seen(&[]), reply, seen(&[])]).await;
        let target = target(&server.url());
        let fleet = fleet(&target);
        fleet.observe().await.unwrap();
        let found = words(&fleet.apply(&start(2)).await.unwrap_err());
        assert!(found.starts_with(error), "{found}");
        let view = fleet.observe().await.unwrap();
        assert_eq!(view.failed_starts.len(), 1, "{error}");
        assert_eq!(server.requests().len(), 3, "{error}");
    }
}

#[tokio::test]
async fn an_endpoint_that_asks_for_a_pause_gets_it() {
    let pause = Reply::status(StatusCode::TOO_MANY_REQUESTS).and_header("retry-after", "1800");
    let server = Server::start([pause]).await;
    let target = target(&server.url());
    let fleet = fleet(&target);
    for _ in 0..2 {
        let error = words(&fleet.observe().await.unwrap_err());
        assert!(error.contains("answered 429"), "{error}");
        assert!(error.contains("it wants to be asked again in 1800 s"), "{error}");
    }
    let error = words(&fleet.apply(&start(1)).await.unwrap_err());
    assert!(error.contains("it wants to be asked again in 1"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_short_pause_is_waited_out_and_nothing_else_is_said() {
    let pause = Reply::status(StatusCode::SERVICE_UNAVAILABLE).and_header("retry-after", "0");
    let date =
        Reply::status(StatusCode::BAD_GATEWAY).and_header("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT");
    let server = Server::start([pause, date, seen(&[replica("a", "ready")])]).await;
    let target = target(&server.url());
    assert_eq!(fleet(&target).observe().await.unwrap().replicas.len(), 1);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn an_answer_is_good_for_a_moment_but_not_beyond_a_change() {
    let server = Server::start([seen(&[]), Reply::empty(), seen(&[replica("a", "requested")])]).await;
    let target = target(&server.url());
    let fleet = fleet(&target);
    for _ in 0..3 {
        assert_eq!(fleet.observe().await.unwrap().replicas.len(), 0);
    }
    fleet.apply(&start(1)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(fleet.observe().await.unwrap().replicas.len(), 1);
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn an_endpoint_that_knows_a_number_is_told_a_number() {
    let number =
        |desired: u32, ready: u32| Reply::json(json!({"version": 1, "desired": desired, "ready": ready}));
    let server =
        Server::start([number(3, 2), Reply::empty(), number(5, 2), Reply::empty(), number(3, 5)]).await;
    let target = target(&server.url());
    let fleet = fleet(&target);
    let phases =
        async || -> Vec<Phase> { fleet.observe().await.unwrap().replicas.iter().map(|r| r.phase).collect() };
    assert_eq!(phases().await, [Phase::Ready, Phase::Ready, Phase::Requested]);
    fleet.apply(&start(2)).await.unwrap();
    assert_eq!(phases().await.len(), 5);
    let ids = |names: &[&str]| names.iter().map(|name| ReplicaId::from(*name)).collect();
    let placement =
        Placement { drain: ids(&["replica-0"]), stop: ids(&["replica-4", "gone"]), ..Placement::default() };
    fleet.apply(&placement).await.unwrap();
    assert_eq!(phases().await, [Phase::Ready, Phase::Ready, Phase::Ready, Phase::Draining, Phase::Draining]);
    let told: Vec<_> =
        server.requests().iter().filter_map(|request| request.body["desired"].as_u64()).collect();
    assert_eq!(told, [5, 3]);
    assert_eq!(server.requests()[1].body.get("start"), None);
}

#[tokio::test]
async fn what_replicas_work_on_is_the_signal_running() {
    let working = |id: &str, count: u32| json!({"id": id, "phase": "ready", "inFlight": count});
    let cases = [
        (vec![working("a", 3), working("b", 0), replica("c", "loading")], Some((3.0, 2, None))),
        (vec![working("a", 3), replica("b", "draining")], Some((3.0, 1, Some(2)))),
        (vec![replica("a", "ready")], None),
        (vec![replica("a", "requested")], Some((0.0, 0, None))),
    ];
    for (replicas, expected) in cases {
        let server = Server::start([seen(&replicas)]).await;
        let target = target(&server.url());
        let fleet = fleet(&target);
        fleet.observe().await.unwrap();
        let found = fleet.latest().into_iter().map(|(name, signal)| {
            assert_eq!(name.as_str(), "running");
            match signal.reading {
                Reading::Value { total, per_replica } => (total, per_replica.len(), None),
                Reading::Partial { total, per_replica, expected, .. } => {
                    (total, per_replica.len(), Some(expected))
                }
                Reading::Missing(why) => panic!("{why}"),
            }
        });
        assert_eq!(found.collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>(), "{replicas:?}");
    }
}

#[tokio::test]
async fn a_failed_start_is_told_once_however_often_it_is_said() {
    let answer = |id: &str| {
        let failed = json!([{"id": id, "phase": "provisioning", "error": "no quota"}]);
        Reply::json(json!({"version": 1, "replicas": [], "failedStarts": failed}))
    };
    let server = Server::start([answer("a"), Reply::empty(), answer("a"), Reply::empty(), answer("b")]).await;
    let target = target(&server.url());
    let fleet = fleet(&target);
    let mut failed = Vec::new();
    for round in 0..3 {
        if round > 0 {
            fleet.apply(&Placement::default()).await.unwrap();
        }
        failed.extend(fleet.observe().await.unwrap().failed_starts.into_iter().map(|f| f.id.to_string()));
    }
    assert_eq!(failed, ["a", "b"]);
}

#[tokio::test]
async fn redirects_are_not_followed_and_long_or_late_answers_not_waited_for() {
    let elsewhere = Server::start([seen(&[])]).await;
    let redirect = Reply::status(StatusCode::TEMPORARY_REDIRECT).and_header("location", &elsewhere.url());
    let long = Reply::json(json!({"version": 1, "replicas": [], "x": "x".repeat(2 << 20)}));
    for (reply, error) in [
        (redirect, "redirects are not followed"),
        (long, "the answer is longer than 1048576 bytes"),
        (Reply::never(), "no answer within 0.1 s"),
    ] {
        let never = || Reply::never();
        let server = Server::start([reply, never(), never()]).await;
        let mut target = target(&server.url());
        target.target.timeout = Duration::from_millis(if error.contains("0.1") { 100 } else { 5000 });
        let found = words(&fleet(&target).observe().await.unwrap_err());
        assert!(found.contains(error), "{found}");
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn a_hook_that_cannot_be_reached_is_a_fleet_that_cannot_be_seen_until_it_is_back() {
    let server = Server::start([seen(&[replica("a", "ready")])]).await;
    let url = server.url();
    let address = server.stop().await;
    let target = target(&url);
    let fleet = fleet(&target);
    let error = fleet.observe().await.unwrap_err();
    assert!(matches!(error, FleetError::Unreachable(_)), "{error}");
    let back = Server::start_at(address, [Reply::empty(), seen(&[replica("a", "ready")])]).await;
    // A change makes it look again at once, rather than a second later.
    fleet.apply(&Placement::default()).await.unwrap();
    assert_eq!(fleet.observe().await.unwrap().replicas.len(), 1);
    drop(back);
}

#[tokio::test]
async fn only_addresses_that_are_safe_are_called() {
    let cases = [
        ("https://hooks.example.com/forewarm", true),
        ("http://127.0.0.1:8000/", true),
        ("http://[::1]:8000/", true),
        ("http://localhost:8000/", true),
        ("http://hooks.example.com/", false),
        ("http://127.0.0.1.example.com/", false),
        ("http://169.254.169.254/latest/meta-data", false),
        ("https://user:password@hooks.example.com/", false),
        ("ftp://hooks.example.com/", false),
        ("file:///etc/passwd", false),
        ("hooks.example.com", false),
    ];
    for (url, is_fine) in cases {
        let target = target(url);
        let made = HookFleet::webhook(ScalerId::from("llama3"), &target.target, Clock::start(1.0));
        assert_eq!(made.is_ok(), is_fine, "{url}");
        if let Err(error) = made {
            assert!(error.to_string().contains("wanted https://"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_certificate_counts_when_the_ca_of_the_manifest_signed_it() {
    let ca = support::Ca::new();
    let server = Server::start_tls(&ca, [seen(&[replica("a", "ready")])]).await;
    let mut target = target(&server.url());
    target.target.ca_file = Some(ca.file());
    assert_eq!(fleet(&target).observe().await.unwrap().replicas.len(), 1);
    let other = support::Ca::new();
    target.target.ca_file = Some(other.file());
    let error = words(&fleet(&target).observe().await.unwrap_err());
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_trial_changes_nothing() {
    let refused = Reply::json(json!({"version": 1, "error": {"code": "outOfCapacity", "message": "full"}}));
    let server = Server::start([Reply::json(json!({"version": 1, "desired": 1, "ready": 1})), refused]).await;
    let target = target(&server.url());
    let trial = fleet(&target).trial().await.unwrap();
    assert_eq!(trial.dry_run, Err("full".to_owned()));
    let apply = &server.requests()[1];
    assert_eq!((&apply.body["dryRun"], &apply.body["desired"]), (&json!(true), &json!(2)));
}
