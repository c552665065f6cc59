//! Clients that speak HTTP/2, over TLS and without.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use forewarm_gateway::GatewayConfig;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    support::{BODY, CHAT, Call, EVENTS, PATIENCE, Rig, Upstream, config},
    tls::{Authority, connect},
};

type Sender = SendRequest<Full<Bytes>>;

async fn shake_hands(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

async fn plain(address: SocketAddr) -> Sender {
    shake_hands(TcpStream::connect(address).await.unwrap()).await
}

fn chat() -> Request<Full<Bytes>> {
    Request::post(format!("http://api.example:8443{CHAT}")).body(Full::from(BODY)).unwrap()
}

async fn ask(sender: &Sender, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let mut sender = sender.clone();
    tokio::time::timeout(PATIENCE, sender.send_request(request)).await.expect("an answer in time").unwrap()
}

/// The next bytes; `None` at an honest end, which may be an empty frame.
async fn next(response: &mut Response<Incoming>) -> Option<Bytes> {
    loop {
        let frame =
            tokio::time::timeout(PATIENCE, response.body_mut().frame()).await.expect("more in time")?;
        let data = frame.unwrap().into_data().unwrap();
        if !data.is_empty() {
            return Some(data);
        }
    }
}

#[tokio::test]
async fn a_stream_comes_byte_for_byte_and_at_once() {
    let authority = Authority::new();
    let config = || GatewayConfig { tls: Some(authority.sign("g", "gateway")), ..config() };
    let tls = Rig::with(config()).await;
    let clear = Rig::start().await;
    let stream = connect(&authority.client(&["h2"], None), tls.address, "gateway").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    for (rig, sender, proto) in
        [(&tls, shake_hands(stream).await, "https"), (&clear, plain(clear.address).await, "http")]
    {
        let mut replica = Upstream::start().await;
        rig.apply(vec![replica.endpoint("a", 2)]);
        let asked = tokio::spawn(async move { ask(&sender, chat()).await });
        let mut call = replica.call().await;
        let head = &call.head;
        assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
        for line in [format!("x-forwarded-proto: {proto}"), "x-forwarded-host: api.example:8443".to_owned()] {
            assert!(head.contains(&format!("\r\n{line}")), "{line} in {head}");
        }
        assert!(head.contains(&format!("\r\nhost: {}", replica.address)), "{head}");
        assert_eq!(call.body, BODY);
        call.write(EVENTS).await;
        let mut pieces = vec!["data: {\"a\":\"é\"}\n\n", "data: {", "}\r\n\r\n", ": comment\n\n"].into_iter();
        call.chunk(pieces.next().unwrap()).await;
        let mut response = asked.await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(next(&mut response).await.unwrap(), "data: {\"a\":\"é\"}\n\n");
        for piece in pieces {
            call.chunk(piece).await;
            assert_eq!(next(&mut response).await.unwrap(), piece, "each as it comes");
        }
        call.done().await;
        assert_eq!(next(&mut response).await.unwrap(), "data: [DONE]\n\n");
        assert_eq!(next(&mut response).await, None);
        rig.until("it succeeded", |report| report.succeeded_total == 1).await;
    }
}

#[tokio::test]
async fn many_requests_share_a_connection_and_each_has_its_own_end() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 3)]);
    let sender = plain(rig.address).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let sender = sender.clone();
        let asked = tokio::spawn(async move { ask(&sender, chat()).await });
        let mut call = replica.call().await;
        call.write(EVENTS).await;
        call.chunk("data: {}\n\n").await;
        let mut response = asked.await.unwrap();
        assert_eq!(next(&mut response).await.unwrap(), "data: {}\n\n");
        open.push((call, response));
    }
    // One client hangs up: its replica stops, the others go on.
    let (call, response) = open.pop().unwrap();
    drop(response);
    call.closed().await;
    rig.until("it was counted", |report| report.failed_total.get("client_left") == Some(&1)).await;
    // One replica dies: its client is told, the other goes on.
    let (call, mut response) = open.pop().unwrap();
    call.reset();
    let told = next(&mut response).await.unwrap();
    assert!(String::from_utf8_lossy(&told).contains("replica_died_mid_stream"), "{told:?}");
    let (call, mut response) = open.pop().unwrap();
    call.done().await;
    assert_eq!(next(&mut response).await.unwrap(), "data: [DONE]\n\n");
    rig.until("it succeeded", |report| report.succeeded_total == 1 && report.in_flight_sum() == 0).await;
}

#[tokio::test]
async fn who_stops_taking_one_stream_gives_its_slot_back_and_keeps_the_others() {
    let config = GatewayConfig { send_timeout: Duration::from_millis(100), ..config() };
    let (rig, mut replica) = (Rig::with(config).await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 2)]);
    let sender = plain(rig.address).await;
    let begin = async |call: &mut Call| {
        call.write(EVENTS).await;
        call.chunk("data: {}\n\n").await;
    };
    let mut open = Vec::new();
    for _ in 0..2 {
        let sender = sender.clone();
        let asked = tokio::spawn(async move { ask(&sender, chat()).await });
        let mut call = replica.call().await;
        begin(&mut call).await;
        open.push((call, asked.await.unwrap()));
    }
    // Nobody takes this one: its window fills up, and then the gateway's own buffers.
    let (call, stuck) = open.pop().unwrap();
    tokio::time::timeout(PATIENCE, crate::slow::flood(call)).await.expect("let go");
    let report = rig.until("it was counted", |report| report.in_flight_sum() == 1).await;
    assert_eq!(report.failed_total.get("client_too_slow"), Some(&1), "{report:?}");
    let (call, mut response) = open.pop().unwrap();
    assert_eq!(next(&mut response).await.unwrap(), "data: {}\n\n");
    call.done().await;
    assert_eq!(next(&mut response).await.unwrap(), "data: [DONE]\n\n");
    // When it is taken up after all, it is no whole answer.
    let rest = tokio::time::timeout(PATIENCE, stuck.into_body().collect()).await.expect("an end in time");
    rest.expect_err("it was cut");
}

#[tokio::test]
async fn a_gateway_that_stops_says_goodbye_and_finishes() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let sender = plain(rig.address).await;
    let asked = tokio::spawn({
        let sender = sender.clone();
        async move { ask(&sender, chat()).await }
    });
    let mut call = replica.call().await;
    call.write(EVENTS).await;
    call.chunk("data: {}\n\n").await;
    let mut response = asked.await.unwrap();
    rig.stop.cancel();
    assert_eq!(next(&mut response).await.unwrap(), "data: {}\n\n");
    call.done().await;
    assert_eq!(next(&mut response).await.unwrap(), "data: [DONE]\n\n");
    assert_eq!(next(&mut response).await, None);
    tokio::time::timeout(PATIENCE, rig.running).await.expect("it ends").unwrap();
    drop(sender);
}

#[tokio::test]
async fn a_request_can_smuggle_nothing_into_http1() {
    let (rig, mut replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let sender = plain(rig.address).await;
    // A length that is not the body's: the stream is an error before a replica hears of it.
    let lie = Request::post(format!("http://g{CHAT}")).header("content-length", "5");
    let body = format!("{BODY}GET /admin HTTP/1.1\r\n\r\n");
    let mut once = sender.clone();
    let refused = once.send_request(lie.body(Full::from(body)).unwrap()).await;
    assert!(!refused.is_ok_and(|response| response.status().is_success()));
    assert!(!replica.has_call());
    // Frames are not headers: what looks like HTTP/1.1 in a value or a path cannot be there.
    for raw in ["x: a\r\nhost: evil", "a\nb"] {
        http::HeaderValue::try_from(raw).unwrap_err();
    }
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // Literal headers, not indexed: `:method` POST, `:scheme` http, `:path` and `x` with a line end in them.
    let literal = |name: &str, value: &str| {
        let mut field = vec![0, name.len() as u8];
        field.extend_from_slice(name.as_bytes());
        field.push(value.len() as u8);
        field.extend_from_slice(value.as_bytes());
        field
    };
    let head = [
        literal(":method", "POST"),
        literal(":scheme", "http"),
        literal(":authority", "g"),
        literal(":path", CHAT),
        literal("x", "1\r\nhost: evil\r\n\r\nGET /admin HTTP/1.1"),
    ]
    .concat();
    let mut frame = vec![0, 0, head.len() as u8, 1, 0x05, 0, 0, 0, 1];
    frame.extend_from_slice(&head);
    stream.write_all(&frame).await.unwrap();
    // A stream error (RST_STREAM, type 3) or the end of the connection (GOAWAY, type 7); never a request.
    let mut kinds = Vec::new();
    let read = async {
        let mut header = [0; 9];
        while stream.read_exact(&mut header).await.is_ok() {
            kinds.push(header[3]);
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; length as usize];
            if stream.read_exact(&mut payload).await.is_err() || matches!(header[3], 3 | 7) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("an answer in time");
    assert!(kinds.last().is_some_and(|kind| matches!(kind, 3 | 7)), "{kinds:?}");
    assert!(!replica.has_call());
    // The same connection still serves others.
    let asked = tokio::spawn(async move { ask(&sender, chat()).await });
    replica.call().await.answer("200 OK", "{}").await;
    assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn who_resets_without_end_is_cut_off() {
    let (rig, replica) = (Rig::start().await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut flood = Vec::new();
    for stream in (1_u32..4_000).step_by(2) {
        // HEADERS: `:method GET`, `:scheme http`, `:path /`, of the static table; then RST_STREAM.
        flood.extend_from_slice(&[0, 0, 3, 1, 0x05]);
        flood.extend_from_slice(&stream.to_be_bytes());
        flood.extend_from_slice(&[0x82, 0x86, 0x84]);
        flood.extend_from_slice(&[0, 0, 4, 3, 0]);
        flood.extend_from_slice(&stream.to_be_bytes());
        flood.extend_from_slice(&8_u32.to_be_bytes());
    }
    // It may be cut off while it still writes.
    drop(stream.write_all(&flood).await);
    let mut read = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("cut off"));
    assert_eq!(rig.report().arrived_total, 0);
}
