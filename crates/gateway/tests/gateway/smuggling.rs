//! Requests that two servers could read differently: the gateway refuses them, or passes on what it understood itself.

use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{BODY, CHAT, PATIENCE, Rig, Upstream};

/// Sends bytes, and reads all that is answered until the gateway hangs up.
async fn exchange(rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    // It may be cut off while it still writes.
    drop(stream.write_all(bytes).await);
    let mut read = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("an end in time"));
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_reaches_no_replica() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 8)]);
    let length = BODY.len();
    let chunked = format!("{length:x}\r\n{BODY}\r\n0\r\n\r\n");
    let post = "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n";
    let smuggled = "GET /admin HTTP/1.1\r\nhost: g\r\n\r\n";
    let cases = [
        ("two lengths", format!("{post}content-length: {length}\r\ncontent-length: 5\r\n\r\n{BODY}")),
        ("a list of lengths", format!("{post}content-length: {length}, 5\r\n\r\n{BODY}")),
        ("a length with a sign", format!("{post}content-length: +{length}\r\n\r\n{BODY}")),
        ("a length in hexadecimal", format!("{post}content-length: 0x{length:x}\r\n\r\n{BODY}")),
        ("a length that overflows", format!("{post}content-length: 99999999999999999999999\r\n\r\n{BODY}")),
        (
            "a length beside chunks that is none",
            format!("{post}content-length: x\r\ntransfer-encoding: chunked\r\n\r\n{chunked}"),
        ),
        ("two hosts", format!("{post}host: h\r\ncontent-length: {length}\r\n\r\n{BODY}")),
        ("gzip before chunked", format!("{post}transfer-encoding: gzip, chunked\r\n\r\n{chunked}")),
        ("a coding that is not chunked", format!("{post}transfer-encoding: gzip\r\n\r\n{BODY}")),
        ("chunked, but not last", format!("{post}transfer-encoding: chunked, gzip\r\n\r\n{chunked}")),
        (
            "chunked in HTTP/1.0",
            format!("POST /v1/chat/completions HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n{chunked}"),
        ),
        ("a space before the colon", format!("{post}content-length : {length}\r\n\r\n{BODY}")),
        ("a space in a name", format!("{post}x y: 1\r\ncontent-length: {length}\r\n\r\n{BODY}")),
        (
            "a folded line",
            format!("{post}x: 1\r\n content-length: 0\r\ncontent-length: {length}\r\n\r\n{BODY}"),
        ),
        ("a zero byte", format!("{post}x: a\0b\r\ncontent-length: {length}\r\n\r\n{BODY}")),
        ("a bare CR", format!("{post}x: a\rcontent-length: 0\r\ncontent-length: {length}\r\n\r\n{BODY}")),
        (
            "a chunk with a negative size",
            format!("{post}transfer-encoding: chunked\r\n\r\n-5\r\n{BODY}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk with a size that overflows",
            format!("{post}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{BODY}"),
        ),
        (
            "a chunk without its end",
            format!("{post}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{BODY}0\r\n\r\n"),
        ),
        (
            "a chunk extension without end",
            format!(
                "{post}transfer-encoding: chunked\r\n\r\n{length:x};{}\r\n{BODY}\r\n0\r\n\r\n",
                "x".repeat(100_000)
            ),
        ),
        (
            "a tunnel to a path",
            format!("CONNECT {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-length: {length}\r\n\r\n{BODY}"),
        ),
        (
            "an unknown version",
            format!("POST /v1/chat/completions HTTP/3.0\r\ncontent-length: {length}\r\n\r\n{BODY}"),
        ),
    ];
    for (what, bytes) in cases {
        let bytes = format!("{bytes}{smuggled}");
        let answer = tokio::select! {
            call = replica.next() => panic!("{what}: {}\n\n{}", call.head, call.body),
            answer = exchange(&rig, bytes.as_bytes()) => answer,
        };
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{what}: {answer}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{what}: {answer}");
    }
    assert_eq!(rig.report().in_flight_sum(), 0);
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_passed_on_and_ends_the_connection() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let length = BODY.len();
    let bytes = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
         {length:x}\r\n{BODY}\r\n0\r\n\r\nPOST /v1/smuggled HTTP/1.1\r\nhost: g\r\ncontent-length: 0\r\n\r\n"
    );
    let (answer, ()) = tokio::join!(exchange(&rig, bytes.as_bytes()), async {
        if let Ok(call) = tokio::time::timeout(PATIENCE, replica.next()).await {
            // The chunks count, as RFC 9112 has it; the replica sees one length, and it is true.
            assert!(call.head.contains(&format!("\r\ncontent-length: {length}")), "{}", call.head);
            assert!(!call.head.contains("transfer-encoding"), "{}", call.head);
            assert_eq!(call.body, BODY);
            call.answer("200 OK", "{}").await;
        }
    });
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "what follows is nobody's request: {answer}");
}

#[tokio::test]
async fn lines_that_end_in_a_bare_newline_are_passed_on_as_they_should_be() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let length = BODY.len();
    let bare = format!(
        "POST /v1/chat/completions HTTP/1.1\nhost: g\nconnection: close\nx-more: 1\ncontent-length: {length}\n\n{BODY}"
    );
    let (answer, head) = tokio::join!(exchange(&rig, bare.as_bytes()), async {
        let call = replica.call().await;
        let head = call.head.clone();
        call.answer("200 OK", "{}").await;
        head
    });
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(head.contains("\r\nx-more: 1\r\n"), "{head}");
    assert_eq!(head.matches('\n').count(), head.matches("\r\n").count(), "{head:?}");
}

#[tokio::test]
async fn the_gateway_is_no_proxy_to_elsewhere() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let connect = exchange(
        &rig,
        b"CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(connect.starts_with("HTTP/1.1 404"), "{connect}");
    // A whole URI is read as its path here; no other host is asked, or named to the replica as its own.
    let length = BODY.len();
    let whole = format!(
        "POST http://evil.example/v1/chat/completions HTTP/1.1\r\nhost: other.example\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{BODY}"
    );
    let (answer, head) = tokio::join!(exchange(&rig, whole.as_bytes()), async {
        let call = replica.call().await;
        let head = call.head.clone();
        call.answer("302 Found", "").await;
        head
    });
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}", replica.address)), "{head}");
    // A redirection is the client's to follow.
    assert!(answer.starts_with("HTTP/1.1 302 Found"), "{answer}");
    assert!(!replica.has_call());
}

#[tokio::test]
async fn an_upgrade_is_not_passed_on() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let headers =
        [("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")];
    let reply = rig.post("/v1/chat/completions", BODY, &headers);
    let call = replica.call().await;
    for gone in ["upgrade", "http2-settings", "connection:"] {
        assert!(!call.head.contains(gone), "{gone} in {}", call.head);
    }
    call.answer("200 OK", "{}").await;
    assert_eq!(reply.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn an_early_answer_is_heard_while_the_body_is_still_sent() {
    let (rig, _replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(Vec::new());
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 100000000\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("an end in time"));
    let answer = String::from_utf8_lossy(&read);
    assert!(answer.starts_with("HTTP/1.1 413"), "it is told before it sends anything: {answer}");
}
