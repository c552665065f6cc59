//! What passes, passes byte for byte, and at once.

use proptest::prelude::*;

use crate::support::{BODY, CHAT, EVENTS, Rig, Upstream};

#[tokio::test]
async fn a_stream_is_passed_on_as_it_comes() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 4)]);
    let reply = rig.chat();
    let mut call = replica.call().await;
    assert_eq!(call.body, BODY);
    call.write(EVENTS).await;
    call.chunk("data: {\"n\":1}\n\n").await;
    // Nothing more is sent, and yet it is there: nothing is buffered.
    let mut reply = reply.await.unwrap();
    assert_eq!(reply.next().await.unwrap(), "data: {\"n\":1}\n\n");
    call.chunk("data: {\"n\"").await;
    assert_eq!(reply.next().await.unwrap(), "data: {\"n\"");
    call.chunk(":2}\n\n").await;
    assert_eq!(reply.next().await.unwrap(), ":2}\n\n");
    call.done().await;
    assert_eq!(reply.header("x-forewarm-replica"), "a");
    assert_eq!(reply.header("x-forewarm-cold-start"), "false");
    assert_eq!(reply.header("x-forewarm-accepted"), "true");
    assert!(reply.header("x-forewarm-queue-wait-seconds").parse::<f64>().unwrap() >= 0.0);
    assert_eq!(reply.text().await, "data: [DONE]\n\n");
    let report = rig.until("all done", |report| report.succeeded_total == 1).await;
    assert_eq!((report.in_flight_sum(), report.streamed_events_total), (0, 2));
    assert!(report.failed_total.is_empty());
}

#[tokio::test]
async fn headers_of_one_connection_stay_there_and_the_client_is_named() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 4)]);
    let headers = [
        ("connection", "x-private"),
        ("x-private", "1"),
        ("te", "trailers"),
        ("keep-alive", "timeout=5"),
        ("x-forwarded-for", "192.0.2.7"),
        ("authorization", "Bearer sk-1"),
    ];
    let reply = rig.post("/v1/embeddings?user=1", r#"{"model":"m","input":"x"}"#, &headers);
    let mut call = replica.call().await;
    let head = call.head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/embeddings?user=1 http/1.1\r\n"), "{head}");
    for gone in ["x-private", "te:", "keep-alive", "connection:"] {
        assert!(!head.contains(&format!("\r\n{gone}")), "{gone} in {head}");
    }
    assert!(head.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: bearer sk-1"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}", replica.address)), "{head}");
    call.write(
        "HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\nx-kept: 2\r\ncontent-length: 2\r\n\r\n{}",
    )
    .await;
    let reply = reply.await.unwrap();
    assert_eq!((reply.header("x-hop"), reply.header("x-kept")), ("", "2"));
    assert_eq!(reply.text().await, "{}");
}

#[tokio::test]
async fn whatever_an_engine_answers_passes_and_its_connection_is_used_again() {
    struct Case {
        status: &'static str,
        body: &'static str,
        failed: u64,
    }
    let long = "e".repeat(100_000).leak();
    let cases = [
        Case { status: "200 OK", body: "{\"choices\":[]}", failed: 0 },
        Case { status: "200 OK", body: "", failed: 0 },
        Case { status: "400 Bad Request", body: "{\"error\":{}}", failed: 0 },
        Case { status: "404 Not Found", body: "{\"error\":{}}", failed: 0 },
        Case { status: "422 Unprocessable Content", body: "{}", failed: 0 },
        Case { status: "500 Internal Server Error", body: "it broke", failed: 1 },
        Case { status: "500 Internal Server Error", body: long, failed: 1 },
        Case { status: "503 Service Unavailable", body: "", failed: 1 },
    ];
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let (mut ended, mut failed_so_far) = (0, 0);
    for Case { status, body, failed } in cases {
        let reply = rig.chat();
        replica.call().await.answer(status, body).await;
        let reply = reply.await.unwrap();
        assert_eq!(reply.status.as_str(), &status[..3]);
        assert_eq!(reply.text().await, body, "{status}");
        (ended, failed_so_far) = (ended + 1, failed_so_far + failed);
        let sum = |failed: &std::collections::BTreeMap<String, u64>| failed.values().sum::<u64>();
        let report =
            rig.until("it ended", |report| report.succeeded_total + sum(&report.failed_total) == ended).await;
        assert_eq!(sum(&report.failed_total), failed_so_far, "{status}");
        assert_eq!(report.in_flight_sum(), 0, "{status}");
    }
    assert_eq!(rig.report().retried_total, 0);
}

#[tokio::test]
async fn a_client_that_hangs_up_after_the_last_event_was_served() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let reply = rig.chat();
    let mut call = replica.call().await;
    call.write(EVENTS).await;
    call.chunk("data: [DONE]\n\n").await;
    let mut reply = reply.await.unwrap();
    assert_eq!(reply.next().await.unwrap(), "data: [DONE]\n\n");
    drop(reply);
    let report = rig.until("the slot is free", |report| report.in_flight_sum() == 0).await;
    assert_eq!((report.succeeded_total, report.failed_total.len()), (1, 0));
}

#[tokio::test]
async fn a_stream_that_ends_with_its_connection_is_whole_when_it_said_done() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let reply = rig.chat();
    let events =
        ": a comment\r\n\r\ndata: {\"text\":\"é\\u0000\"}\n\nevent: x\ndata: 1\ndata: 2\n\ndata: [DONE]\n\n";
    let mut call = replica.call().await;
    call.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n").await;
    call.write(events).await;
    drop(call);
    assert_eq!(reply.await.unwrap().text().await, events);
    let report = rig.until("it ended", |report| report.in_flight_sum() == 0).await;
    assert_eq!((report.succeeded_total, report.streamed_events_total), (1, 2));
}

#[tokio::test]
async fn other_streams_need_not_say_done() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let reply = rig.post("/v1/responses", BODY, &[]);
    let mut call = replica.call().await;
    call.write(EVENTS).await;
    call.chunk("event: response.completed\ndata: {}\n\n").await;
    call.write("0\r\n\r\n").await;
    assert_eq!(reply.await.unwrap().text().await, "event: response.completed\ndata: {}\n\n");
    let report = rig.until("it ended", |report| report.in_flight_sum() == 0).await;
    assert_eq!((report.succeeded_total, report.failed_total.len()), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_stream_is_byte_exact_however_it_is_cut(
        payload in prop::collection::vec(any::<u8>(), 1..3_000),
        cuts in prop::collection::vec(1_usize..400, 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
            rig.apply(vec![replica.endpoint("a", 1)]);
            let reply = rig.post(CHAT, BODY, &[]);
            let mut call = replica.call().await;
            call.write(EVENTS).await;
            let mut sent = payload.clone();
            // So that whatever the payload ends with is a line of its own.
            sent.extend_from_slice(b"\n\ndata: [DONE]\n\n");
            let collected = tokio::spawn(async move { reply.await.unwrap().whole().await.unwrap() });
            let mut rest = sent.as_slice();
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                if !now.is_empty() {
                    call.chunk(now).await;
                }
                rest = later;
            }
            if !rest.is_empty() {
                call.chunk(rest).await;
            }
            call.write("0\r\n\r\n").await;
            assert_eq!(collected.await.unwrap(), sent);
            let report = rig.until("it ended", |report| report.in_flight_sum() == 0).await;
            assert_eq!(report.succeeded_total, 1);
        });
    }
}
