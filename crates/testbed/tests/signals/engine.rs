//! An engine that speaks TLS, asked for its metrics as a manifest says.

use std::{net::SocketAddr, path::Path};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    routing::get,
};
use forewarm_control::{Clock, ports::FleetReplica};
use forewarm_core::{Phase, Signal};
use forewarm_engine::{Engine, EngineConfig, EngineProfile};
use forewarm_manifest::read_scalers;
use forewarm_signals::{
    SourceError,
    engine::{EngineMetric, EngineSignal},
    measure,
};
use forewarm_testbed::{Certificates, Encrypted};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{failure, total};

/// `waiting` of the engine there, for a scaler whose `engine` has these settings.
async fn waiting(address: SocketAddr, settings: &str) -> Result<Signal, SourceError> {
    let manifest = format!(
        "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: llm}}\nspec:\n  \
         target: {{processes: {{command: [engine], port: 0}}}}\n  engine: {{{settings}}}\n  \
         replicas: {{min: 1, max: 8}}\n  policy: {{queueDepth: {{}}}}\n"
    );
    let scaler = read_scalers("forewarm.yaml", &manifest).unwrap().remove(0);
    let replica =
        FleetReplica { address: Some(address.to_string()), ..FleetReplica::new("engine", Phase::Ready) };
    let mut report = measure::scraper(&scaler, Clock::start(1.0))?.scrape(&[replica]).await;
    Ok(report.signals.remove(&EngineSignal::Metric(EngineMetric::Waiting)).unwrap())
}

async fn why(address: SocketAddr, settings: &str) -> String {
    failure(&waiting(address, settings).await.unwrap())
}

fn https(ca: &Path, more: &str) -> String {
    format!("scheme: HTTPS, tls: {{caFile: {}{more}}}", ca.display())
}

#[tokio::test]
async fn an_engine_that_speaks_tls_is_asked_over_tls_and_nobody_else_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path()).unwrap();
    let stop = CancellationToken::new();
    let config = EngineConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        profile: EngineProfile::simple(1),
        ..EngineConfig::default()
    };
    let engine = Engine::start(config, stop.clone()).await.unwrap();
    let plain = engine.address();
    let front = Encrypted::listen(([127, 0, 0, 1], 0).into(), plain, &certificates.cert, &certificates.key)
        .await
        .unwrap();
    let address = front.address();

    let ours = https(&certificates.ca, "");
    assert_eq!(total(&waiting(address, &ours).await.unwrap()), 0.0);
    let named = https(&certificates.ca, ", serverName: localhost");
    assert_eq!(total(&waiting(address, &named).await.unwrap()), 0.0);
    assert_eq!(total(&waiting(address, "scheme: HTTPS, tls: {unsafeSsl: true}").await.unwrap()), 0.0);

    let other = tempfile::tempdir().unwrap();
    let other = Certificates::make(other.path()).unwrap();
    let said = why(address, &https(&other.ca, "")).await;
    assert!(said.contains("the server's certificate is signed by nobody in `caFile`"), "{said}");
    let said = why(address, "scheme: HTTPS").await;
    assert!(said.contains("`caFile` names who did"), "{said}");
    let said = why(address, &https(&certificates.ca, ", serverName: elsewhere")).await;
    assert!(said.contains("`serverName` is the name in the server's certificate"), "{said}");
    let said = why(plain, &ours).await;
    assert!(said.contains("the server speaks no TLS there"), "{said}");
    let said = why(address, "scheme: HTTP").await;
    assert!(said.contains("`scheme: HTTPS`"), "{said}");

    let missing = folder.path().join("missing.pem");
    let error = waiting(address, &https(&missing, "")).await.unwrap_err().to_string();
    assert!(error.starts_with("spec.engine.tls: ") && error.contains("missing.pem"), "{error}");
    stop.cancel();
    engine.stopped().await;
}

#[tokio::test]
async fn an_engine_that_wants_a_token_gets_it_and_one_that_refuses_is_no_zero() {
    let page = async |headers: HeaderMap| match headers.get(header::AUTHORIZATION) {
        Some(shown) if shown == "Bearer hush" => Ok("vllm:num_requests_waiting{engine=\"0\"} 3\n"),
        Some(_) | None => Err(StatusCode::UNAUTHORIZED),
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let engine =
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", get(page))).await });
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "hush\n").unwrap();
    let shown = format!("bearerToken: {{fromFile: {}}}", token.display());
    assert_eq!(total(&waiting(address, &shown).await.unwrap()), 3.0);
    let said = why(address, "kind: vllm").await;
    assert!(said.contains("HTTP 401") && said.contains("`bearerToken`"), "{said}");
    // It is read again whenever it is needed.
    std::fs::write(&token, "wrong").unwrap();
    let said = why(address, &shown).await;
    assert!(said.contains("refuses this `bearerToken`") && !said.contains("wrong"), "{said}");
    std::fs::remove_file(&token).unwrap();
    let said = why(address, &shown).await;
    assert!(said.contains("cannot read") && said.contains("token"), "{said}");
    engine.abort();
}
