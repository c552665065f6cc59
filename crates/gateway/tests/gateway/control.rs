//! The gateway as its controller sees it, in this process and in another.

use std::time::Duration;

use forewarm_core::{
    ScalerId,
    pool::{PoolPlan, PoolReport, Priority},
};
use forewarm_gateway::{ControlAccess, ControlToken, GatewayConfig, RemoteGateway, UpstreamTls};
use futures_util::future::try_join_all;
use http::{Request, StatusCode};
use http_body_util::Full;

use crate::support::{CHAT, PATIENCE, Rig, Upstream, config, get, plan, scaler, send};

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("never: {what}"),
    }
}

#[tokio::test]
async fn a_controller_elsewhere_plans_and_sees_changes_at_once() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    let remote = RemoteGateway::new(scaler(), &rig.control.to_string(), &ControlAccess::default());
    let error = remote.report().await.unwrap_err();
    assert!(error.to_string().contains("no plan for scaler `s`"), "{error}");
    remote.apply(&plan(Vec::new())).await.unwrap();
    let waiting = rig.chat();
    let report = soon("a report of it", async {
        loop {
            let report = remote.report().await.unwrap();
            if report.queued == 1 {
                return report;
            }
            remote.changed().await;
        }
    })
    .await;
    // All but the wait, which goes on.
    let (oldest_wait_seconds, classes) = (report.oldest_wait_seconds, report.classes.clone());
    assert_eq!(report, PoolReport { oldest_wait_seconds, classes, ..rig.report() });
    assert_eq!(report.classes[&Priority::Normal].queued, 1);
    remote.apply(&plan(vec![replica.endpoint("a", 1)])).await.unwrap();
    replica.call().await.stream().await;
    assert_eq!(waiting.await.unwrap().status, StatusCode::OK);
}

/// Longer than a change takes to be told, and less than it takes until a silent stream is opened again.
const TOLD_WITHIN: Duration = Duration::from_secs(4);

#[tokio::test]
async fn one_stream_tells_of_every_change() {
    let rig = Rig::start().await;
    let remote = RemoteGateway::new(scaler(), &rig.control.to_string(), &ControlAccess::default());
    remote.apply(&plan(Vec::new())).await.unwrap();
    let mut waiting = Vec::new();
    for queued in 1..=3 {
        waiting.push(rig.chat());
        let seen = async {
            while remote.report().await.unwrap().queued < queued {
                remote.changed().await;
            }
        };
        tokio::time::timeout(TOLD_WITHIN, seen).await.expect("nobody had to ask");
    }
}

#[tokio::test]
async fn a_controller_of_many_scalers_has_a_few_connections() {
    let rig = Rig::start().await;
    let access = ControlAccess::default();
    // Two connections each would be more than the gateway takes.
    let ids: Vec<ScalerId> = (0..300).map(|number| ScalerId::from(format!("s-{number}"))).collect();
    let address = rig.control.to_string();
    let remotes: Vec<RemoteGateway> =
        ids.iter().map(|id| RemoteGateway::new(id.clone(), &address, &access)).collect();
    let plans = ids.iter().map(|id| PoolPlan {
        scaler: id.clone(),
        models: vec![format!("model of {id}")],
        ..plan(Vec::new())
    });
    let told = remotes.iter().zip(plans).map(async |(remote, plan)| remote.apply(&plan).await);
    soon("all have their plans", try_join_all(told)).await.unwrap();
    soon("all report", try_join_all(remotes.iter().map(RemoteGateway::report))).await.unwrap();
    let _waiting = rig.post(CHAT, r#"{"model":"model of s-7"}"#, &[]);
    soon("it is told of its own", async {
        while remotes[7].report().await.unwrap().queued == 0 {
            remotes[7].changed().await;
        }
    })
    .await;
    let reports = soon("all report", try_join_all(remotes.iter().map(RemoteGateway::report))).await.unwrap();
    assert_eq!(reports.iter().map(|report| report.arrived_total).sum::<u64>(), 1);
}

#[tokio::test]
async fn what_is_idle_is_told_and_not_asked_for() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    let remote = RemoteGateway::new(scaler(), &rig.control.to_string(), &ControlAccess::default());
    remote.apply(&plan(vec![replica.endpoint("a", 1)])).await.unwrap();
    let first = rig.chat();
    replica.call().await.stream().await;
    first.await.unwrap().text().await;
    soon("its end is told", async {
        while remote.report().await.unwrap().succeeded_total == 0 {
            remote.changed().await;
        }
    })
    .await;
    assert_eq!(remote.report().await.unwrap(), rig.report());
}

#[tokio::test]
async fn a_report_may_be_longer_than_what_is_read_at_once() {
    let (rig, replica) = (Rig::start().await, Upstream::start().await);
    let remote = RemoteGateway::new(scaler(), &rig.control.to_string(), &ControlAccess::default());
    let endpoints = (0..2_000).map(|number| replica.endpoint(&format!("replica-{number}"), 1)).collect();
    remote.apply(&plan(endpoints)).await.unwrap();
    let report = remote.report().await.unwrap();
    assert_eq!(report.in_flight.len(), 2_000);
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_an_error_and_is_found_again() {
    let rig = Rig::start().await;
    let remote = RemoteGateway::new(scaler(), &rig.control.to_string(), &ControlAccess::default());
    remote.apply(&plan(Vec::new())).await.unwrap();
    remote.report().await.unwrap();
    let (control, address) = (rig.control, rig.address);
    rig.stop.cancel();
    soon("it ends", rig.running).await.unwrap();
    soon("nobody is there; that is not an empty queue", async {
        while remote.report().await.is_ok() {
            remote.changed().await;
        }
    })
    .await;
    remote.apply(&plan(Vec::new())).await.expect_err("nobody is there");
    // Another one takes its place, knows nothing, and is told without anybody asking.
    let config = GatewayConfig { control: Some(control), ..GatewayConfig::new(address) };
    let again = Rig::with(config).await;
    let known = soon("it has the plan", async {
        while remote.report().await.is_err() {
            remote.changed().await;
        }
        remote.report().await.unwrap()
    });
    assert_eq!(known.await.arrived_total, 0);
    let _waiting = again.chat();
    soon("a report of it", async {
        while remote.report().await.unwrap().queued == 0 {
            remote.changed().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_plan_that_makes_no_sense_is_refused_by_name() {
    let rig = Rig::start().await;
    let good = serde_json::to_value(plan(Vec::new())).unwrap();
    let cases = [
        ("s", "{".to_owned(), "EOF"),
        ("other", good.to_string(), "`scaler` is `s`"),
        ("s", r#"{"scaler":"s","typo":1}"#.to_owned(), "typo"),
    ];
    for (path, body, says) in cases {
        let request = Request::put(format!("/forewarm/v1/pools/{path}")).header("host", "g");
        let reply = send(rig.control, request.body(Full::new(body.into())).unwrap()).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path}");
        let text = reply.text().await;
        assert!(text.contains(says), "{text}");
    }
    assert_eq!(get(rig.control, "/forewarm/v1/pools/s").await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(rig.control, "/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    rig.apply(Vec::new());
    assert_eq!(get(rig.control, "/readyz").await.status, StatusCode::OK);
    assert_eq!(get(rig.control, "/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn pools_are_for_those_who_show_the_token() {
    let token = ControlToken::new("let-me-in");
    assert!(!format!("{token:?}").contains("let-me-in"), "never printed");
    let rig = Rig::with(GatewayConfig { control_token: Some(token.clone()), ..config() }).await;
    rig.apply(Vec::new());
    for shown in ["", "Bearer ", "Bearer let-me-i", "Bearer let-me-in2", "Basic let-me-in"] {
        let mut request = Request::get("/forewarm/v1/pools/s").header("host", "g");
        if !shown.is_empty() {
            request = request.header("authorization", shown);
        }
        let reply = send(rig.control, request.body(Full::default()).unwrap()).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{shown}");
    }
    let address = rig.control.to_string();
    RemoteGateway::new(scaler(), &address, &ControlAccess::default())
        .report()
        .await
        .expect_err("without a token");
    let access = ControlAccess::new(Some(token), &UpstreamTls::default()).unwrap();
    RemoteGateway::new(scaler(), &address, &access).report().await.unwrap();
    assert_eq!(get(rig.control, "/metrics").await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_are_those_of_the_account() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let first = rig.chat();
    replica.call().await.stream().await;
    first.await.unwrap().text().await;
    rig.until("it ended", |report| report.succeeded_total == 1).await;
    let _replies = rig.queue(2).await;
    let page = get(rig.control, "/metrics").await.text().await;
    for line in [
        "# TYPE forewarm_gateway_queue_wait_seconds histogram",
        "forewarm_gateway_queue_depth{scaler=\"s\"} 1",
        "forewarm_gateway_in_flight{scaler=\"s\",replica=\"a\"} 1",
        "forewarm_gateway_arrivals_total{scaler=\"s\"} 3",
        "forewarm_gateway_requests_total{scaler=\"s\",outcome=\"succeeded\"} 1",
        "forewarm_gateway_requests_total{scaler=\"s\",outcome=\"refused\"} 0",
        "forewarm_gateway_streamed_events_total{scaler=\"s\"} 1",
        "# TYPE forewarm_gateway_busy_seconds_total counter",
        "forewarm_gateway_requests_completed_total{scaler=\"s\"} 1",
        "forewarm_gateway_requests_attained_total{scaler=\"s\"} 0",
        "forewarm_gateway_requests_missed_total{scaler=\"s\"} 0",
        "forewarm_gateway_queue_wait_seconds_bucket{scaler=\"s\",priority=\"normal\",le=\"+Inf\"} 1",
        "forewarm_gateway_queue_wait_seconds_count{scaler=\"s\",priority=\"normal\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn what_one_observer_has_seen_is_news_to_another() {
    let rig = Rig::start().await;
    rig.apply(Vec::new());
    let (one, other) = (rig.handle.clone(), rig.handle.clone());
    one.report(&scaler()).unwrap();
    other.report(&scaler()).unwrap();
    let _waiting = rig.chat();
    rig.until("it waits", |report| report.queued == 1).await;
    soon("one is told", one.changed(&scaler())).await;
    one.report(&scaler()).unwrap();
    get(rig.control, "/metrics").await;
    soon("the other is told too", other.changed(&scaler())).await;
    assert!(one.report(&ScalerId::from("nobody")).is_err());
}
