//! Prometheus queries against scripted answers.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    routing::get,
};
use forewarm_control::{Clock, ports::SignalSource};
use forewarm_core::{Missing, Reading, Signal};
use forewarm_manifest::signal::{Basic, Credential, HttpAccess, PrometheusSignal};
use forewarm_signals::prometheus::{MAX_BODY_BYTES, PrometheusSource, QueryError};
use tokio::net::TcpListener;

type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// Serves one answer and remembers what it was asked, and by whom.
async fn server(status: StatusCode, body: String) -> (String, Asked) {
    let asked = Asked::default();
    let answer = move |State(asked): State<Asked>, uri: Uri, headers: HeaderMap| async move {
        let authorization =
            headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
        asked.lock().expect("not poisoned").push((uri.to_string(), authorization));
        (status, body)
    };
    let app = Router::new().fallback(get(answer)).with_state(Arc::clone(&asked));
    (serve(app).await, asked)
}

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn query(server_address: String) -> PrometheusSignal {
    PrometheusSignal::new(server_address, "rate(http_requests_total{job=\"vllm\"}[2m])")
}

fn source(query: PrometheusSignal) -> Result<PrometheusSource, QueryError> {
    PrometheusSource::new(query, Duration::from_secs(30), Clock::start(1.0))
}

async fn read(query: PrometheusSignal) -> Signal {
    source(query).expect("a source").read(&[]).await
}

/// A file with a secret in it, as one is mounted into a container.
fn secret(folder: &tempfile::TempDir, text: &str) -> Credential {
    let from_file = folder.path().join(text);
    std::fs::write(&from_file, format!("{text}\n")).expect("written");
    Credential::File { from_file }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

fn vector(result: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#)
}

fn failure(signal: Signal) -> String {
    let Reading::Missing(Missing::Failed(reason)) = signal.reading else { panic!("{signal:?}") };
    reason
}

#[tokio::test]
async fn each_shape_of_an_answer_has_one_meaning() {
    let value = |total| Reading::Value { total, per_replica: BTreeMap::new() };
    let at = now();
    let scalar = format!(r#"{{"status":"success","data":{{"resultType":"scalar","result":[{at},"7"]}}}}"#);
    for (body, expected) in [
        (vector(&format!(r#"{{"metric":{{"job":"vllm"}},"value":[{at},"7.5"]}}"#)), value(7.5)),
        (scalar, value(7.0)),
        (vector(""), Reading::Missing(Missing::Absent)),
    ] {
        let (address, _) = server(StatusCode::OK, body.clone()).await;
        assert_eq!(read(query(address)).await.reading, expected, "{body}");
    }
    let (address, _) = server(StatusCode::OK, vector("")).await;
    let asked_for = PrometheusSignal { ignore_null_values: true, ..query(address) };
    assert_eq!(read(asked_for).await.reading, value(0.0), "nothing is 0 where that was asked for");
}

#[tokio::test]
async fn every_failure_says_what_would_be_right() {
    let two = vector(r#"{"metric":{"pod":"a"},"value":[1,"1"]},{"metric":{"pod":"b"},"value":[1,"2"]}"#);
    let bad_data = r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error: unexpected end"}"#;
    let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    let histogram = vector(r#"{"metric":{},"histogram":[1,{}]}"#);
    let long = " ".repeat(MAX_BODY_BYTES + 1);
    for (status, body, parts) in [
        (200, two.as_str(), &["2 series", "`sum(rate(http_requests_total{job=\"vllm\"}[2m]))`"][..]),
        (400, bad_data, &["bad_data", "1:5: parse error: unexpected end"]),
        (200, &vector(r#"{"metric":{},"value":[1,"NaN"]}"#), &["NaN"]),
        (200, &vector(r#"{"metric":{},"value":[1,"+Inf"]}"#), &["inf"]),
        (200, matrix, &["matrix", "instant vector"]),
        (200, &histogram, &["native histogram"]),
        (502, "<html>Bad Gateway</html>", &["HTTP 502"]),
        (200, "<html>Log in</html>", &["not Prometheus' JSON"]),
        (200, &long, &["longer than 1048576 bytes"]),
    ] {
        let (address, _) = server(StatusCode::from_u16(status).expect("a status"), body.to_owned()).await;
        let reason = failure(read(query(address)).await);
        for part in parts {
            assert!(reason.contains(part), "no `{part}` in: {reason}");
        }
    }
}

#[tokio::test]
async fn one_series_for_each_replica_by_its_label() {
    let body = vector(
        r#"{"metric":{"pod":"a","engine":"0"},"value":[1,"1"]},{"metric":{"pod":"a","engine":"1"},"value":[1,"2"]},
           {"metric":{"pod":"b"},"value":[1,"4"]}"#,
    );
    let (address, _) = server(StatusCode::OK, body).await;
    let by = |label: &str| PrometheusSignal {
        per_replica_label: Some(label.to_owned()),
        ..query(address.clone())
    };
    let per_replica = BTreeMap::from([("a".into(), 3.0), ("b".into(), 4.0)]);
    assert_eq!(read(by("pod")).await.reading, Reading::Value { total: 7.0, per_replica });
    let reason = failure(read(by("engine")).await);
    assert!(reason.contains("without the label `engine`") && reason.contains("sum by (engine)"), "{reason}");
}

#[tokio::test]
async fn a_sample_is_as_old_as_its_timestamp_says() {
    let sample = |at: f64| vector(&format!(r#"{{"metric":{{}},"value":[{at},"7"]}}"#));
    let (address, _) = server(StatusCode::OK, sample(now() - 300.0)).await;
    assert!(read(query(address)).await.age >= Duration::from_secs(299));
    let (address, _) = server(StatusCode::OK, sample(now() + 300.0)).await;
    assert_eq!(read(query(address)).await.age, Duration::ZERO, "a clock ahead of ours is no age");
}

#[tokio::test]
async fn the_query_and_the_proof_of_who_asks_arrive() {
    let (address, asked) = server(StatusCode::OK, vector("")).await;
    let folder = tempfile::tempdir().expect("a directory");
    let bearer = HttpAccess { bearer_token: Some(secret(&folder, "hush-token")), ..HttpAccess::default() };
    let basic = Basic { username: Credential::Plain("ann".into()), password: secret(&folder, "hush") };
    let basic = HttpAccess { basic: Some(basic), ..HttpAccess::default() };
    for access in [HttpAccess::default(), bearer, basic] {
        read(PrometheusSignal { access, ..query(format!("{address}/prefix/")) }).await;
    }
    let asked = asked.lock().expect("not poisoned").clone();
    assert!(asked[0].0.starts_with("/prefix/api/v1/query?query=rate%28http_requests_total"), "{asked:?}");
    let proofs: Vec<Option<&str>> = asked.iter().map(|(_, proof)| proof.as_deref()).collect();
    assert_eq!(proofs, [None, Some("Bearer hush-token"), Some("Basic YW5uOmh1c2g=")]);
}

#[tokio::test]
async fn a_server_that_is_gone_or_silent_is_a_failure_without_secrets() {
    let gone = query("http://ann:hush@127.0.0.1:1".to_owned());
    let reason = failure(read(gone).await);
    assert!(!reason.contains("hush"), "{reason}");
    let nowhere = Credential::Env { from_env: "FOREWARM_TEST_NOT_SET".into() };
    let access = HttpAccess { bearer_token: Some(nowhere), ..HttpAccess::default() };
    let reason = failure(read(PrometheusSignal { access, ..query("http://127.0.0.1:1".to_owned()) }).await);
    assert_eq!(reason, "the environment has no variable `FOREWARM_TEST_NOT_SET`");
    let (refuses, _) = server(StatusCode::UNAUTHORIZED, String::new()).await;
    let reason = failure(read(query(refuses)).await);
    assert!(reason.contains("401") && reason.contains("`bearerToken`"), "{reason}");
    let silent = serve(Router::new().fallback(get(std::future::pending::<()>))).await;
    let access = HttpAccess { timeout: Some(Duration::from_millis(20)), ..HttpAccess::default() };
    let reason = failure(read(PrometheusSignal { access, ..query(silent) }).await);
    assert!(reason.contains("within 0.02 s"), "{reason}");
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_at_once() {
    let refused = |query| source(query).expect_err("refused");
    for address in ["prometheus:9090", "ftp://prometheus", "", "mailto:x"] {
        assert!(matches!(refused(query(address.to_owned())), QueryError::ServerAddress), "{address}");
    }
    let empty = PrometheusSignal { query: "  ".to_owned(), ..query("http://prometheus:9090".to_owned()) };
    assert!(matches!(refused(empty), QueryError::EmptyQuery));
}
