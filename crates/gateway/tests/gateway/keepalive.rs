//! What a client hears while its stream waits, if it asks.

use std::time::Duration;

use forewarm_core::pool::{PoolPlan, Routing};
use forewarm_gateway::GatewayConfig;
use http::StatusCode;

use crate::support::{BODY, CHAT, Reply, Rig, Upstream, config, plan};

/// A modelled second is a millisecond.
fn fast() -> GatewayConfig {
    GatewayConfig { speed: 1_000.0, ..config() }
}

fn cold() -> PoolPlan {
    PoolPlan { ready_in_seconds: Some(86_400.0), ..plan(Vec::new()) }
}

const ASKS: [(&str, &str); 1] = [("x-forewarm-keepalive", "10")];

async fn comment(reply: &mut Reply) -> String {
    String::from_utf8(reply.next().await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_stream_that_waits_hears_where_it_stands_and_then_gets_its_bytes() {
    let (rig, mut replica) = (Rig::with(fast()).await, Upstream::start().await);
    assert!(rig.handle.apply(&cold()));
    let first = rig.chat();
    rig.until("it waits", |report| report.queued == 1).await;
    let mut reply = rig.post(CHAT, BODY, &ASKS).await.unwrap();
    assert_eq!((reply.status, reply.header("content-type")), (StatusCode::OK, "text/event-stream"));
    assert_eq!(reply.header("x-forewarm-accepted"), "true");
    for _ in 0..2 {
        let comment = comment(&mut reply).await;
        assert!(comment.starts_with(": forewarm queued position=2 eta=86"), "{comment}");
        assert!(comment.ends_with("s\n\n"), "{comment}");
    }
    rig.apply(vec![replica.endpoint("a", 1)]);
    replica.call().await.stream().await;
    assert_eq!(first.await.unwrap().header("x-forewarm-queue-position"), "1");
    let mut call = replica.call().await;
    assert!(!call.head.contains("x-forewarm-keepalive"), "{}", call.head);
    while comment(&mut reply).await != ": forewarm at a replica\n\n" {}
    call.write(crate::support::EVENTS).await;
    call.chunk("data: {\"odd\"  :1}\r\n\r\n").await;
    call.done().await;
    let text = reply.text().await;
    let answer = text.trim_start_matches(": forewarm at a replica\n\n");
    assert_eq!(answer, "data: {\"odd\"  :1}\r\n\r\ndata: [DONE]\n\n", "byte for byte");
    let report = rig.until("both ended", |report| report.succeeded_total == 2).await;
    assert_eq!((report.arrived_total, report.failed_total.len()), (2, 0));
}

#[tokio::test]
async fn an_error_after_the_head_is_an_event_and_counts_as_what_it_is() {
    let rig = Rig::with(fast()).await;
    assert!(rig.handle.apply(&cold()));
    let headers = [ASKS[0], ("x-scale-up-timeout", "50")];
    let reply = rig.post(CHAT, BODY, &headers).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    let text = reply.text().await;
    let event = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let error: serde_json::Value = serde_json::from_str(event).unwrap();
    assert_eq!(error["error"]["code"], "deadline", "{text}");
    assert!(error["error"]["message"].as_str().unwrap().contains("expected to be ready in"), "{text}");
    let report = rig.until("it ended", |report| report.queued == 0).await;
    assert_eq!(report.failed_total.get("deadline"), Some(&1));
    // An engine's own error, too.
    let mut replica = Upstream::start().await;
    let mut reply = rig.post(CHAT, BODY, &ASKS).await.unwrap();
    comment(&mut reply).await;
    rig.apply(vec![replica.endpoint("a", 1)]);
    replica.call().await.answer("400 Bad Request", "{\"error\":\n{\"code\":400}}").await;
    let text = reply.text().await;
    assert!(text.ends_with("data: {\"error\":\ndata: {\"code\":400}}\n\n"), "{text}");
}

#[tokio::test]
async fn who_does_not_ask_or_wants_no_stream_hears_nothing_before_the_answer() {
    let (rig, mut replica) = (Rig::with(fast()).await, Upstream::start().await);
    let routing = Routing { keepalive: Some(Duration::from_secs(10)), ..Routing::default() };
    let quiet = [
        (CHAT, r#"{"model":"m"}"#, ASKS),
        ("/v1/responses", BODY, ASKS),
        (CHAT, BODY, [("x-forewarm-keepalive", "0")]),
    ];
    for (path, body, headers) in quiet {
        assert!(rig.handle.apply(&PoolPlan { routing: routing.clone(), ..cold() }));
        let reply = rig.post(path, body, &headers);
        // By then it would have heard something, as one does that lets the plan decide.
        let mut other = rig.post(CHAT, BODY, &[]).await.unwrap();
        assert!(comment(&mut other).await.starts_with(": forewarm queued"));
        assert!(!reply.is_finished(), "{path} {body}");
        drop(other);
        assert!(
            rig.handle.apply(&PoolPlan { routing: routing.clone(), ..plan(vec![replica.endpoint("a", 1)]) })
        );
        replica.call().await.answer("200 OK", "{}").await;
        assert_eq!(reply.await.unwrap().text().await, "{}");
    }
    // What is answered before the first comment is due is answered as ever.
    let reply = rig.post(CHAT, BODY, &[("x-forewarm-keepalive", "3600")]);
    replica.call().await.stream().await;
    let reply = reply.await.unwrap();
    assert_eq!(reply.header("x-forewarm-replica"), "a");
    assert_eq!(reply.header("x-forewarm-queue-position"), "", "it did not wait");
}

#[tokio::test]
async fn who_leaves_while_it_waits_is_counted_and_gone() {
    let rig = Rig::with(fast()).await;
    assert!(rig.handle.apply(&cold()));
    let mut reply = rig.post(CHAT, BODY, &ASKS).await.unwrap();
    comment(&mut reply).await;
    drop(reply);
    let report = rig.until("its place is free", |report| report.queued == 0).await;
    assert_eq!(report.in_flight_sum(), 0);
    rig.until("it is counted", |report| report.failed_total.get("client_left") == Some(&1)).await;
}
