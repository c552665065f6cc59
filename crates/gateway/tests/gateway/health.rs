//! Replicas that do worse than their peers, and what a request may cost.

use forewarm_gateway::GatewayConfig;
use http::StatusCode;

use crate::support::{Rig, Upstream, config};

/// So fast that ten modelled seconds are over at once.
fn fast() -> GatewayConfig {
    GatewayConfig { speed: 100.0, ..config() }
}

#[tokio::test]
async fn what_a_silent_replica_was_sent_is_answered_by_its_peer() {
    let rig = Rig::with(fast()).await;
    let (mut silent, mut well) = (Upstream::start().await, Upstream::start().await);
    rig.apply(vec![silent.endpoint("a", 4), well.endpoint("b", 4)]);
    let reply = rig.chat();
    let call = silent.call().await;
    // Its peer answers: now silence says something.
    let other = rig.chat();
    well.call().await.stream().await;
    assert_eq!(other.await.unwrap().header("x-forewarm-replica"), "b");
    call.closed().await;
    well.call().await.stream().await;
    assert_eq!(reply.await.unwrap().header("x-forewarm-replica"), "b");
    let report = rig.until("it ended", |report| report.succeeded_total == 2).await;
    assert_eq!((report.retried_total, report.failed_total.len()), (1, 0));
    assert_eq!(report.put_aside.values().collect::<Vec<_>>(), ["silent"]);
    // A connection alone is no sign of life; an answer is.
    silent.call().await.answer("404 Not Found", "").await;
    rig.until("it is back", |report| report.put_aside.is_empty()).await;
    // One request at first, though it has four slots free and its peer three.
    let busy = rig.queue(3).await;
    let first = silent.call().await;
    well.call().await.stream().await;
    well.call().await.stream().await;
    assert!(!silent.has_call(), "it has yet to answer");
    first.stream().await;
    for reply in busy {
        assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_replica_that_is_alone_may_be_silent() {
    let rig = Rig::with(fast()).await;
    let mut replica = Upstream::start().await;
    rig.apply(vec![replica.endpoint("a", 2)]);
    // The other one shows that time passes.
    let (slow, other) = (rig.chat(), rig.chat());
    let call = replica.call().await;
    replica.call().await.stream().await;
    other.await.unwrap();
    call.stream().await;
    slow.await.unwrap();
    let report = rig.until("both ended", |report| report.succeeded_total == 2).await;
    assert_eq!((report.retried_total, report.put_aside.len()), (0, 0));
}

#[tokio::test]
async fn a_replica_that_fails_what_its_peers_answer_is_put_aside_for_a_while() {
    let rig = Rig::with(fast()).await;
    let (mut bad, mut good) = (Upstream::start().await, Upstream::start().await);
    rig.apply(vec![bad.endpoint("a", 1), good.endpoint("b", 1)]);
    let mut aside = false;
    for _ in 0..200 {
        let (one, two) = (rig.chat(), rig.chat());
        let answers = async {
            let (one, two) = tokio::join!(one, two);
            (one.unwrap(), two.unwrap())
        };
        tokio::pin!(answers);
        loop {
            tokio::select! {
                _ = &mut answers => break,
                call = bad.call() => call.answer("500 Internal Server Error", "out of memory").await,
                call = good.call() => call.answer("200 OK", "{}").await,
            }
        }
        aside |= rig.report().put_aside.values().any(|why| why == "failing");
        if aside {
            break;
        }
    }
    assert!(aside, "{:?}", rig.report());
    rig.until("it is over", |report| report.put_aside.is_empty()).await;
}

#[tokio::test]
async fn replicas_that_all_fail_do_not_get_every_request_six_times() {
    const REQUESTS: u64 = 100;
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", REQUESTS as u32)]);
    let mut replies = rig.queue(REQUESTS).await;
    let mut tries = 0_u64;
    let (mut given_up, mut denied) = (0, 0);
    while let Some(mut reply) = replies.pop() {
        let reply = loop {
            tokio::select! {
                call = replica.call() => { drop(call); tries += 1; }
                reply = &mut reply => break reply.unwrap(),
            }
        };
        assert_eq!(reply.header("x-forewarm-accepted"), "true");
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            assert!(!reply.header("retry-after").is_empty());
            denied += 1;
        } else {
            assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
            given_up += 1;
        }
        assert_eq!(reply.error_code().await, "upstream_error");
    }
    assert_eq!(given_up + denied, REQUESTS);
    // Each once, a death's worth, and what the budget had saved up; a little more has come in the meantime.
    assert!(tries < 4 * REQUESTS, "{tries} tries of {REQUESTS} requests; {denied} were denied another");
    assert!(tries >= 3 * REQUESTS - 1, "a death is forgiven: {tries}");
}
