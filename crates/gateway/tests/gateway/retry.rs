//! Until the first byte, a replica's failure is nobody's but its own.

use std::net::Ipv4Addr;

use http::StatusCode;
use tokio::net::TcpListener;

use crate::support::{Call, Rig, Upstream};

const LOADING: &str = r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;

/// How a replica fails a request.
#[derive(Clone, Copy, Debug)]
enum Failing {
    Ends,
    Resets,
    EndsAfterHead,
    EmptyStream,
    EmptyStreamUntilClose,
    Loads,
    ShutsDown,
    IsBusy,
}

impl Failing {
    async fn fail(self, mut call: Call) {
        match self {
            Failing::Ends => drop(call),
            Failing::Resets => call.reset(),
            Failing::EndsAfterHead => {
                call.write(crate::support::EVENTS).await;
                drop(call);
            }
            // Well-formed, and still no answer: it has not one event.
            Failing::EmptyStream => call.write(format!("{}0\r\n\r\n", crate::support::EVENTS)).await,
            Failing::EmptyStreamUntilClose => {
                call.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
                    .await;
            }
            Failing::Loads => call.answer("503 Service Unavailable", LOADING).await,
            Failing::ShutsDown => {
                call.answer("500 Internal Server Error", "cannot schedule new futures after shutdown").await;
            }
            Failing::IsBusy => {
                let busy = "The engine is currently busy and cannot accept new requests.";
                call.answer("503 Service Unavailable", busy).await;
            }
        }
    }
}

#[tokio::test]
async fn a_request_is_sent_to_another_replica_when_one_fails_before_the_first_byte() {
    let all = [
        Failing::Ends,
        Failing::Resets,
        Failing::EndsAfterHead,
        Failing::EmptyStream,
        Failing::EmptyStreamUntilClose,
        Failing::Loads,
        Failing::ShutsDown,
        Failing::IsBusy,
    ];
    for failing in all {
        let rig = Rig::start().await;
        let (mut bad, mut good) = (Upstream::start().await, Upstream::start().await);
        rig.apply(vec![bad.endpoint("a", 1), good.endpoint("b", 1)]);
        let reply = rig.chat();
        failing.fail(bad.call().await).await;
        good.call().await.stream().await;
        let reply = reply.await.unwrap();
        assert_eq!((reply.status, reply.header("x-forewarm-replica")), (StatusCode::OK, "b"), "{failing:?}");
        let report = rig.until("it ended", |report| report.succeeded_total == 1).await;
        assert_eq!((report.retried_total, report.failed_total.len()), (1, 0), "{failing:?}");
    }
}

#[tokio::test]
async fn a_replica_that_refuses_connections_gets_nothing_until_it_listens() {
    let rig = Rig::start().await;
    let (mut replica, mut other) = (Upstream::start().await, Upstream::start().await);
    replica.close().await;
    rig.apply(vec![replica.endpoint("a", 8), other.endpoint("b", 1)]);
    let replies = rig.queue(3).await;
    // One at a time by `b`; `a` refused the first of them, and nobody was sent there again.
    for _ in 0..3 {
        other.call().await.stream().await;
    }
    for reply in replies {
        assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    }
    // Alone, it makes the pool cold: a request waits for it, and has it as soon as it listens.
    let address = replica.address;
    rig.apply(vec![replica.endpoint("a", 8)]);
    let reply = rig.chat();
    rig.until("it waits", |report| report.queued == 1).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, address.port())).await.unwrap();
    let mut connections = Vec::new();
    // The probe, and the request.
    while connections.len() < 2 {
        connections.push(listener.accept().await.unwrap());
    }
    let report = rig.report();
    assert_eq!((report.queued, report.in_flight_sum(), report.failed_total.len()), (0, 1, 0));
    drop(reply);
}

#[tokio::test]
async fn a_request_that_no_replica_bears_is_given_up_in_the_end() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let mut reply = rig.chat();
    let mut tries = 0;
    let reply = loop {
        tokio::select! {
            call = replica.call() => { drop(call); tries += 1; }
            reply = &mut reply => break reply.unwrap(),
        }
    };
    assert_eq!(tries, 6);
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    assert_eq!(reply.header("x-forewarm-accepted"), "true");
    assert_eq!(reply.error_code().await, "upstream_error");
    let report = rig.report();
    assert_eq!((report.retried_total, report.in_flight_sum()), (5, 0));
    assert_eq!(report.failed_total.get("upstream_error"), Some(&1));
}

#[tokio::test]
async fn a_replica_that_loads_costs_no_attempts() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let reply = rig.chat();
    for _ in 0..3 {
        replica.call().await.answer("503 Service Unavailable", LOADING).await;
    }
    replica.call().await.stream().await;
    assert_eq!(reply.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_request_that_was_sent_back_is_in_front_of_the_others() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let _first = rig.post("/v1/completions", r#"{"model":"m","n":1}"#, &[]);
    let call = replica.call().await;
    let _second = rig.post("/v1/completions", r#"{"model":"m","n":2}"#, &[]);
    rig.until("it waits", |report| report.queued == 1).await;
    drop(call);
    let again = replica.call().await;
    assert_eq!(again.body, r#"{"model":"m","n":1}"#);
    again.answer("200 OK", "{}").await;
    assert_eq!(replica.call().await.body, r#"{"model":"m","n":2}"#);
}

#[tokio::test]
async fn what_hangs_at_a_replica_that_is_gone_is_served_elsewhere() {
    let rig = Rig::start().await;
    let (mut hanging, mut other) = (Upstream::start().await, Upstream::start().await);
    rig.apply(vec![hanging.endpoint("a", 1)]);
    let reply = rig.chat();
    let call = hanging.call().await;
    rig.apply(vec![other.endpoint("b", 1)]);
    call.closed().await;
    other.call().await.stream().await;
    assert_eq!(reply.await.unwrap().header("x-forewarm-replica"), "b");
    let report = rig.until("it ended", |report| report.succeeded_total == 1).await;
    assert_eq!((report.retried_total, report.failed_total.len()), (1, 0));
}
