//! Who is next where clients say how urgent a request is, and whose it is; and who loses a place.

use forewarm_core::pool::{Concurrency, Endpoint, PoolPlan, Priority, QueueLimits, Tenants};
use http::StatusCode;
use tokio::task::JoinHandle;

use crate::support::{BODY, CHAT, EVENTS, Reply, Rig, Upstream, get, plan};

/// Tenants by a header or by the body, of whom `b` has the double.
fn shared(endpoints: Vec<Endpoint>, max_requests: u32) -> PoolPlan {
    let plan = plan(endpoints);
    let weights = [("b".to_owned(), 2.try_into().unwrap())].into();
    let tenants = Tenants { header: Some("X-Tenant".to_owned()), user: true, weights };
    PoolPlan { queue: QueueLimits { max_requests, tenants, ..plan.queue }, ..plan }
}

/// A request that waits, with a name in its body.
async fn waits(rig: &Rig, name: &str, fields: &str, headers: &[(&str, &str)]) -> JoinHandle<Reply> {
    let before = rig.report().arrived_total;
    let reply = rig.post(CHAT, format!(r#"{{"model":"m","name":"{name}"{fields}}}"#), headers);
    rig.until("it arrived", |report| report.arrived_total > before).await;
    reply
}

/// Answers so many calls, one after the other; returns their names in that order.
async fn order(replica: &mut Upstream, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        let call = replica.call().await;
        let body: serde_json::Value = serde_json::from_str(&call.body).unwrap();
        names.push(body["name"].as_str().unwrap().to_owned());
        call.answer("200 OK", "{}").await;
    }
    names
}

#[tokio::test]
async fn the_urgent_goes_first_and_the_answer_says_how_urgent_it_was() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(Vec::new());
    let mut replies = Vec::new();
    for priority in ["low", "", "HIGH"] {
        let header = [("x-forewarm-priority", priority)];
        let headers = if priority.is_empty() { &[][..] } else { &header[..] };
        replies.push(waits(&rig, priority, "", headers).await);
    }
    let classes = rig.report().classes;
    assert!(Priority::ALL.iter().all(|priority| classes[priority].queued == 1), "{classes:?}");
    rig.apply(vec![replica.endpoint("a", 1)]);
    assert_eq!(order(&mut replica, 3).await, ["HIGH", "", "low"]);
    for (reply, priority) in replies.into_iter().zip(["low", "normal", "high"]) {
        assert_eq!(reply.await.unwrap().header("x-forewarm-priority"), priority);
    }
    let classes = rig.report().classes;
    assert!(classes.values().all(|class| (class.arrived_total, class.admitted_total) == (1, 1)));

    let wrong = rig.post(CHAT, BODY, &[("x-forewarm-priority", "urgent")]).await.unwrap();
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert_eq!(wrong.error_code().await, "invalid_priority");
}

#[tokio::test]
async fn tenants_share_by_weight_whether_a_header_or_the_body_names_them() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.handle.apply(&shared(Vec::new(), 100));
    let mut replies = Vec::new();
    for _ in 0..4 {
        replies.push(waits(&rig, "a", "", &[("x-tenant", "a")]).await);
    }
    for _ in 0..4 {
        replies.push(waits(&rig, "b", r#","user":"b""#, &[]).await);
    }
    rig.handle.apply(&shared(vec![replica.endpoint("r", 1)], 100));
    let first = order(&mut replica, 6).await;
    assert_eq!(first.iter().filter(|name| *name == "b").count(), 4, "{first:?}");
    order(&mut replica, 2).await;
    for reply in replies {
        assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    }
    let page = get(rig.control, "/metrics").await.text().await;
    for line in [
        "forewarm_gateway_tenant_requests_total{scaler=\"s\",tenant=\"a\",outcome=\"admitted\"} 4",
        "forewarm_gateway_tenant_requests_total{scaler=\"s\",tenant=\"b\",outcome=\"shed\"} 0",
        "forewarm_gateway_class_arrivals_total{scaler=\"s\",priority=\"normal\"} 8",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn who_loses_a_place_is_told_so_and_asked_to_come_again() {
    let rig = Rig::start().await;
    let plan = PoolPlan { ready_in_seconds: Some(30.0), ..shared(Vec::new(), 2) };
    rig.handle.apply(&plan);
    let _first = waits(&rig, "first", "", &[("x-tenant", "a")]).await;
    let last = waits(&rig, "last", "", &[("x-tenant", "a")]).await;
    let _other = waits(&rig, "other", "", &[("x-tenant", "c")]).await;
    let lost = last.await.unwrap();
    assert_eq!(lost.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((lost.header("retry-after"), lost.header("x-forewarm-accepted")), ("30", "true"));
    assert_eq!(lost.error_code().await, "shed");
    let report = rig.until("it is counted", |report| report.failed_total.get("shed") == Some(&1)).await;
    assert_eq!(
        (report.queued, report.refused_total, report.classes[&Priority::Normal].shed_total),
        (2, 0, 1)
    );
    let full = rig.post(CHAT, BODY, &[("x-tenant", "c")]).await.unwrap();
    assert_eq!(
        (full.status, full.error_code().await.as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "queue_full")
    );
}

#[tokio::test]
async fn requests_that_do_not_fit_into_the_kv_cache_wait_here() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    let plan = plan(vec![Endpoint { kv_tokens: Some(1_000), ..replica.endpoint("r", 8) }]);
    rig.handle.apply(&plan);
    let first = waits(&rig, "first", r#","max_tokens":900"#, &[]).await;
    let call = replica.call().await;
    let second = waits(&rig, "second", r#","max_tokens":900"#, &[]).await;
    let report = rig.report();
    assert_eq!((report.queued, report.in_flight_sum()), (1, 1));
    let tokens = *report.tokens_in_flight.values().next().unwrap();
    assert!((900..1_000).contains(&tokens), "prompt and answer: {tokens}");
    // An embedding has no answer to keep.
    let embedding = rig.post("/v1/embeddings", r#"{"model":"m","input":"x"}"#, &[]);
    rig.until("it waits behind the other", |report| report.queued == 2).await;
    call.answer("200 OK", "{}").await;
    let (one, other) = (replica.call().await, replica.call().await);
    one.answer("200 OK", "{}").await;
    other.answer("200 OK", "{}").await;
    for reply in [first, second, embedding] {
        assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_slow_start_grows_with_the_answers_that_begin() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    let concurrency = Concurrency { slow_start: true, learned: false };
    rig.handle.apply(&PoolPlan { concurrency, ..plan(vec![replica.endpoint("r", 8)]) });
    let _replies = rig.queue(8).await;
    let mut calls = [replica.call().await, replica.call().await];
    let report = rig.report();
    assert_eq!((report.in_flight_sum(), report.concurrency.values().sum::<u32>()), (2, 2), "a quarter of 8");
    calls[0].write(EVENTS).await;
    calls[0].chunk("data: {}\n\n").await;
    rig.until("one more", |report| report.in_flight_sum() == 3).await;
}
