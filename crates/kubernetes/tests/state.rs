//! What is remembered in an object's status: small enough, and good enough to go on with.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use forewarm_core::{Observation, Phase, Replica, ScalerState, Signal, Timestamp, plan};
use forewarm_kubernetes::{
    read::{ReadScaler, read},
    state::{MAX_BYTES, decode, encode},
};
use serde_json::{Value, json};

fn scaler(policy: Value, expected: &str) -> ReadScaler {
    let spec = json!({
        "target": {"kubernetes": {"kind": "Deployment", "name": "llama3"}},
        "replicas": {"min": 1, "max": 64},
        "objective": {"ttft": "2s"},
        "coldStart": {"expected": expected},
        "behavior": {"scaleDown": {
            "stabilizationWindowSeconds": 3600,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
        }},
        "policy": policy,
    });
    read("ai", "llama3", &spec).unwrap()
}

/// Numbers without a pattern that a compressor could find.
fn noise(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 11) as f64 / (1_u64 << 53) as f64
}

/// A service of dozens of replicas for `hours`, with a load that never rests; the fleet follows what is decided.
fn live(scaler: &ReadScaler, hours: u32) -> (ScalerState, Observation) {
    let (mut state, mut seed) = (ScalerState::default(), 1);
    let (mut arrived, mut busy, mut attained, mut missed) = (1_234_567.0, 987_654.321, 1_200_000.0, 34_567.0);
    let mut replicas = 8;
    let mut observation = Observation::default();
    for second in (0..hours * 3600).step_by(15) {
        let load = 60.0 + 50.0 * noise(&mut seed) + 40.0 * (f64::from(second) / 2000.0).sin();
        arrived += (load * 3.0).round();
        busy += load * 15.0 + noise(&mut seed);
        attained += (load * 2.9).round();
        missed += (load * 0.1 * noise(&mut seed)).round();
        let waiting = (load * noise(&mut seed) / 4.0).round();
        let names = (0..replicas).map(|index| Replica {
            in_flight: Some(4),
            ..Replica::new(format!("vllm-llama3-7c9d8f6b5d-{index:05}"), Phase::Ready)
        });
        let signals = [
            ("queued", waiting),
            ("waiting", 0.0),
            ("running", load.round()),
            ("in_flight", load.round()),
            ("arrivals_total", arrived),
            ("completed_total", arrived - 50.0),
            ("busy_seconds_total", busy),
            ("attained_total", attained),
            ("missed_total", missed),
        ];
        observation = Observation {
            at: Timestamp::from_seconds(1_764_000_000.0 + f64::from(second)),
            replicas: names.collect(),
            signals: signals.map(|(name, value)| (name.into(), Signal::value(value))).into(),
            ..Observation::default()
        };
        replicas = plan(&scaler.checked.spec, &mut state, &observation).to.0;
    }
    (state, observation)
}

#[test]
fn a_state_takes_eight_kibibytes_at_most_whatever_the_policy_and_goes_on_as_before() {
    let hpa = json!({"hpa": {"metrics": [{"type": "Pods", "pods": {
        "metric": {"name": "vllm_pending_requests"}, "target": {"type": "AverageValue", "averageValue": "5"}}}]}});
    let keda = json!({"keda": {"triggers": [{"type": "prometheus", "metadata": {
        "serverAddress": "http://prometheus:9090", "query": "sum(vllm:num_requests_waiting)", "threshold": "5"}}]}});
    let cases = [
        ("forewarm", json!({"forewarm": {}}), "240s"),
        ("forewarm, a short start", json!({"forewarm": {}}), "20s"),
        ("forewarm, an hour's start", json!({"forewarm": {}}), "1h"),
        (
            "queue depth",
            json!({"queueDepth": {"preWarm": {"threshold": 0.7, "leadTime": "180s", "maxQueue": 100}}}),
            "240s",
        ),
        ("hpa", hpa, "240s"),
        ("keda", keda, "240s"),
        ("kpa", json!({"kpa": {"metric": "concurrency", "target": "4"}}), "240s"),
        ("ray serve", json!({"rayServe": {}}), "240s"),
    ];
    for (what, policy, expected) in cases {
        let scaler = scaler(policy, expected);
        let (mut state, mut observation) = live(&scaler, 8);
        let text = encode(&state).unwrap();
        assert!(text.len() <= MAX_BYTES, "{what}: {} bytes", text.len());
        let mut read = decode(&text).unwrap();
        assert_eq!(read.target, state.target, "{what}");
        // The next look comes to the same number, from what was kept of the counters above all.
        observation.at = observation.at + std::time::Duration::from_secs(15);
        let (one, other) = (
            plan(&scaler.checked.spec, &mut state, &observation),
            plan(&scaler.checked.spec, &mut read, &observation),
        );
        let off = one.to.0.abs_diff(other.to.0);
        assert!(off <= 1, "{what}: {} and {}", one.summary(), other.summary());
    }
}

#[test]
fn after_a_week_everything_that_took_days_to_learn_is_kept() {
    let scaler = scaler(json!({"forewarm": {}}), "240s");
    let (state, _) = live(&scaler, 8 * 24);
    let text = encode(&state).unwrap();
    let read = serde_json::to_value(decode(&text).unwrap()).unwrap();
    let experts = read["anticipation"]["panel"]["experts"].as_array().unwrap();
    let seasons: Vec<_> = experts.iter().filter_map(|expert| expert["season"]["usual"].as_array()).collect();
    assert_eq!(seasons.len(), 3);
    assert!(seasons.iter().all(|parts| parts.iter().all(Value::is_number)), "{} bytes", text.len());
    // What a restart would miss for an hour.
    assert_eq!(
        read["anticipation"]["panel"]["history"].as_array().unwrap().len(),
        240,
        "{} bytes",
        text.len()
    );
}

#[test]
fn what_is_damaged_or_of_another_version_is_said_to_be_so() {
    let damaged = decode("bm90IGEgc3RhdGU=").unwrap_err().to_string();
    assert!(damaged.contains("damaged"), "{damaged}");
    assert!(decode("?").unwrap_err().to_string().contains("damaged"));
}
