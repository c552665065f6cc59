//! What is not let in, and what is told to whom asks for what there is not.

use std::time::Duration;

use forewarm_gateway::{Gateway, GatewayConfig, GatewayError};
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{BODY, CHAT, PATIENCE, Rig, Upstream, config, get};

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    struct Case {
        path: &'static str,
        body: String,
        header: (&'static str, &'static str),
        status: u16,
        code: &'static str,
    }
    let fine = ("x-fine", "1");
    let case =
        |path, body: &str, header, status, code| Case { path, body: body.to_owned(), header, status, code };
    let cases = [
        case(CHAT, r#"{"model":"other"}"#, fine, 404, "model_not_found"),
        case("/nothing", BODY, fine, 404, "not_found"),
        case(CHAT, &"x".repeat(1025), fine, 413, "body_too_large"),
        case(CHAT, BODY, ("x-request-timeout", "soon"), 400, "invalid_timeout"),
        case(CHAT, BODY, ("x-scale-up-timeout", "-1"), 400, "invalid_timeout"),
        case(CHAT, BODY, ("x-scale-up-timeout", "NaN"), 400, "invalid_timeout"),
    ];
    let rig = Rig::with(GatewayConfig { max_body_bytes: 1024, ..config() }).await;
    rig.apply(Vec::new());
    for Case { path, body, header, status, code } in cases {
        let reply = rig.post(path, body, &[header]).await.unwrap();
        assert_eq!(reply.status.as_u16(), status, "{path} {header:?}");
        assert_eq!(reply.error_code().await, code, "{path} {header:?}");
    }
    assert_eq!(rig.report().arrived_total, 0);
}

#[tokio::test]
async fn without_a_plan_clients_are_asked_to_come_again() {
    let rig = Rig::start().await;
    let reply = rig.chat().await.unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(reply.error_code().await, "starting");
}

#[tokio::test]
async fn models_are_those_of_the_plans_even_while_no_replica_serves() {
    let rig = Rig::start().await;
    rig.apply(Vec::new());
    assert!(get(rig.address, "/v1/models").await.text().await.contains(r#""id":"m""#));
    assert_eq!(get(rig.address, "/v1/models/m").await.status, StatusCode::OK);
    assert_eq!(get(rig.address, "/v1/models/x").await.status, StatusCode::NOT_FOUND);
    // Whatever the body is, a gateway with one scaler knows where it belongs.
    let mut replica = Upstream::start().await;
    rig.apply(vec![replica.endpoint("a", 1)]);
    let reply = rig.post("/v1/audio/transcriptions", "--boundary\r\n", &[]);
    replica.call().await.answer("200 OK", "{}").await;
    assert_eq!(reply.await.unwrap().text().await, "{}");
}

#[tokio::test]
async fn who_sends_too_slowly_is_let_go() {
    let rig = Rig::with(GatewayConfig { read_timeout: Duration::from_millis(50), ..config() }).await;
    rig.apply(Vec::new());
    let cases = [
        ("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-never", ""),
        ("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 99\r\n\r\n{", "HTTP/1.1 408"),
    ];
    for (sent, answer) in cases {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("let go").unwrap();
        assert!(String::from_utf8_lossy(&read).starts_with(answer), "{sent:?}");
    }
}

#[tokio::test]
async fn who_sends_no_request_is_told_what_is_wrong_and_hears_it() {
    let rig = Rig::start().await;
    let first = "GET /v1/models HTTP/1.1\r\nhost: g\r\n";
    let cases = [
        (format!("{first}x: {}", "x".repeat(256 << 10)), "HTTP/1.1 431", "headers_too_large"),
        (format!("{first}{}\r\n", "x: 1\r\n".repeat(100)), "HTTP/1.1 431", "headers_too_large"),
        (format!("no HTTP\r\n{}", "x".repeat(256 << 10)), "HTTP/1.1 400", "request_unreadable"),
    ];
    for (sent, status, code) in cases {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        // More than was read before it was answered.
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut read = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut read)).await.expect("let go").unwrap();
        assert!(read.starts_with(status) && read.contains(code), "{:.50}: {read}", sent);
    }
}

#[tokio::test]
async fn bodies_on_their_way_in_are_bounded_together() {
    let rig = Rig::with(GatewayConfig { max_receiving_bytes: 1500, ..config() }).await;
    rig.apply(Vec::new());
    // Announces much and sends some: it holds what it sent.
    let mut slow = TcpStream::connect(rig.address).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 2000\r\nexpect: 100-continue\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    // The gateway reads the body from here on.
    let mut read = [0; 25];
    slow.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"HTTP/1.1 100 Continue\r\n\r\n");
    slow.write_all(&[b' '; 1400]).await.unwrap();
    let body = format!(r#"{{"model":"m","prompt":"{}"}}"#, "x".repeat(600));
    // It may take a moment until the bytes have come; until then there is room, and a request is held.
    let refused = loop {
        let before = rig.report().queued;
        let mut reply = rig.post(CHAT, body.clone(), &[]);
        tokio::select! {
            reply = &mut reply => break reply.unwrap(),
            _ = rig.until("it is held", |report| report.queued > before) => {}
        }
    };
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(refused.error_code().await, "gateway_busy");
    drop(slow);
    // Room again, once the gateway has seen it go.
    loop {
        let before = rig.report().queued;
        let mut reply = rig.post(CHAT, body.clone(), &[]);
        tokio::select! {
            reply = &mut reply => assert_eq!(reply.unwrap().error_code().await, "gateway_busy"),
            _ = rig.until("it is held", |report| report.queued > before) => break,
        }
    }
}

#[tokio::test]
async fn a_port_in_use_and_an_impossible_speed_are_named() {
    let rig = Rig::start().await;
    let error = Gateway::bind(GatewayConfig::new(rig.address)).await.unwrap_err();
    assert!(matches!(error, GatewayError::Listen { address, .. } if address == rig.address));
    assert!(error.to_string().contains(&rig.address.to_string()), "{error}");
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = Gateway::bind(GatewayConfig { speed, ..config() }).await.unwrap_err();
        assert!(matches!(error, GatewayError::Speed(_)), "{speed}: {error}");
    }
}
