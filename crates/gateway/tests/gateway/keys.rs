//! API keys: who may ask, and how much.

use std::{path::PathBuf, time::Duration};

use forewarm_gateway::{Gateway, GatewayConfig, GatewayError, new_key};
use http::StatusCode;
use tempfile::TempDir;
use tokio::time::advance;

use crate::support::{BODY, CHAT, EVENTS, PATIENCE, Rig, StoppedClock, Upstream, config, get};

/// A folder with a keys file.
struct KeysFile {
    folder: TempDir,
    path: PathBuf,
}

impl KeysFile {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        let file = Self { folder, path };
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }

    fn config(&self) -> GatewayConfig {
        GatewayConfig { keys: Some(self.path.clone()), ..config() }
    }
}

/// A key, its header, and a file with one tenant, `t`, who has it.
fn tenant(quota: &str) -> (String, KeysFile) {
    let (key, hash) = new_key().unwrap();
    let file = KeysFile::new(&format!("tenants:\n- name: t\n  keys: [\"{hash}\"]\n{quota}"));
    (format!("Bearer {key}"), file)
}

#[tokio::test]
async fn who_shows_no_key_or_a_wrong_one_is_not_let_in() {
    let (bearer, file) = tenant("");
    let rig = Rig::with(file.config()).await;
    rig.apply(Vec::new());
    // Not a digit: all but the last byte are right.
    let wrong = format!("{}x", &bearer[..bearer.len() - 1]);
    let cases = [
        (None, "missing_api_key"),
        (Some(("authorization", "Bearer ")), "missing_api_key"),
        (Some(("authorization", "Basic dTpw")), "missing_api_key"),
        (Some(("authorization", "Bearer sk-1")), "invalid_api_key"),
        (Some(("api-key", "sk-1")), "invalid_api_key"),
        (Some(("authorization", wrong.as_str())), "invalid_api_key"),
    ];
    for (header, code) in cases {
        let reply = rig.post(CHAT, BODY, header.as_slice()).await.unwrap();
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{header:?}");
        assert_eq!(reply.header("www-authenticate"), "Bearer");
        assert_eq!(reply.error_code().await, code, "{header:?}");
    }
    // What there is, is not told to everybody; that the gateway lives, is.
    assert_eq!(get(rig.address, "/v1/models").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(get(rig.address, "/v1/models/m").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(get(rig.address, "/health").await.status, StatusCode::OK);
    assert_eq!(rig.report().arrived_total, 0);
}

#[tokio::test]
async fn the_clients_key_ends_at_the_gateway() {
    let (bearer, file) = tenant("upstreamKeys:\n- {scaler: s, keyFile: upstream.key}\n");
    std::fs::write(file.folder.path().join("upstream.key"), "sk-replica\n").unwrap();
    let (rig, mut replica) = (Rig::with(file.config()).await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let key = bearer.strip_prefix("Bearer ").unwrap();
    for (name, value) in [("authorization", bearer.as_str()), ("api-key", key), ("x-api-key", key)] {
        let reply = rig.post(CHAT, BODY, &[(name, value)]);
        let call = replica.call().await;
        assert!(!call.head.contains(key), "{}", call.head);
        assert!(call.head.contains("\r\nauthorization: Bearer sk-replica"), "{}", call.head);
        call.answer("200 OK", "{}").await;
        assert_eq!(reply.await.unwrap().text().await, "{}", "{name}");
    }
    // Without one for the replicas, they are shown none.
    let (bearer, file) = tenant("");
    let rig = Rig::with(file.config()).await;
    rig.apply(vec![replica.endpoint("a", 1)]);
    let reply = rig.post(CHAT, BODY, &[("authorization", &bearer)]);
    let call = replica.call().await;
    assert!(!call.head.contains("authorization"), "{}", call.head);
    call.answer("200 OK", "{}").await;
    reply.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_a_minutes_worth_are_told_when_to_come_again() {
    let clock = StoppedClock::new();
    let (bearer, file) = tenant("  requestsPerMinute: 2\n");
    let (rig, mut replica) = (Rig::with(file.config()).await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let header = [("authorization", bearer.as_str())];
    for remaining in ["1", "0"] {
        let reply = rig.post(CHAT, BODY, &header);
        replica.call().await.answer("200 OK", "{}").await;
        let reply = reply.await.unwrap();
        let shown =
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"].map(|name| reply.header(name));
        assert_eq!(shown, ["2", remaining]);
        assert_eq!(reply.header("x-ratelimit-limit-tokens"), "", "there is no such quota");
    }
    let reply = rig.post(CHAT, BODY, &header).await.unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "30"));
    assert_eq!(reply.header("x-ratelimit-reset-requests"), "1m0s");
    assert_eq!(reply.error_code().await, "rate_limit_exceeded");
    // The honest moment: not half a second before.
    advance(Duration::from_millis(29_500)).await;
    let early = rig.post(CHAT, BODY, &header).await.unwrap();
    assert_eq!((early.status, early.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
    advance(Duration::from_millis(500)).await;
    let reply = rig.post(CHAT, BODY, &header);
    replica.call().await.answer("200 OK", "{}").await;
    assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    // What a quota turns away was no arrival: more replicas could not have served it.
    assert_eq!((rig.report().arrived_total, rig.report().refused_total), (3, 0));
    let metrics = get(rig.control, "/metrics").await.text().await;
    for line in [r#"{tenant="t",outcome="accepted"} 3"#, r#"{tenant="t",outcome="requests"} 2"#] {
        assert!(metrics.contains(&format!("forewarm_gateway_quota_requests_total{line}\n")), "{metrics}");
    }
    drop(clock);
}

#[tokio::test(start_paused = true)]
async fn tokens_count_by_an_estimate_and_then_by_what_came() {
    let clock = StoppedClock::new();
    let (bearer, file) = tenant("  tokensPerMinute: 600\n");
    let (rig, mut replica) = (Rig::with(file.config()).await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let (header, body) =
        ([("authorization", bearer.as_str())], format!("{BODY}{}", " ".repeat(400 - BODY.len())));
    let remaining = async |reply: crate::support::Reply| {
        let shown = reply.header("x-ratelimit-remaining-tokens").to_owned();
        drop(reply.text().await);
        shown
    };
    // 400 bytes are taken for 100 tokens.
    let reply = rig.post(CHAT, body.clone(), &header);
    let mut call = replica.call().await;
    call.write(EVENTS).await;
    for _ in 0..50 {
        call.chunk("data: {}\n\n").await;
    }
    call.done().await;
    assert_eq!(remaining(reply.await.unwrap()).await, "500");
    // 50 events; then an answer that says what it cost: 20 for the prompt instead of 100, and 530.
    let reply = rig.post(CHAT, body.clone(), &header);
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":530}}"#;
    replica.call().await.answer("200 OK", usage).await;
    assert_eq!(remaining(reply.await.unwrap()).await, "350");
    // 600 - 150 - 550 = -100: 200 more are needed, at 10 a second.
    let refused = rig.post(CHAT, body.clone(), &header).await.unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "20"));
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), "0");
    let text = refused.text().await;
    assert!(text.contains(r#""type":"tokens""#), "{text}");
    advance(Duration::from_secs(20)).await;
    // An error costs nothing.
    for _ in 0..2 {
        let reply = rig.post(CHAT, body.clone(), &header);
        replica.call().await.answer("400 Bad Request", "{}").await;
        assert_eq!(reply.await.unwrap().whole().await.unwrap(), "{}");
    }
    let metrics = get(rig.control, "/metrics").await.text().await;
    assert!(metrics.contains("forewarm_gateway_quota_tokens_total{tenant=\"t\"} 700\n"), "{metrics}");
    drop(clock);
}

#[tokio::test]
async fn more_requests_at_a_time_than_a_tenant_may_have_are_refused_until_one_ends() {
    let (bearer, file) = tenant("  maxConcurrent: 1\n");
    let (rig, mut replica) = (Rig::with(file.config()).await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 4)]);
    let header = [("authorization", bearer.as_str())];
    let first = rig.post(CHAT, BODY, &header);
    let mut call = replica.call().await;
    call.write(EVENTS).await;
    call.chunk("data: {}\n\n").await;
    let first = first.await.unwrap();
    let refused = rig.post(CHAT, BODY, &header).await.unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
    call.done().await;
    drop(first.text().await);
    // Once the gateway has seen the end of it.
    let call = loop {
        let mut again = rig.post(CHAT, BODY, &header);
        tokio::select! {
            reply = &mut again => assert_eq!(reply.unwrap().status, StatusCode::TOO_MANY_REQUESTS),
            call = replica.next() => break call,
        }
    };
    // It leaves before its answer: its place is free again.
    drop(call);
}

#[tokio::test]
async fn a_key_says_whose_turn_it_is_and_a_client_cannot_say_more() {
    let [(batch, batch_hash), (chat, chat_hash)] = [(); 2].map(|()| new_key().unwrap());
    let file = KeysFile::new(&format!(
        "tenants:\n- {{name: batch, priority: low, keys: [\"{batch_hash}\"]}}\n- {{name: chat, keys: [\"{chat_hash}\"]}}"
    ));
    let (rig, mut replica) = (Rig::with(file.config()).await, Upstream::start().await);
    rig.apply(vec![replica.endpoint("a", 1)]);
    let ask = |key: &str, name: &str| {
        let bearer = format!("Bearer {key}");
        rig.post(CHAT, BODY, &[("authorization", &bearer), ("x-forewarm-priority", "high"), ("x-name", name)])
    };
    let first = ask(&batch, "first");
    let busy = replica.call().await;
    let mut waiting = Vec::new();
    for (queued, key, name) in [(1, &batch, "batch"), (2, &chat, "chat")] {
        waiting.push(ask(key, name));
        rig.until("it waits", |report| report.queued == queued).await;
    }
    busy.answer("200 OK", "{}").await;
    for name in ["chat", "batch"] {
        let call = replica.call().await;
        assert!(call.head.contains(&format!("\r\nx-name: {name}")), "{}", call.head);
        call.answer("200 OK", "{}").await;
    }
    for reply in waiting.into_iter().chain([first]) {
        assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    }
}

#[tokio::test]
async fn another_file_is_taken_and_a_bad_one_changes_nothing() {
    let (bearer, file) = tenant("");
    let rig = Rig::with(file.config()).await;
    rig.apply(Vec::new());
    let status = async |bearer: &str| {
        let request = http::Request::get("/v1/models").header("host", "g").header("authorization", bearer);
        crate::support::send(rig.address, request.body(http_body_util::Full::default()).unwrap()).await.status
    };
    assert_eq!(status(&bearer).await, StatusCode::OK);
    file.write("tenants: [{name: t, keys: [oops]}]");
    rig.reloader.reload();
    let (key, hash) = new_key().unwrap();
    let other = format!("Bearer {key}");
    assert_eq!(status(&bearer).await, StatusCode::OK, "the old keys stay");
    assert_eq!(status(&other).await, StatusCode::UNAUTHORIZED);
    // Seen without being told.
    file.write(&format!(r#"{{"tenants": [{{"name": "u", "keys": ["{hash}"]}}]}}"#));
    let taken = async { while status(&other).await != StatusCode::OK {} };
    tokio::time::timeout(PATIENCE, taken).await.expect("the new key");
    assert_eq!(status(&bearer).await, StatusCode::UNAUTHORIZED, "it was taken away");
}

#[tokio::test]
async fn what_is_wrong_with_a_keys_file_is_named_and_no_key_is_shown() {
    let (_, hash) = new_key().unwrap();
    let other = new_key().unwrap().1;
    let twice =
        format!("tenants: [{{name: a, keys: [\"{hash}\"]}}, {{name: b, keys: [\"{other}\", \"{hash}\"]}}]");
    let names = format!("tenants: [{{name: a, keys: [\"{hash}\"]}}, {{name: a, keys: []}}]");
    let cases = [
        ("tenants: [{name: a, keys: [fw-secret]}]", "`tenants[0].keys[0]` is no hash"),
        ("tenants: [{name: a, keys: [\"sha256:fw-secret\"]}]", "`tenants[0].keys[0]` is no hash"),
        ("tenants: [{name: a b, keys: []}]", "`tenants[0].name` is \"a b\""),
        ("tenants: [{name: a, keys: [], weight: 0}]", "`tenants[0].weight` is 0"),
        (
            "tenants: [{name: a, keys: [], priority: 7}]",
            "`tenants[0].priority`: unknown variant `7`, expected one of high, normal, low",
        ),
        ("tenants: [{name: a, keys: [], requestsPerMinute: 0}]", "`tenants[0].requestsPerMinute` is 0"),
        ("tenants: [{name: a, keys: [], requestPerMinute: 1}]", "requestPerMinute"),
        ("tenants: [{name: a, keys: fw-secret}]", "`tenants[0].keys`"),
        ("tenants: [", "line 1"),
        (twice.as_str(), "`tenants[1].keys[1]` is a key of `a` already"),
        (names.as_str(), "`tenants[1].name: a` is there twice"),
        ("tenants: []\nupstreamKeys: [{scaler: s, keyFile: none}]", "the `keyFile` of `s`"),
        ("tenant: []", "tenant"),
    ];
    for (text, expected) in cases {
        let file = KeysFile::new(text);
        let error = Gateway::bind(file.config()).await.unwrap_err();
        assert!(matches!(error, GatewayError::Keys(_)), "{text}");
        let said = error.to_string();
        assert!(said.contains(expected) && said.contains("keys.yaml"), "{text}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
}
