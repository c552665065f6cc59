//! After the first byte: every end is honest, and a drain cuts nothing.

use http::StatusCode;

use crate::support::{EVENTS, Rig, Upstream};

const DIED: &str = "replica_died_mid_stream";

#[tokio::test]
async fn a_stream_whose_replica_dies_ends_with_an_error_event() {
    struct Case {
        name: &'static str,
        last: &'static str,
        end: &'static str,
        separated: bool,
    }
    let cases = [
        Case { name: "the connection ends", last: "data: {}\n\n", end: "", separated: true },
        Case { name: "in the middle of an event", last: "data: {\"te", end: "", separated: false },
        Case { name: "a clean end without [DONE]", last: "data: {}\n\n", end: "0\r\n\r\n", separated: true },
    ];
    for Case { name, last, end, separated } in cases {
        let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
        rig.apply(vec![replica.endpoint("a", 1)]);
        let reply = rig.chat();
        let mut call = replica.call().await;
        call.write(EVENTS).await;
        call.chunk(last).await;
        let mut reply = reply.await.unwrap();
        assert_eq!(reply.next().await.unwrap(), last);
        call.write(end).await;
        drop(call);
        let rest = reply.text().await;
        let event = if separated { rest.as_str() } else { rest.strip_prefix("\n\n").expect(name) };
        let json = event.strip_prefix("data: ").and_then(|event| event.strip_suffix("\n\n")).expect(name);
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(
            (&value["error"]["type"], &value["error"]["code"]),
            (&"upstream_error".into(), &DIED.into())
        );
        let report = rig.until("it is counted", |report| report.failed_total.get(DIED) == Some(&1)).await;
        assert_eq!((report.succeeded_total, report.in_flight_sum()), (0, 0), "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_stream_breaks_when_its_replica_dies() {
    let heads = [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"half",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n6\r\n{\"half\r\n",
    ];
    for head in heads {
        let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
        rig.apply(vec![replica.endpoint("a", 1)]);
        let reply = rig.chat();
        let mut call = replica.call().await;
        call.write(head).await;
        let reply = reply.await.unwrap();
        drop(call);
        reply.whole().await.expect_err("a client must not take half an answer for a whole one");
        rig.until("it is counted", |report| report.failed_total.get(DIED) == Some(&1)).await;
    }
}

#[tokio::test]
async fn a_started_stream_at_a_replica_that_is_gone_ends_with_an_error_event() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let reply = rig.chat();
    let mut call = replica.call().await;
    call.write(EVENTS).await;
    call.chunk("data: {}\n\n").await;
    let reply = reply.await.unwrap();
    // It hangs; only the controller knows that it is gone.
    rig.apply(Vec::new());
    assert!(reply.text().await.contains(DIED));
    call.closed().await;
}

#[tokio::test]
async fn a_draining_replica_finishes_what_it_has_and_gets_nothing_new() {
    let rig = Rig::start().await;
    let (mut old, mut new) = (Upstream::start().await, Upstream::start().await);
    rig.apply(vec![old.endpoint("a", 4)]);
    let (streaming, unanswered) = (rig.chat(), rig.chat());
    let (mut first, second) = (old.call().await, old.call().await);
    first.write(EVENTS).await;
    first.chunk("data: 1\n\n").await;
    rig.apply(vec![old.draining("a")]);
    // No replica is open: it waits, as in a cold start.
    let held = rig.chat();
    rig.until("it waits", |report| report.queued == 1).await;
    rig.apply(vec![old.draining("a"), new.endpoint("b", 4)]);
    new.call().await.stream().await;
    assert_eq!(held.await.unwrap().header("x-forewarm-replica"), "b");
    assert!(!old.has_call(), "nothing new");
    first.chunk("data: 2\n\n").await;
    second.stream().await;
    first.done().await;
    let mut ends = Vec::new();
    for reply in [streaming, unanswered] {
        let reply = reply.await.unwrap();
        assert_eq!(reply.status, StatusCode::OK);
        ends.push(reply.text().await);
    }
    ends.sort();
    assert_eq!(ends, ["data: 1\n\ndata: 2\n\ndata: [DONE]\n\n", "data: {}\n\ndata: [DONE]\n\n"]);
    let report = rig.until("all ended", |report| report.succeeded_total == 3).await;
    assert_eq!((report.retried_total, report.failed_total.len()), (0, 0));
}

#[tokio::test]
async fn of_an_answer_that_breaks_at_once_the_client_has_what_there_was() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    for _ in 0..20 {
        let reply = rig.chat();
        let mut call = replica.call().await;
        call.write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\nhalf")
            .await;
        drop(call);
        let mut reply = reply.await.unwrap();
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.next().await.unwrap(), "half");
        assert!(reply.whole().await.is_err(), "and knows that it is not whole");
    }
    let report = rig.until("all ended", |report| report.in_flight_sum() == 0).await;
    assert_eq!(report.failed_total.get("replica_died_mid_stream"), Some(&20));
}
