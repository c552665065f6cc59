//! The exporter end to end: a fake engine, a fake `nvidia-smi`, real HTTP on loopback.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::get};
use forewarm_exporter::{EngineAddress, Exporter, ExporterConfig, ExporterError};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Every fake `nvidia-smi`, written before anything is run: a file that is open for writing anywhere
/// cannot be executed.
static SCRIPTS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let scripts = tempfile::tempdir().expect("a directory");
    for (name, script) in [
        (
            "two-gpus",
            "case \"$*\" in *memory.used*csv,noheader,nounits*) ;; *) exit 2 ;; esac\n\
             echo '0, GPU-a, NVIDIA A10G, 97, 20480, 23028, 143.21, 58, 0'\n\
             echo '1, GPU-b, NVIDIA A10G, [N/A], 1024, 23028, [N/A], 30, [N/A]'",
        ),
        ("no-driver", "echo \"NVIDIA-SMI has failed because it couldn't communicate\"; exit 9"),
        ("no-gpu", "echo 'No devices were found'; exit 6"),
        ("broken", "echo 'Segmentation fault' >&2; exit 139"),
        ("garbled", "echo 'what?'"),
    ] {
        let path = scripts.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    scripts
});

const METRICS: &str = "vllm:num_requests_waiting{engine=\"0\",model_name=\"a\"} 3\n\
                       vllm:num_requests_waiting{engine=\"1\",model_name=\"a\"} 4\n\
                       vllm:num_requests_waiting{engine=\"0\",model_name=\"b \\\"x\\\"\"} 5\n\
                       vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"a\",reason=\"deferred\"} 0\n\
                       vllm:num_requests_running{engine=\"0\",model_name=\"a\"} 2\n\
                       vllm:prompt_tokens_total{engine=\"0\",model_name=\"a\"} 74\n\
                       vllm:time_to_first_token_seconds_sum{engine=\"0\",model_name=\"a\"} 1.5\n\
                       vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"a\"} 3\n";

/// Longer than any round takes, so that a line that never comes fails the test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(60);

static ANSWERS: Mutex<bool> = Mutex::new(true);

async fn engine(app: Router) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ExporterError>>,
}

async fn start(engines: &[&str], nvidia_smi: PathBuf) -> Running {
    let config = ExporterConfig {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        engines: engines.iter().map(|url| url.parse().expect("an address")).collect(),
        interval: Duration::from_millis(500),
        nvidia_smi,
        ..ExporterConfig::default()
    };
    let exporter = Exporter::bind(config).await.expect("a port");
    let (address, shutdown) = (exporter.address(), CancellationToken::new());
    Running { address, shutdown: shutdown.clone(), task: tokio::spawn(exporter.run(shutdown)) }
}

impl Running {
    async fn get(&self, path: &str) -> (StatusCode, String) {
        let response = reqwest::get(format!("http://{}{path}", self.address)).await.expect("an answer");
        (response.status(), response.text().await.expect("text"))
    }

    /// Reads the page until it holds `line`.
    async fn until(&self, line: &str) -> String {
        let mut page = String::new();
        let found = tokio::time::timeout(PATIENCE, async {
            while !page.lines().any(|found| found == line) {
                tokio::task::yield_now().await;
                page = self.get("/metrics").await.1;
            }
        });
        assert!(found.await.is_ok(), "no `{line}` in:\n{page}");
        page
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }
}

#[tokio::test]
async fn an_engine_and_two_gpus_and_the_engine_goes_away() {
    let scripts = SCRIPTS.path();
    let app = Router::new().route(
        "/metrics",
        get(|| async {
            match *ANSWERS.lock().unwrap_or_else(PoisonError::into_inner) {
                true => Ok(METRICS),
                false => Err(StatusCode::SERVICE_UNAVAILABLE),
            }
        }),
    );
    let replica = engine(app).await;
    let exporter = start(&[&format!("http://{replica}")], scripts.join("two-gpus")).await;
    let page = exporter.until("llm_queue_depth 12").await;
    for line in [
        "llm_gpu_memory_used_gb{gpu_id=\"0\"} 20".to_owned(),
        "llm_gpu_memory_used_gb{gpu_id=\"1\"} 1".to_owned(),
        format!("forewarm_engine_up{{engine=\"vllm\",replica=\"{replica}\"}} 1"),
        format!("forewarm_engine_requests_waiting{{engine=\"vllm\",replica=\"{replica}\",model=\"a\"}} 7"),
        format!(
            "forewarm_engine_requests_waiting{{engine=\"vllm\",replica=\"{replica}\",model=\"b \\\"x\\\"\"}} 5"
        ),
        format!("forewarm_engine_requests_running{{engine=\"vllm\",replica=\"{replica}\",model=\"a\"}} 2"),
        "# TYPE forewarm_engine_prompt_tokens_total counter".to_owned(),
        format!(
            "forewarm_engine_time_to_first_token_seconds_sum{{engine=\"vllm\",replica=\"{replica}\",model=\"a\"}} 1.5"
        ),
        "forewarm_gpu_source_state{state=\"ok\"} 1".to_owned(),
        "forewarm_gpu_utilization_ratio{gpu=\"0\",uuid=\"GPU-a\",model=\"NVIDIA A10G\"} 0.97".to_owned(),
        "forewarm_gpu_memory_used_bytes{gpu=\"0\",uuid=\"GPU-a\",model=\"NVIDIA A10G\"} 21474836480"
            .to_owned(),
    ] {
        assert!(page.lines().any(|found| found == line), "no `{line}` in:\n{page}");
    }
    assert!(!page.contains("forewarm_gpu_utilization_ratio{gpu=\"1\""), "not supported is not zero");
    assert!(!page.contains("kv_cache_usage_ratio"), "absent is not zero");
    assert_eq!(exporter.get("/readyz").await.0, StatusCode::OK);
    assert_eq!(exporter.get("/healthz").await.0, StatusCode::OK);

    *ANSWERS.lock().unwrap_or_else(PoisonError::into_inner) = false;
    let down = format!("forewarm_engine_up{{engine=\"vllm\",replica=\"{replica}\"}} 0");
    let page = exporter.until(&down).await;
    assert!(!page.contains("llm_queue_depth"), "a stale depth is served:\n{page}");
    assert!(!page.contains("requests_waiting"), "{page}");
    assert!(page.contains("llm_gpu_memory_used_gb{gpu_id=\"0\"} 20"), "GPUs do not depend on engines");

    *ANSWERS.lock().unwrap_or_else(PoisonError::into_inner) = true;
    exporter.until("llm_queue_depth 12").await;
    exporter.stop().await;
}

#[tokio::test]
async fn one_engine_that_is_gone_takes_the_sum_away_and_nothing_else() {
    let scripts = SCRIPTS.path();
    let replica = engine(Router::new().route("/metrics", get(|| async { METRICS }))).await;
    let exporter =
        start(&[&format!("http://{replica}/"), "http://127.0.0.1:1/metrics"], scripts.join("no-gpu")).await;
    let page = exporter.until("forewarm_engine_up{engine=\"vllm\",replica=\"127.0.0.1:1\"} 0").await;
    assert!(!page.contains("llm_queue_depth"), "part of the queue looks like less load:\n{page}");
    assert!(page.contains("forewarm_engine_requests_waiting{"), "{page}");
    exporter.stop().await;
}

#[tokio::test]
async fn a_machine_without_gpus_is_a_state() {
    let scripts = SCRIPTS.path();
    for (program, state) in [
        ("is-not-there", "no_driver"),
        ("no-driver", "no_driver"),
        ("no-gpu", "no_gpu"),
        ("broken", "failed"),
        ("garbled", "failed"),
    ] {
        let exporter = start(&[], scripts.join(program)).await;
        let page = exporter.until(&format!("forewarm_gpu_source_state{{state=\"{state}\"}} 1")).await;
        assert!(page.contains("forewarm_gpu_source_state{state=\"ok\"} 0"), "{program}: {page}");
        assert!(!page.contains("llm_"), "{program}: {page}");
        exporter.stop().await;
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let listen = taken.local_addr().expect("an address");
    let error =
        Exporter::bind(ExporterConfig { listen, ..ExporterConfig::default() }).await.expect_err("taken");
    assert!(matches!(error, ExporterError::PortInUse(at) if at == listen));
    assert!(error.to_string().contains(&listen.port().to_string()), "{error}");
}

#[test]
fn addresses_of_engines() {
    for (given, url, replica) in [
        ("http://10.0.0.7:8000", "http://10.0.0.7:8000/metrics", "10.0.0.7:8000"),
        ("http://10.0.0.7:8000/", "http://10.0.0.7:8000/metrics", "10.0.0.7:8000"),
        ("https://llm.example/m", "https://llm.example/m", "llm.example"),
    ] {
        let engine: EngineAddress = given.parse().expect(given);
        assert_eq!((engine.url(), engine.replica()), (url, replica));
    }
    for wrong in ["10.0.0.7:8000", "ftp://x/", "", "http://user:password@x/"] {
        let error = wrong.parse::<EngineAddress>().expect_err(wrong).to_string();
        assert!(error.contains("http://10.0.0.7:8000"), "{error}");
    }
}
