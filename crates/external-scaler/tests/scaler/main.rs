//! What KEDA is told, over real connections.

mod stage;
mod wire;

use forewarm_external_scaler::{
    Reading, ScalerConfig, ScalerServer, TlsFiles, externalscaler::external_scaler_server,
};
use stage::{Authority, Stage, asks, config, metrics, nothing};
use tokio::time::{Duration, Instant};
use tonic::{Code, Status};

const DESIRED: &str = "forewarm-desired-replicas";
const QUEUED: &str = "forewarm-queued-requests";
const IN_FLIGHT: &str = "forewarm-requests-in-flight";

#[tokio::test]
async fn the_decided_number_is_a_metric_whose_target_is_one() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    stage.decided("llama3", 7);
    let trigger = [("scaler", "llama3")];
    let specs = client.get_metric_spec(asks(&trigger)).await.expect("a spec").into_inner().metric_specs;
    let spec = specs.first().expect("one metric");
    assert_eq!((spec.metric_name.as_str(), spec.target_size, spec.target_size_float), (DESIRED, 1, 1.0));
    let values =
        client.get_metrics(metrics(&trigger, DESIRED)).await.expect("values").into_inner().metric_values;
    let value = values.first().expect("one value");
    assert_eq!((value.metric_name.as_str(), value.metric_value, value.metric_value_float), (DESIRED, 7, 7.0));
    stage.end().await;
}

#[tokio::test]
async fn requests_are_metrics_with_a_target_of_the_users() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    stage.readings.publish("llama3", Reading { queued: Some(12.5), in_flight: Some(3.0), ..nothing() });
    for (metric, name, whole, exact) in [("queued", QUEUED, 13, 12.5), ("inFlight", IN_FLIGHT, 3, 3.0)] {
        let trigger = [("scaler", "llama3"), ("metric", metric), ("target", "2.5")];
        let specs = client.get_metric_spec(asks(&trigger)).await.expect("a spec").into_inner().metric_specs;
        let spec = specs.first().expect("one metric");
        assert_eq!((spec.metric_name.as_str(), spec.target_size, spec.target_size_float), (name, 3, 2.5));
        let values =
            client.get_metrics(metrics(&trigger, name)).await.expect("values").into_inner().metric_values;
        let value = values.first().expect("one value");
        assert_eq!((value.metric_value, value.metric_value_float), (whole, exact));
    }
    stage.end().await;
}

/// The metadata of a trigger, and words of the error about it.
type Wrong = (&'static [(&'static str, &'static str)], &'static [&'static str]);

/// What is known, the metric, and what KEDA is told of activity and of the value.
type Known = (&'static str, Reading, Result<bool, Code>, Result<f64, Code>);

#[tokio::test]
async fn what_is_not_known_is_an_error_and_never_nothing() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    let old = Instant::now().checked_sub(Duration::from_secs(61)).expect("the clock is older than that");
    let (unavailable, some) = (Code::Unavailable, |number| Some(number));
    let table: [Known; 10] = [
        ("desired", nothing(), Err(unavailable), Err(unavailable)),
        ("desired", Reading { desired: Some(0), ..nothing() }, Ok(false), Ok(0.0)),
        ("desired", Reading { desired: Some(2), ..nothing() }, Ok(true), Ok(2.0)),
        (
            "desired",
            Reading { desired: Some(2), at: Some(old), ..nothing() },
            Err(unavailable),
            Err(unavailable),
        ),
        ("desired", Reading { desired: Some(2), at: None, ..nothing() }, Err(unavailable), Err(unavailable)),
        ("queued", Reading { desired: Some(2), ..nothing() }, Err(unavailable), Err(unavailable)),
        // Nothing waits, but nobody knows whether replicas work.
        ("queued", Reading { queued: some(0.0), ..nothing() }, Err(unavailable), Ok(0.0)),
        ("queued", Reading { queued: some(0.0), in_flight: some(1.0), ..nothing() }, Ok(true), Ok(0.0)),
        ("queued", Reading { queued: some(0.0), in_flight: some(0.0), ..nothing() }, Ok(false), Ok(0.0)),
        ("inFlight", Reading { queued: some(4.0), ..nothing() }, Ok(true), Err(unavailable)),
    ];
    for (metric, reading, active, value) in table {
        let trigger = [("scaler", "llama3"), ("metric", metric), ("target", "2")];
        let trigger = if metric == "desired" { &trigger[..2] } else { &trigger };
        let name = match metric {
            "queued" => QUEUED,
            "inFlight" => IN_FLIGHT,
            _ => DESIRED,
        };
        let told = format!("{metric} of {reading:?}");
        stage.readings.publish("llama3", reading);
        let answer = client.is_active(asks(trigger)).await;
        assert_eq!(
            answer.map(|answer| answer.into_inner().result).map_err(|error| error.code()),
            active,
            "{told}"
        );
        let answer = client.get_metrics(metrics(trigger, name)).await;
        let answer = answer.map(|answer| answer.into_inner().metric_values[0].metric_value_float);
        assert_eq!(answer.map_err(|error| error.code()), value, "{told}");
    }
    stage.end().await;
}

#[tokio::test]
async fn errors_name_the_field_its_value_and_what_would_be_right() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    stage.decided("llama3", 1);
    let table: [Wrong; 9] = [
        (&[], &["`scaler`", "name of an InferenceScaler"]),
        (&[("scaler", "")], &["`scaler`", "name of an InferenceScaler"]),
        (
            &[("scaler", "llama3"), ("metric", "queue")],
            &["`metric: queue`", "`desired`", "`queued`", "`inFlight`"],
        ),
        (&[("scaler", "llama3"), ("metirc", "queued")], &["`metirc`", "`metric`"]),
        (&[("scaler", "llama3"), ("metric", "queued")], &["`target`", "`metric: queued`"]),
        (&[("scaler", "llama3"), ("metric", "queued"), ("target", "many")], &["`target: many`", "0.001"]),
        (&[("scaler", "llama3"), ("metric", "queued"), ("target", "0")], &["`target: 0`", "0.001"]),
        (&[("scaler", "llama3"), ("metric", "inFlight"), ("target", "NaN")], &["`target: NaN`", "0.001"]),
        (&[("scaler", "llama3"), ("target", "2")], &["`target: 2`", "`metric: desired`", "leave it out"]),
    ];
    for (metadata, words) in table {
        let refused = |error: Status| {
            assert_eq!(error.code(), Code::InvalidArgument, "{metadata:?}");
            assert!(
                words.iter().all(|word| error.message().contains(word)),
                "{metadata:?}: {}",
                error.message()
            );
        };
        refused(client.get_metric_spec(asks(metadata)).await.expect_err("no spec"));
        refused(client.is_active(asks(metadata)).await.expect_err("no activity"));
        refused(client.stream_is_active(asks(metadata)).await.expect_err("no stream"));
        refused(client.get_metrics(metrics(metadata, DESIRED)).await.expect_err("no values"));
    }
    let error = client.is_active(asks(&[("scaler", "llama4")])).await.expect_err("no scaler");
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("`llama4`"), "{}", error.message());
    let error = client.get_metrics(metrics(&[("scaler", "llama3")], QUEUED)).await.expect_err("no values");
    assert!(error.message().contains(QUEUED) && error.message().contains(DESIRED), "{}", error.message());
    stage.end().await;
}

#[tokio::test]
async fn a_change_of_activity_is_pushed_once_and_a_scaler_may_come_later() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    let trigger = [("scaler", "llama3"), ("metric", "queued"), ("target", "4")];
    let mut stream = client.stream_is_active(asks(&trigger)).await.expect("a stream").into_inner();
    let idle = Reading { queued: Some(0.0), in_flight: Some(0.0), ..nothing() };
    stage.readings.publish("another", Reading { queued: Some(5.0), ..idle.clone() });
    stage.readings.publish("llama3", idle.clone());
    let mut told = Vec::new();
    told.push(stream.message().await.expect("a stream").expect("news").result);
    for queued in [1.0, 9.0] {
        stage.readings.publish("llama3", Reading { queued: Some(queued), ..idle.clone() });
    }
    told.push(stream.message().await.expect("a stream").expect("news").result);
    // Not knowing is no news.
    stage.readings.publish("llama3", nothing());
    stage.readings.remove("llama3");
    stage.readings.publish("llama3", idle);
    told.push(stream.message().await.expect("a stream").expect("news").result);
    assert_eq!(told, [false, true, false]);
    stage.end().await;
}

#[tokio::test]
async fn what_is_told_without_a_time_counts_once_it_is_confirmed() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    let trigger = [("scaler", "llama3")];
    stage.readings.publish("llama3", Reading { desired: Some(2), at: None, ..nothing() });
    let mut stream = client.stream_is_active(asks(&trigger)).await.expect("a stream").into_inner();
    assert_eq!(client.is_active(asks(&trigger)).await.expect_err("old news").code(), Code::Unavailable);
    stage.readings.confirm();
    assert!(stream.message().await.expect("a stream").expect("news").result);
    assert!(client.is_active(asks(&trigger)).await.expect("an answer").into_inner().result);
    stage.end().await;
}

#[tokio::test]
async fn a_scaled_object_sees_the_scalers_of_its_own_namespace() {
    let stage = Stage::set(ScalerConfig { namespaced: true, ..config() }).await;
    let mut client = stage.client().await;
    stage.decided("secret/llama3", 9);
    stage.decided("serving/llama3", 2);
    let trigger = [("scaler", "llama3")];
    let values =
        client.get_metrics(metrics(&trigger, DESIRED)).await.expect("values").into_inner().metric_values;
    assert_eq!(values[0].metric_value, 2);
    for trick in ["../secret/llama3", "secret/llama3"] {
        let error = client.is_active(asks(&[("scaler", trick)])).await.expect_err("another namespace");
        assert_eq!(error.code(), Code::NotFound, "{trick}");
    }
    stage.end().await;
}

#[tokio::test]
async fn at_the_end_streams_end_in_order() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    stage.decided("llama3", 1);
    let mut stream =
        client.stream_is_active(asks(&[("scaler", "llama3")])).await.expect("a stream").into_inner();
    assert!(stream.message().await.expect("a stream").expect("news").result);
    stage.end().await;
    assert_eq!(stream.message().await.expect("an orderly end"), None);
}

#[tokio::test]
async fn health_is_told_for_the_service() {
    let stage = Stage::plain().await;
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("http://{}", stage.address)).expect("an address");
    let channel = endpoint.connect().await.expect("a connection");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let service = external_scaler_server::SERVICE_NAME.to_owned();
    let answer = health.check(tonic_health::pb::HealthCheckRequest { service }).await.expect("health");
    assert_eq!(answer.into_inner().status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    stage.end().await;
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    let long = "x".repeat(100_000);
    let error = client.is_active(asks(&[("scaler", &long)])).await.expect_err("too long");
    assert_eq!(error.code(), Code::OutOfRange);
    stage.end().await;
}

#[tokio::test]
async fn tls_asks_for_certificates_and_takes_new_ones_from_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let (authority, stranger) = (Authority::new(), Authority::new());
    let client_ca = folder.path().join("ca.crt");
    std::fs::write(&client_ca, authority.pem()).expect("the CA is written");
    let tls = TlsFiles { client_ca: Some(client_ca), ..authority.write(folder.path()) };
    let stage = Stage::set(ScalerConfig { tls: Some(tls), ..config() }).await;
    stage.decided("llama3", 1);
    let ask = async |signs: &Authority, identity| {
        let mut client = signs.connect(stage.address, identity).await.ok()?;
        let answer = client.is_active(asks(&[("scaler", "llama3")])).await;
        answer.ok().map(|answer| answer.into_inner().result)
    };
    assert_eq!(ask(&authority, Some(authority.sign())).await, Some(true));
    assert_eq!(ask(&authority, None).await, None, "no certificate");
    assert_eq!(ask(&authority, Some(stranger.sign())).await, None, "a stranger's certificate");
    assert_eq!(ask(&stranger, Some(authority.sign())).await, None, "a server of somebody else's");
    // Rotated, as cert-manager does.
    stranger.write(folder.path());
    assert_eq!(ask(&stranger, Some(authority.sign())).await, Some(true));
    std::fs::write(folder.path().join("tls.key"), "half a k").expect("the key is written");
    assert_eq!(
        ask(&stranger, Some(authority.sign())).await,
        Some(true),
        "the last certificate that was whole"
    );
    stage.end().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = Authority::new().write(folder.path());
    std::fs::write(&tls.key, "no key").expect("the key is written");
    let error = ScalerServer::bind(ScalerConfig { tls: Some(tls), ..config() }, Default::default()).await;
    let error = error.err().expect("no server");
    let source = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(source.contains("tls.key"), "{source}");
}
