//! What is asked, what is answered and who shows which key is nobody's business: not even at the finest level does a
//! log have it. A program of its own, because it listens to everything that is logged.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use forewarm_core::{
    ReplicaId, ScalerId,
    pool::{Concurrency, Endpoint, PoolPlan, QueueLimits, Routing, Tenants},
};
use forewarm_gateway::{Gateway, GatewayConfig, new_key};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{filter::LevelFilter, util::SubscriberInitExt};

const PROMPT: &str = "my-most-secret-question";
const ANSWER: &str = "its-most-secret-answer";
const UPSTREAM_KEY: &str = "sk-upstream-secret";
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A replica: streams an answer, fails with what it was asked in its error, or dies in the middle, by turns.
async fn replica(listener: TcpListener) {
    for turn in 0.. {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let mut read = Vec::new();
        while !read.ends_with(b"}") {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let event = format!("data: {{\"text\":\"{ANSWER}\"}}\n\n");
        let error = format!("{{\"error\":\"cannot read {PROMPT}\"}}");
        let length = error.len();
        let answer = match turn % 3 {
            0 => format!("{head}{event}data: [DONE]\n\n"),
            1 => format!("HTTP/1.1 500 Oops\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{error}"),
            _ => format!("{head}{event}"),
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn no_prompt_no_answer_and_no_key_is_logged_at_any_level() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish()
        .try_init()
        .unwrap();

    let folder = tempfile::tempdir().unwrap();
    let (key, hash) = new_key().unwrap();
    let keys = folder.path().join("keys.yaml");
    let upstream = "upstreamKeys: [{scaler: s, keyFile: upstream.key}]";
    std::fs::write(
        &keys,
        format!("tenants: [{{name: t, keys: [\"{hash}\"], tokensPerMinute: 9000}}]\n{upstream}"),
    )
    .unwrap();
    std::fs::write(folder.path().join("upstream.key"), UPSTREAM_KEY).unwrap();
    let config = GatewayConfig { keys: Some(keys), ..GatewayConfig::new("127.0.0.1:0".parse().unwrap()) };
    let gateway = Gateway::bind(config).await.unwrap();
    let (address, handle) = (gateway.local_addr().unwrap(), gateway.handle());
    let stop = CancellationToken::new();
    let running = tokio::spawn(gateway.run(stop.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint {
        replica: ReplicaId::from("a"),
        address: listener.local_addr().unwrap().to_string(),
        max_concurrency: 4,
        kv_tokens: None,
        draining: false,
    };
    let queue = QueueLimits {
        max_requests: 10,
        max_bytes: 1 << 20,
        timeout: PATIENCE,
        cold_start_timeout: PATIENCE,
        ttft_objective: None,
        tenants: Tenants::default(),
    };
    let scaler = ScalerId::from("s");
    assert!(handle.apply(&PoolPlan {
        scaler,
        models: vec!["m".to_owned()],
        endpoints: vec![endpoint],
        ready_in_seconds: None,
        queue,
        concurrency: Concurrency::default(),
        routing: Routing::default(),
    }));
    tokio::spawn(replica(listener));

    let ask = async |model: &str, key: &str, http2: bool| {
        let body = format!("{{\"model\":\"{model}\",\"prompt\":\"{PROMPT}\"}}");
        let request = Request::post(format!("http://g/v1/completions?user={PROMPT}"))
            .header("authorization", format!("Bearer {key}"))
            .header("host", "g")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let sent = async {
            if http2 {
                let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
                let (mut sender, connection) = shaken.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await.unwrap()
            } else {
                let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await.unwrap()
            }
        };
        let response = tokio::time::timeout(PATIENCE, sent).await.expect("an answer in time");
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    };
    for http2 in [false, true] {
        let (status, answer) = ask("m", &key, http2).await;
        assert_eq!(status, StatusCode::OK);
        assert!(String::from_utf8_lossy(&answer).contains(ANSWER));
        assert_eq!(ask("m", &key, http2).await.0, StatusCode::INTERNAL_SERVER_ERROR);
        let (_, cut) = ask("m", &key, http2).await;
        assert!(String::from_utf8_lossy(&cut).contains("replica_died_mid_stream"));
        assert_eq!(ask("other", &key, http2).await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask("m", "fw-somebody-elses-secret", http2).await.0, StatusCode::UNAUTHORIZED);
    }
    stop.cancel();
    tokio::time::timeout(PATIENCE, running).await.expect("it ends").unwrap();

    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("TRACE") && logged.contains("forewarm_gateway"), "everything is heard");
    for secret in [PROMPT, ANSWER, UPSTREAM_KEY, key.as_str(), "fw-somebody-elses-secret"] {
        let line = logged.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}
