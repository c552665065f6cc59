//! Every way in which a request can end, against a real server that plays it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::time::Duration;

use forewarm_load::{Account, FailureCause, LoadConfig, LoadError, LoadReport, run};
use forewarm_workload::{Request, Workload};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
const TOKEN: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";

async fn read_request(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !bytes.ends_with(b"true}") && !bytes.ends_with(b"false}") {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the request ended early");
        bytes.extend_from_slice(&buffer[..count]);
    }
}

/// A server that answers every request with these bytes, then closes or goes silent.
async fn server(answer: String, hang: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                read_request(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
                if hang {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    address
}

async fn load(target: String, deadline: Duration) -> LoadReport {
    let config =
        LoadConfig { target, model: "m".into(), speed: 10.0, stream: true, deadline, full_prompts: false };
    let request = |second| Request {
        arrival: Duration::from_secs(second),
        input_tokens: 10,
        output_tokens: 2,
        cached_tokens: 0,
    };
    let workload = Workload { requests: vec![request(0), request(1)], notes: vec![] };
    let (progress, _) = watch::channel(Default::default());
    run(config, &workload, progress, CancellationToken::new()).await.unwrap()
}

#[tokio::test]
async fn every_ending_is_counted_as_what_it_is() {
    let json = |status: &str, headers: &str, code: &str| {
        let body = format!("{{\"error\":{{\"message\":\"m\",\"code\":\"{code}\"}}}}");
        format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let failed = |cause| Account { failed: 2, failed_by_cause: [(cause, 2)].into(), ..Account::default() };
    let accepted = "x-forewarm-accepted: true\r\n";
    let died = "data: {\"error\":{\"code\":\"replica_died_mid_stream\"}}\n\n";
    let cases = [
        (
            "a whole stream",
            format!("{STREAM}{TOKEN}{TOKEN}data: [DONE]\n\n"),
            Account { succeeded: 2, ..Account::default() },
        ),
        (
            "a refusal",
            json("429 Too Many Requests", "", "queue_full"),
            Account { refused: 2, ..Account::default() },
        ),
        (
            "no capacity",
            json("503 Service Unavailable", "", "starting"),
            Account { refused: 2, ..Account::default() },
        ),
        ("too late", json("504 Gateway Timeout", accepted, "deadline"), failed(FailureCause::Deadline)),
        (
            "stopping",
            json("503 Service Unavailable", accepted, "gateway_died"),
            failed(FailureCause::GatewayDied),
        ),
        (
            "an engine's error",
            json("500 Internal Server Error", accepted, "x"),
            failed(FailureCause::UpstreamError),
        ),
        (
            "a wrong request",
            json("404 Not Found", "", "model_not_found"),
            failed(FailureCause::UpstreamError),
        ),
        ("an error event", format!("{STREAM}{TOKEN}{died}"), failed(FailureCause::ReplicaDiedMidStream)),
        ("a stream cut short", format!("{STREAM}{TOKEN}"), Account { lost: 2, ..Account::default() }),
        ("no byte at all", String::new(), failed(FailureCause::GatewayDied)),
    ];
    for (name, answer, expected) in cases {
        let report = load(server(answer, false).await, Duration::from_secs(20)).await;
        assert_eq!(report.requests, Account { sent: 2, ..expected }, "{name}");
        assert_eq!(report.requests.ended(), report.requests.sent, "{name}");
    }
}

#[tokio::test]
async fn a_hang_is_lost_and_a_closed_port_is_a_dead_gateway() {
    let report = load(server(format!("{STREAM}{TOKEN}"), true).await, Duration::from_millis(300)).await;
    assert_eq!(report.requests.lost, 2);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap().to_string();
    drop(listener);
    let report = load(closed, Duration::from_secs(5)).await;
    assert_eq!(report.requests.failed_by_cause, [(FailureCause::GatewayDied, 2)].into());
}

#[tokio::test]
async fn a_request_whose_answer_never_came_is_not_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        let chunk = format!("{TOKEN}data: [DONE]\n\n");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length:";
        stream.write_all(format!("{head} {}\r\n\r\n{chunk}", chunk.len()).as_bytes()).await.unwrap();
        read_request(&mut stream).await;
        // Closes the connection; the listener stays, so that a second try would be heard.
        listener
    });
    let report = load(address, Duration::from_secs(20)).await;
    let listener = server.await.unwrap();
    let expected = Account {
        sent: 2,
        succeeded: 1,
        failed: 1,
        failed_by_cause: [(FailureCause::GatewayDied, 1)].into(),
        ..Account::default()
    };
    assert_eq!(report.requests, expected);
    let again = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(again.is_err(), "the unanswered request came a second time");
}

#[tokio::test]
async fn a_speed_that_time_cannot_be_divided_by_is_refused() {
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let config = LoadConfig {
            target: "127.0.0.1:1".into(),
            model: "m".into(),
            speed,
            stream: true,
            deadline: Duration::from_secs(1),
            full_prompts: false,
        };
        let request =
            Request { arrival: Duration::ZERO, input_tokens: 1, output_tokens: 1, cached_tokens: 0 };
        let workload = Workload { requests: vec![request], notes: vec![] };
        let (progress, _) = watch::channel(Default::default());
        let error = run(config, &workload, progress, CancellationToken::new()).await.unwrap_err();
        assert!(matches!(error, LoadError::Speed(_)), "speed {speed}: {error}");
    }
}
