//! KEDA at `forewarm run --external-scaler`: a target at zero is woken the moment a request waits.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    net::TcpListener,
    process::{Child, Command},
    time::Duration,
};

use forewarm_external_scaler::externalscaler::{
    GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient,
};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

/// Longest wait on the wall for anything, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM, so that replicas end too; a process that has ended needs nothing.
        drop(Command::new("kill").arg(self.0.id().to_string()).status());
        drop(self.0.wait());
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

async fn connect(address: &str) -> ExternalScalerClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    timeout(PATIENCE, async {
        loop {
            match endpoint.connect().await {
                Ok(channel) => return ExternalScalerClient::new(channel),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_target_at_zero_is_woken_when_a_request_waits() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = directory.path().join("forewarm.yaml");
    let engine = [
        env!("CARGO_BIN_EXE_forewarm"),
        "engine",
        "--port={port}",
        "--model=m",
        "--cold-start=20s",
        "--speed=20",
    ];
    std::fs::write(
        &manifest,
        format!(
            "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: sleepy}}\nspec:\n  \
             target: {{processes: {{command: {}, port: 0}}}}\n  engine: {{kind: vllm, maxConcurrency: 4}}\n  \
             models: [m]\n  environment: dev\n  replicas: {{min: 0, max: 3}}\n  \
             coldStart: {{expected: 20s, deadline: 10m}}\n  policy: {{queueDepth: {{perReplica: 2}}}}\n",
            serde_json::to_string(&engine).unwrap()
        ),
    )
    .unwrap();
    let (listen, scaler) = (free_address(), free_address());
    let state = directory.path().join("state");
    let mut command = Command::new(env!("CARGO_BIN_EXE_forewarm"));
    command.arg("run").arg("-f").arg(&manifest).arg("--state-dir").arg(&state);
    command.args(["--listen", &listen, "--external-scaler", &scaler, "--admin", "127.0.0.1:0"]);
    command.args(["--speed", "20", "--on-exit", "stop", "--log", "warn"]);
    let _running = Running(command.spawn().unwrap());

    let mut client = connect(&scaler).await;
    let asks = ScaledObjectRef {
        name: "sleepy".to_owned(),
        namespace: "default".to_owned(),
        scaler_metadata: [("scaler".to_owned(), "sleepy".to_owned())].into(),
    };
    let mut stream = client.stream_is_active(asks.clone()).await.unwrap().into_inner();
    assert!(
        !timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap().result,
        "nothing is asked yet"
    );
    let request = tokio::spawn(
        reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .post(format!("http://{listen}/v1/completions"))
            .body(r#"{"model": "m", "prompt": "wake up", "max_tokens": 2}"#)
            .header("content-type", "application/json")
            .send(),
    );
    assert!(timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap().result, "a request waits");
    let metrics = GetMetricsRequest {
        scaled_object_ref: Some(asks),
        metric_name: "forewarm-desired-replicas".to_owned(),
    };
    assert!(client.get_metrics(metrics).await.unwrap().into_inner().metric_values[0].metric_value >= 1);
    let answer = timeout(PATIENCE, request).await.unwrap().unwrap().unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
}
