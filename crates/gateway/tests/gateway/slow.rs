//! Clients that stop taking their answer, and large bodies.

use std::time::Duration;

use forewarm_gateway::GatewayConfig;
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::support::{BODY, CHAT, Call, EVENTS, PATIENCE, Rig, Upstream, config};

fn impatient() -> GatewayConfig {
    GatewayConfig { send_timeout: Duration::from_millis(100), ..config() }
}

/// Sends events until the gateway hangs up.
pub(crate) async fn flood(mut call: Call) {
    let event = format!("data: {}\n\n", "x".repeat(60_000));
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    while call.try_write(chunk.as_bytes()).await {}
}

fn request() -> String {
    format!("POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len())
}

#[tokio::test]
async fn who_stops_reading_gives_the_slot_back() {
    let (rig, mut replica) = (Rig::with(impatient()).await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stuck = socket.connect(rig.address).await.unwrap();
    stuck.write_all(request().as_bytes()).await.unwrap();
    // Returns when the gateway has closed the connection to the replica: it generates no more.
    let mut call = replica.call().await;
    call.write(EVENTS).await;
    tokio::time::timeout(PATIENCE, flood(call)).await.expect("let go");
    let report = rig.until("it was counted", |report| report.in_flight_sum() == 0).await;
    assert_eq!(report.failed_total.get("client_too_slow"), Some(&1), "{report:?}");
    // The slot serves somebody else.
    let reply = rig.chat();
    replica.call().await.stream().await;
    assert_eq!(reply.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn who_reads_slowly_but_reads_is_served() {
    // Longer than any pause that a busy machine makes in it.
    let config = GatewayConfig { send_timeout: Duration::from_secs(5), ..config() };
    let (rig, mut replica) = (Rig::with(config).await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let mut reply = tokio::spawn({
        let chat = rig.chat();
        async move { chat.await.unwrap() }
    });
    let mut call = replica.call().await;
    call.write(EVENTS).await;
    for _ in 0..100 {
        call.chunk(format!("data: {}\n\n", "x".repeat(60_000))).await;
        if let Ok(Ok(mut taken)) = tokio::time::timeout(Duration::ZERO, &mut reply).await {
            // From now on each piece is taken after it was sent.
            let mut bytes = 0;
            while bytes < 1_000_000 {
                bytes += taken.next().await.unwrap().len();
                call.chunk(format!("data: {}\n\n", "x".repeat(60_000))).await;
            }
            call.done().await;
            assert!(taken.text().await.ends_with("data: [DONE]\n\n"));
            rig.until("it succeeded", |report| report.succeeded_total == 1).await;
            return;
        }
    }
    panic!("no answer");
}

#[tokio::test]
async fn thirty_mebibytes_of_pictures_arrive_whole_however_they_are_framed() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    let mut plan = crate::support::plan(vec![replica.endpoint("a", 1)]);
    plan.queue.max_bytes = 64 << 20;
    assert!(rig.handle.apply(&plan));
    let body = "0123456789abcdef".repeat((30 << 20) / 16);
    let reply = rig.post(
        "/v1/audio/transcriptions",
        body.clone(),
        &[("content-type", "multipart/form-data; boundary=b")],
    );
    let call = replica.call().await;
    assert!(call.body == body, "{} bytes", call.body.len());
    assert!(call.head.contains("\r\ncontent-type: multipart/form-data; boundary=b"), "{}", call.head);
    call.answer("200 OK", "{}").await;
    assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    // In chunks, with a trailer, which belongs to this connection.
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let sent = tokio::spawn(async move {
        let head = "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for piece in body.as_bytes().chunks(100_000) {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
            stream.write_all(piece).await.unwrap();
            stream.write_all(b"\r\n").await.unwrap();
        }
        stream.write_all(b"0\r\nx-trailer: 1\r\n\r\n").await.unwrap();
        let mut read = String::new();
        stream.read_to_string(&mut read).await.unwrap();
        read
    });
    let call = replica.call().await;
    assert_eq!(call.body.len(), 30 << 20);
    assert!(call.head.contains("\r\ncontent-length: 31457280"), "{}", call.head);
    assert!(!call.head.contains("x-trailer") && !call.head.contains("transfer-encoding"), "{}", call.head);
    call.answer("200 OK", "{}").await;
    let read = sent.await.unwrap();
    assert!(read.starts_with("HTTP/1.1 200 OK\r\n"), "{read}");
}
