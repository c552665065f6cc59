//! Prometheus queries against scripted answers, and against the real server where it is installed.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::Path,
    process::Stdio,
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
use forewarm_signals::prometheus::{
    Auth, MAX_BODY_BYTES, PrometheusQuery, PrometheusSource, QueryError, Secret,
};
use tokio::{net::TcpListener, process::Command};

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

fn query(server_address: String) -> PrometheusQuery {
    PrometheusQuery {
        server_address,
        query: "rate(http_requests_total{job=\"vllm\"}[2m])".to_owned(),
        per_replica_label: None,
        auth: Auth::None,
        timeout: Duration::from_secs(30),
    }
}

async fn read(query: PrometheusQuery) -> Signal {
    PrometheusSource::new(query, Clock::start(1.0)).expect("a source").read(&[]).await
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
    let by =
        |label: &str| PrometheusQuery { per_replica_label: Some(label.to_owned()), ..query(address.clone()) };
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
    let bearer = Auth::Bearer(Secret::new("hush-token"));
    let basic = Auth::Basic { username: "ann".to_owned(), password: Secret::new("hush") };
    for auth in [Auth::None, bearer, basic] {
        assert!(!format!("{auth:?}").contains("hush"), "{auth:?}");
        read(PrometheusQuery { auth, ..query(format!("{address}/prefix/")) }).await;
    }
    let asked = asked.lock().expect("not poisoned").clone();
    assert!(asked[0].0.starts_with("/prefix/api/v1/query?query=rate%28http_requests_total"), "{asked:?}");
    let proofs: Vec<Option<&str>> = asked.iter().map(|(_, proof)| proof.as_deref()).collect();
    assert_eq!(proofs, [None, Some("Bearer hush-token"), Some("Basic YW5uOmh1c2g=")]);
}

#[tokio::test]
async fn a_server_that_is_gone_or_silent_is_a_failure_without_secrets() {
    let auth = Auth::Basic { username: "ann".to_owned(), password: Secret::new("hush") };
    let gone = PrometheusQuery { auth, ..query("http://ann:hush@127.0.0.1:1".to_owned()) };
    let reason = failure(read(gone).await);
    assert!(!reason.contains("hush"), "{reason}");
    let silent = serve(Router::new().fallback(get(std::future::pending::<()>))).await;
    let reason = failure(read(PrometheusQuery { timeout: Duration::from_millis(20), ..query(silent) }).await);
    assert!(reason.contains("within 0.02 s"), "{reason}");
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_at_once() {
    let refused = |query| PrometheusSource::new(query, Clock::start(1.0)).expect_err("refused");
    for address in ["prometheus:9090", "ftp://prometheus", "", "mailto:x"] {
        assert!(matches!(refused(query(address.to_owned())), QueryError::ServerAddress), "{address}");
    }
    let empty = PrometheusQuery { query: "  ".to_owned(), ..query("http://prometheus:9090".to_owned()) };
    assert!(matches!(refused(empty), QueryError::EmptyQuery));
}

#[tokio::test]
async fn a_real_prometheus_means_the_same() {
    let Some(program) = on_path("prometheus") else {
        eprintln!("skipped: no `prometheus` on PATH");
        return;
    };
    let folder = tempfile::tempdir().expect("a directory");
    let configuration = folder.path().join("prometheus.yml");
    std::fs::write(&configuration, "global: {}\n").expect("written");
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .and_then(|free| free.local_addr())
        .expect("a port")
        .port();
    let mut prometheus = Command::new(program)
        .arg(format!("--config.file={}", configuration.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let ask = |text: &str| {
        read(PrometheusQuery { query: text.to_owned(), ..query(format!("http://127.0.0.1:{port}")) })
    };
    let ready = async {
        while !matches!(ask("scalar(vector(7))").await.reading, Reading::Value { total: 7.0, .. }) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ready).await.expect("it gets ready");
    assert!(matches!(ask("vector(3)").await.reading, Reading::Value { total: 3.0, .. }));
    assert_eq!(ask("vllm_num_requests_waiting").await.reading, Reading::Missing(Missing::Absent));
    assert!(failure(ask("sum(").await).contains("bad_data"));
    assert!(failure(ask("vector(0) / vector(0)").await).contains("NaN"));
    let several = r#"label_replace(vector(1), "a", "x", "", "") or vector(2)"#;
    assert!(failure(ask(several).await).contains("2 series"));
    prometheus.kill().await.expect("it ends");
}

fn on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| Path::is_file(file))
}
