//! Holding requests: late binding, bounds, two clocks, clients that leave.

use std::time::Duration;

use forewarm_core::pool::{PoolPlan, QueueLimits};
use http::StatusCode;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{BODY, CHAT, Rig, Upstream, config, plan};

fn limited(max_requests: u32, max_bytes: u64, ready_in_seconds: Option<f64>) -> PoolPlan {
    let plan = plan(Vec::new());
    PoolPlan { queue: QueueLimits { max_requests, max_bytes, ..plan.queue }, ready_in_seconds, ..plan }
}

#[tokio::test]
async fn a_burst_on_no_replica_is_held_and_served_by_the_first_one_as_fast_as_it_can() {
    const BURST: u64 = 20;
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(Vec::new());
    let replies = rig.queue(BURST).await;
    let report = rig.report();
    assert_eq!((report.queued, report.arrived_total), (BURST, BURST));
    assert_eq!(report.queued_bytes, BURST * BODY.len() as u64);
    rig.apply(vec![replica.endpoint("a", 3)]);
    for served in 0..BURST {
        let call = replica.call().await;
        let report = rig.report();
        let left = BURST - served;
        assert_eq!(report.in_flight_sum(), left.min(3), "never more than it can take, never less");
        assert_eq!(report.queued, left.saturating_sub(3));
        call.stream().await;
        rig.until("its slot is free", |report| report.succeeded_total == served + 1).await;
    }
    for reply in replies {
        let reply = reply.await.unwrap();
        assert_eq!(reply.header("x-forewarm-cold-start"), "true");
        assert_eq!(reply.text().await, "data: {}\n\ndata: [DONE]\n\n");
    }
    let report = rig.report();
    assert_eq!((report.succeeded_total, report.refused_total, report.failed_total.len()), (BURST, 0, 0));
}

#[tokio::test]
async fn requests_are_served_in_the_order_they_came() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(Vec::new());
    let mut replies = Vec::new();
    for n in 0..5_u64 {
        replies.push(rig.post(CHAT, format!(r#"{{"model":"m","n":{n}}}"#), &[]));
        rig.until("it waits", |report| report.queued == n + 1).await;
    }
    rig.apply(vec![replica.endpoint("a", 1)]);
    for n in 0..5 {
        let call = replica.call().await;
        assert_eq!(call.body, format!(r#"{{"model":"m","n":{n}}}"#));
        call.answer("200 OK", "{}").await;
    }
}

#[tokio::test]
async fn the_replica_with_the_least_work_is_next() {
    let rig = Rig::start().await;
    let (mut a, mut b) = (Upstream::start().await, Upstream::start().await);
    rig.apply(vec![a.endpoint("a", 2), b.endpoint("b", 2)]);
    let _replies = rig.queue(4).await;
    let held = [a.call().await, b.call().await, a.call().await, b.call().await];
    let report = rig.report();
    assert!(report.in_flight.values().all(|&count| count == 2), "{:?}", report.in_flight);
    drop(held);
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_come_again() {
    struct Case {
        name: &'static str,
        plan: PoolPlan,
        retry_after: &'static str,
    }
    let cases = [
        Case { name: "requests", plan: limited(1, 1 << 20, Some(41.2)), retry_after: "42" },
        Case { name: "bytes", plan: limited(9, BODY.len() as u64, Some(240.0)), retry_after: "240" },
        Case { name: "nothing known", plan: limited(1, 1 << 20, None), retry_after: "5" },
        Case { name: "late already", plan: limited(1, 1 << 20, Some(-3.0)), retry_after: "1" },
    ];
    for Case { name, plan, retry_after } in cases {
        let rig = Rig::start().await;
        assert!(rig.handle.apply(&plan));
        let _held = rig.queue(1).await;
        let reply = rig.chat().await.unwrap();
        assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "{name}");
        assert_eq!(reply.header("retry-after"), retry_after, "{name}");
        assert_eq!(reply.header("x-forewarm-accepted"), "", "{name}: it was given no place");
        assert_eq!(reply.error_code().await, "queue_full");
        let report = rig.report();
        assert_eq!((report.refused_total, report.queued), (1, 1), "{name}");
    }
}

#[tokio::test]
async fn a_cold_start_does_not_eat_the_deadline() {
    // A wait for a slot may take a microsecond, which the wait for a replica is longer than by far.
    let rig = Rig::start().await;
    let mut replica = Upstream::start().await;
    rig.apply(Vec::new());
    let headers = [("x-request-timeout", "0.000001")];
    let reply = rig.post(CHAT, BODY, &headers);
    rig.until("it waits", |report| report.queued == 1).await;
    rig.apply(vec![replica.endpoint("a", 1)]);
    replica.call().await.stream().await;
    assert_eq!(reply.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn each_clock_ends_a_wait_with_an_honest_error() {
    struct Case {
        name: &'static str,
        header: (&'static str, &'static str),
        other: (&'static str, &'static str),
        warm: bool,
    }
    let cases = [
        Case {
            name: "warm",
            header: ("x-request-timeout", "0.01"),
            other: ("x-scale-up-timeout", "600"),
            warm: true,
        },
        Case {
            name: "cold",
            header: ("x-scale-up-timeout", "0.01"),
            other: ("x-request-timeout", "600"),
            warm: false,
        },
    ];
    for Case { name, header, other, warm } in cases {
        let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
        let busy = if warm {
            rig.apply(vec![replica.endpoint("a", 1)]);
            Some((rig.chat(), replica.call().await))
        } else {
            rig.apply(Vec::new());
            None
        };
        let reply = rig.post(CHAT, BODY, &[header, other]).await.unwrap();
        assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT, "{name}");
        assert_eq!(reply.header("x-forewarm-accepted"), "true", "{name}");
        assert_eq!(reply.error_code().await, "deadline", "{name}");
        let report = rig.until("its place is free", |report| report.queued == 0).await;
        assert_eq!(report.failed_total.get("deadline"), Some(&1), "{name}");
        drop(busy);
    }
}

#[tokio::test]
async fn a_plans_timeouts_are_modelled_time() {
    // 36,000 modelled seconds pass in one on the wall.
    let rig = Rig::with(forewarm_gateway::GatewayConfig { speed: 36_000.0, ..config() }).await;
    rig.apply(Vec::new());
    let reply = rig.chat().await.unwrap();
    assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT, "600 s are over in 17 ms");
    assert_eq!(reply.error_code().await, "deadline");
    let plan = PoolPlan { ready_in_seconds: None, ..limited(0, 0, None) };
    assert!(
        rig.handle.apply(&PoolPlan { queue: QueueLimits { timeout: Duration::ZERO, ..plan.queue }, ..plan })
    );
    let reply = rig.chat().await.unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "5"));
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_or_its_slot_and_stops_the_generation() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let first = rig.chat();
    let mut call = replica.call().await;
    // In the queue.
    let waiting = rig.chat();
    rig.until("it waits", |report| report.queued == 1).await;
    waiting.abort();
    let report = rig.until("its place is free", |report| report.queued == 0).await;
    assert_eq!(report.in_flight_sum(), 1);
    rig.until("it is counted", |report| report.failed_total.get("client_left") == Some(&1)).await;
    // In the middle of an answer.
    call.write(crate::support::EVENTS).await;
    call.chunk("data: {}\n\n").await;
    let mut reply = first.await.unwrap();
    reply.next().await.unwrap();
    drop(reply);
    call.closed().await;
    let report = rig.until("its slot is free", |report| report.in_flight_sum() == 0).await;
    assert_eq!(report.failed_total.get("client_left"), Some(&2));
    // Before the first byte.
    let third = rig.chat();
    let call = replica.call().await;
    third.abort();
    call.closed().await;
    rig.until("its slot is free", |report| report.in_flight_sum() == 0).await;
    // And the next one is served as if nothing had been.
    let fourth = rig.chat();
    replica.call().await.stream().await;
    assert_eq!(fourth.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_sends_ahead_and_leaves_frees_its_place() {
    let rig = Rig::start().await;
    rig.apply(Vec::new());
    // Some end a body with an empty line, which is the beginning of nothing.
    for ahead in ["\r\n", "GET /health HTTP/1.1\r\nhost: g\r\n\r\n"] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let length = BODY.len();
        let request =
            format!("POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-length: {length}\r\n\r\n{BODY}{ahead}");
        stream.write_all(request.as_bytes()).await.unwrap();
        rig.until("it waits", |report| report.queued == 1).await;
        drop(stream);
        rig.until("its place is free", |report| report.queued == 0).await;
    }
    rig.until("they are counted", |report| report.failed_total.get("client_left") == Some(&2)).await;
}
