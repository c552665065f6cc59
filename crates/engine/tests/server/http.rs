//! The engine over real connections: API shapes, admission, disconnects, cold starts and both ways to stop.

use crate::support::{Client, fast, frozen, get, metric, on_free_port, request, start, wait_for_metric};
use forewarm_engine::cold_start::{ColdStart, ColdStartStage, SecondsDistribution, Stage};
use forewarm_engine::{Engine, EngineConfig, EngineError, LoadingBehaviour};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const RUNNING: &str = "vllm:num_requests_running{";
const WAITING: &str = "vllm:num_requests_waiting{";

fn chat(max_tokens: u32, stream: bool) -> String {
    json!({
        "model": "tiny", "messages": [{"role": "user", "content": "12345678"}], "max_tokens": max_tokens,
        "stream": stream, "stream_options": {"include_usage": true},
    })
    .to_string()
}

fn events(body: &str) -> Vec<String> {
    assert!(body.ends_with("\n\n"), "{body}");
    body.trim_end().split("\n\n").map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_chat_streams_in_vllms_shape() {
    let (engine, _shutdown) = start(fast(2)).await;
    let answer = request(engine.address(), "POST", CHAT, "", &chat(5, true)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/event-stream; charset=utf-8"), "{}", answer.head);
    let mut events = events(&answer.body);
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let chunks: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let tokens = chunks.iter().filter(|chunk| chunk["choices"][0]["delta"]["content"] == " token").count();
    assert_eq!(tokens, 5);
    let usage = chunks.last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], json!({"prompt_tokens": 2, "total_tokens": 7, "completion_tokens": 5}));
    let reasons: Vec<&Value> =
        chunks.iter().map(|c| &c["choices"][0]["finish_reason"]).filter(|r| !r.is_null()).collect();
    assert_eq!(reasons, ["length"]);
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "length");
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"])
    );
}

#[tokio::test]
async fn answers_without_streaming_are_whole_and_keep_the_connection() {
    let (engine, _shutdown) = start(fast(2)).await;
    let mut client = Client::connect(engine.address()).await;
    client.send("POST", CHAT, "x-forewarm-input-tokens: 100\r\n", &chat(3, false)).await;
    let document = client.answer().await.json();
    assert_eq!(document["object"], "chat.completion");
    assert_eq!(document["choices"][0]["message"]["content"], " token token token");
    assert_eq!(document["usage"], json!({"prompt_tokens": 100, "total_tokens": 103, "completion_tokens": 3}));
    client
        .send("POST", TEXT, "", &json!({"model": "tiny", "prompt": [1, 2, 3], "max_tokens": 2}).to_string())
        .await;
    let document = client.answer().await.json();
    assert_eq!(document["object"], "text_completion");
    assert_eq!(document["choices"][0]["text"], " token token");
    assert_eq!(document["usage"]["prompt_tokens"], 3);
    assert_eq!(metric(engine.address(), "vllm:prompt_tokens_total{").await, 103.0);
    assert_eq!(metric(engine.address(), "vllm:generation_tokens_total{").await, 5.0);
    let succeeded = "vllm:request_success_total{engine=\"0\",finished_reason=\"length\"";
    assert_eq!(metric(engine.address(), succeeded).await, 2.0);
}

#[tokio::test]
async fn modelled_times_do_not_depend_on_the_speed() {
    let (engine, _shutdown) = start(fast(1)).await;
    let headers = "x-forewarm-input-tokens: 10000\r\n";
    assert_eq!(request(engine.address(), "POST", CHAT, headers, &chat(100, true)).await.status, 200);
    for (series, seconds) in [
        ("vllm:time_to_first_token_seconds_sum{", 2.0),
        ("vllm:inter_token_latency_seconds_sum{", 99.0 * 0.03),
        ("vllm:e2e_request_latency_seconds_sum{", 5.0),
        ("vllm:request_queue_time_seconds_sum{", 0.0),
    ] {
        let found = metric(engine.address(), series).await;
        assert!((found - seconds).abs() < 1e-6, "{series} {found}");
    }
    assert!(metric(engine.address(), "forewarm_engine_timer_lag_seconds").await >= 0.0);
}

#[tokio::test]
async fn plain_routes_answer_as_vllm_does() {
    let (engine, _shutdown) = start(fast(1)).await;
    for (method, path, status, body) in [
        ("GET", "/health", 200, Some("")),
        ("GET", "/ping", 200, Some("")),
        ("GET", "/version", 200, Some(r#"{"version":"0.32.0"}"#)),
        ("GET", "/v1/models", 200, None),
        ("GET", "/nothing", 404, Some(r#"{"detail":"Not Found"}"#)),
        ("GET", CHAT, 405, Some(r#"{"detail":"Method Not Allowed"}"#)),
        ("POST", "/metrics", 405, None),
    ] {
        let answer = request(engine.address(), method, path, "", "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        if let Some(body) = body {
            assert_eq!(answer.body, body, "{method} {path}");
        }
    }
    assert_eq!(get(engine.address(), "/v1/models").await.json()["data"][0]["id"], "tiny");
}

#[tokio::test]
async fn bad_requests_are_told_which_field() {
    let (engine, _shutdown) = start(fast(1)).await;
    let message = json!([{"role": "user", "content": "hello"}]);
    let long = u32::MAX;
    for (path, headers, body, status, param) in [
        (CHAT, "", "{".to_owned(), 400, Value::Null),
        (CHAT, "", "[]".to_owned(), 400, Value::Null),
        (CHAT, "", json!({"model": "other", "messages": message}).to_string(), 404, json!("model")),
        (CHAT, "", json!({"model": 7, "messages": message}).to_string(), 400, json!("model")),
        (CHAT, "", json!({"model": "tiny"}).to_string(), 400, json!("messages")),
        (CHAT, "", json!({"messages": []}).to_string(), 400, json!("messages")),
        (CHAT, "", json!({"messages": message, "max_tokens": 0}).to_string(), 400, json!("max_tokens")),
        (CHAT, "", json!({"messages": message, "max_tokens": "9"}).to_string(), 400, json!("max_tokens")),
        (CHAT, "", json!({"messages": message, "max_tokens": long}).to_string(), 400, json!("max_tokens")),
        (CHAT, "", json!({"messages": message, "stream": 1}).to_string(), 400, json!("stream")),
        (CHAT, "", json!({"messages": message, "n": 2}).to_string(), 400, json!("n")),
        (TEXT, "", json!({"model": "tiny"}).to_string(), 400, json!("prompt")),
        (TEXT, "", json!({"prompt": ["a", "b"]}).to_string(), 400, json!("prompt")),
        (
            CHAT,
            "x-forewarm-input-tokens: 99999999\r\n",
            json!({"messages": message}).to_string(),
            400,
            json!("messages"),
        ),
        (
            CHAT,
            "x-forewarm-input-tokens: many\r\n",
            json!({"messages": message}).to_string(),
            400,
            json!("x-forewarm-input-tokens"),
        ),
    ] {
        let answer = request(engine.address(), "POST", path, headers, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        let error = &answer.json()["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!(status), &param), "{body}");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn bodies_and_headers_are_bounded() {
    let (engine, _shutdown) = start(fast(1)).await;
    let mut client = Client::connect(engine.address()).await;
    let nine_mebibytes = "expect: 100-continue\r\n";
    client.send_head("POST", CHAT, nine_mebibytes, 9 * 1024 * 1024).await;
    assert!(client.receive_until("\r\n\r\n").await.contains(" 413 "));
    let headers: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = request(engine.address(), "GET", "/health", &headers, "").await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot() {
    let (engine, _shutdown) = start(frozen(1)).await;
    let address = engine.address();
    for stream in [true, false] {
        let mut first = Client::connect(address).await;
        first.send("POST", CHAT, "", &chat(100, stream)).await;
        wait_for_metric(address, RUNNING, 1.0).await;
        let mut second = Client::connect(address).await;
        second.send("POST", CHAT, "", &chat(100, stream)).await;
        wait_for_metric(address, WAITING, 1.0).await;
        drop(first);
        wait_for_metric(address, WAITING, 0.0).await;
        assert_eq!(metric(address, RUNNING).await, 1.0);
        drop(second);
        wait_for_metric(address, RUNNING, 0.0).await;
    }
    // As in vLLM, only streams that were left count as aborted.
    let aborted = "vllm:request_success_total{engine=\"0\",finished_reason=\"abort\"";
    assert_eq!(metric(address, aborted).await, 2.0);
}

#[tokio::test]
async fn a_stream_is_answered_before_its_first_token() {
    let (engine, _shutdown) = start(frozen(1)).await;
    let mut client = Client::connect(engine.address()).await;
    client.send("POST", CHAT, "", &chat(100, true)).await;
    assert!(client.receive_until("\r\n\r\n").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn the_admission_limit_counts_running_and_waiting() {
    let (engine, _shutdown) = start(EngineConfig { max_num_queued_reqs: Some(3), ..frozen(1) }).await;
    let address = engine.address();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(address).await;
        client.send("POST", CHAT, "", &chat(100, true)).await;
        client.receive_until("200 OK").await;
        clients.push(client);
    }
    for _ in 0..2 {
        let answer = request(address, "POST", CHAT, "", &chat(100, true)).await;
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("The engine is currently busy"), "{}", answer.body);
        assert!(!answer.head.contains("retry-after"));
    }
    assert_eq!(metric(address, WAITING).await, 2.0);
    let rejected = "vllm:admission_rejections_total{model_name=\"tiny\",reason=\"max_num_queued_reqs\"}";
    assert_eq!(metric(address, rejected).await, 2.0);
    assert_eq!(get(address, "/health").await.status, 200);
    clients.pop();
    wait_for_metric(address, WAITING, 1.0).await;
    let mut client = Client::connect(address).await;
    client.send("POST", CHAT, "", &chat(100, true)).await;
    client.receive_until("200 OK").await;
}

#[tokio::test]
async fn many_streams_at_a_time_all_end() {
    let profile = "llama3.1-8b-a100-tp4".parse().unwrap();
    let (engine, _shutdown) = start(EngineConfig { profile, speed: 200.0, ..fast(1) }).await;
    let address = engine.address();
    let streams: Vec<_> = (1..=60_u32)
        .map(|tokens| {
            tokio::spawn(
                async move { (tokens, request(address, "POST", CHAT, "", &chat(tokens, true)).await) },
            )
        })
        .collect();
    for stream in streams {
        let (tokens, answer) = stream.await.unwrap();
        assert_eq!(answer.body.matches(r#""content":" token""#).count(), tokens as usize);
        assert!(answer.body.ends_with("data: [DONE]\n\n"));
    }
    assert_eq!(metric(address, "vllm:kv_cache_usage_perc{").await, 0.0);
    assert_eq!(metric(address, "vllm:e2e_request_latency_seconds_count{").await, 60.0);
}

#[tokio::test]
async fn a_killed_engine_leaves_streams_hanging_until_their_clients_go() {
    let (engine, shutdown) = start(frozen(1)).await;
    let address = engine.address();
    let mut streaming = Client::connect(address).await;
    streaming.send("POST", CHAT, "", &chat(100, true)).await;
    streaming.receive_until("200 OK").await;
    shutdown.cancel();
    // The listener closes soon; until then new requests fail.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let mut stopped = std::pin::pin!(engine.stopped());
    tokio::select! {
        biased;
        () = &mut stopped => panic!("the engine went although a client was still there"),
        () = streaming.receive_end() => panic!("the stream ended"),
        () = async { for _ in 0..1000 { tokio::task::yield_now().await } } => {}
    }
    drop(streaming);
    stopped.await;
}

#[tokio::test]
async fn a_shutdown_timeout_lets_everything_in_flight_finish() {
    let config = EngineConfig { shutdown_timeout_seconds: 86_400.0, speed: 20.0, ..fast(1) };
    let (engine, shutdown) = start(config).await;
    let address = engine.address();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(address).await;
        client.send("POST", CHAT, "", &chat(200, true)).await;
        client.receive_until("200 OK").await;
        clients.push(client);
    }
    let mut late = Client::connect(address).await;
    shutdown.cancel();
    let refused = loop {
        late.send("POST", CHAT, "", &chat(1, false)).await;
        let answer = late.answer().await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(refused.status, 500);
    assert!(refused.body.contains("cannot schedule new futures after shutdown"), "{}", refused.body);
    assert_eq!(get(address, "/health").await.status, 200);
    for client in &mut clients {
        let body = client.answer().await.body;
        assert!(body.ends_with("data: [DONE]\n\n"));
        assert_eq!(body.matches(r#""content":" token""#).count(), 200);
    }
    engine.stopped().await;
    assert!(TcpStream::connect(address).await.is_err());
}

fn one_stage(seconds: f64, failure_probability: f64) -> ColdStart {
    let seconds = SecondsDistribution::Constant(seconds);
    ColdStart { stages: vec![ColdStartStage { stage: Stage::Load, seconds, failure_probability }], seed: 1 }
}

/// A port that was free a moment ago, for engines whose address must be known before they are ready.
async fn free_address() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_starting_engine_refuses_connections_or_says_it_is_loading() {
    for loading in [LoadingBehaviour::Vllm, LoadingBehaviour::LlamaCpp] {
        let listen = free_address().await;
        let config = EngineConfig { listen, loading, cold_start: one_stage(3600.0, 0.0), ..fast(1) };
        let config = EngineConfig { speed: 1.0, ..config };
        let shutdown = CancellationToken::new();
        let starting = tokio::spawn(Engine::start(config, shutdown.clone()));
        match loading {
            LoadingBehaviour::Vllm => {
                tokio::task::yield_now().await;
                assert!(TcpStream::connect(listen).await.is_err());
            }
            LoadingBehaviour::LlamaCpp => {
                while TcpStream::connect(listen).await.is_err() {
                    tokio::task::yield_now().await;
                }
                for path in ["/health", "/metrics", "/v1/models"] {
                    let answer = get(listen, path).await;
                    assert_eq!(answer.status, 503);
                    let loading =
                        json!({"message": "Loading model", "type": "unavailable_error", "code": 503});
                    assert_eq!(answer.json()["error"], loading);
                }
            }
        }
        shutdown.cancel();
        assert!(matches!(starting.await.unwrap(), Err(EngineError::StoppedWhileStarting)));
    }
}

#[tokio::test]
async fn stages_are_reported_and_the_engine_becomes_ready() {
    let config = on_free_port(EngineConfig { cold_start: one_stage(12.5, 0.0), ..fast(1) });
    let mut reports = Vec::new();
    let engine = Engine::start_reporting(config, CancellationToken::new(), |report| reports.push(report));
    let engine = engine.await.unwrap();
    assert_eq!(serde_json::to_string(&reports[0]).unwrap(), r#"{"stage":"load","seconds":12.5}"#);
    assert_eq!((reports[1].stage, reports[1].address), ("ready", Some(engine.address())));
    assert_eq!(get(engine.address(), "/health").await.status, 200);
}

#[tokio::test]
async fn a_cold_start_can_fail_with_a_reason() {
    let config = on_free_port(EngineConfig { cold_start: one_stage(30.0, 1.0), ..fast(1) });
    let error = forewarm_engine::run(config, CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "the cold start failed in stage `load` after 30 modelled seconds");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (engine, _shutdown) = start(fast(1)).await;
    let config = EngineConfig { listen: engine.address(), ..fast(1) };
    let error = Engine::start(config, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains(&engine.address().port().to_string()), "{error}");
    assert!(matches!(error, EngineError::PortInUse { .. }));
}

#[tokio::test]
async fn a_dropped_engine_breaks_its_connections() {
    let (engine, _shutdown) = start(frozen(1)).await;
    let mut client = Client::connect(engine.address()).await;
    client.send("POST", CHAT, "", &chat(100, true)).await;
    client.receive_until("200 OK").await;
    drop(engine);
    client.receive_end().await;
}
