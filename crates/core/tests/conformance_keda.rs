//! KEDA's surprises, one by one, and the HPA that it generates.
#![cfg(test)]

use std::collections::BTreeMap;

use forewarm_core::{
    Timestamp,
    peers::keda::{
        self, Annotations, ExecutorObservation, ExecutorState, FallbackInput, FallbackState, Formula,
        ScaledObjectSpec, Served, composite_value, generated_hpa,
    },
};
use serde_json::json;

fn spec(value: serde_json::Value) -> ScaledObjectSpec {
    serde_json::from_value(value).expect("a specification")
}

fn annotations(pairs: &[(&str, &str)]) -> Annotations {
    Annotations(
        pairs
            .iter()
            .map(|(key, value)| (format!("autoscaling.keda.sh/{key}"), (*value).to_owned()))
            .collect(),
    )
}

fn two_prometheus_triggers() -> serde_json::Value {
    json!([
        {"type": "prometheus", "name": "waiting", "metadata": {
            "serverAddress": "http://prometheus:9090", "query": "sum(waiting)", "threshold": "10"}},
        {"type": "prometheus", "name": "rate", "metadata": {
            "serverAddress": "http://prometheus:9090", "query": "sum(rate(requests[2m]))", "threshold": "0.5"}},
    ])
}

#[test]
fn the_generated_hpa_follows_every_trigger() {
    let spec = spec(json!({
        "scaleTargetRef": {"name": "vllm"}, "minReplicaCount": 0, "maxReplicaCount": 10, "cooldownPeriod": 300,
        "triggers": two_prometheus_triggers(),
    }));
    let hpa = generated_hpa("scaler", &spec, &annotations(&[("paused-scale-in", "true")])).expect("an HPA");
    let selector = json!({"matchLabels": {"scaledobject.keda.sh/name": "scaler"}});
    let external = |name: &str, target: &str| {
        json!({"type": "External", "external": {
            "metric": {"name": name, "selector": selector},
            "target": {"type": "AverageValue", "averageValue": target}}})
    };
    assert_eq!(
        serde_json::to_value(&hpa).expect("writes"),
        json!({
            "scaleTargetRef": {"kind": "Deployment", "name": "vllm", "apiVersion": "apps/v1"},
            "minReplicas": 1, "maxReplicas": 10,
            "metrics": [external("s0-prometheus", "10"), external("s1-prometheus", "500m")],
            "behavior": {"scaleDown": {"selectPolicy": "Disabled"}},
        })
    );
}

#[test]
fn a_formula_replaces_all_external_metrics_by_one() {
    let mut triggers = two_prometheus_triggers();
    triggers
        .as_array_mut()
        .expect("a list")
        .push(json!({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}));
    let spec = spec(json!({
        "scaleTargetRef": {"name": "vllm"}, "triggers": triggers,
        "fallback": {"failureThreshold": 3, "replicas": 4, "behavior": "scalingModifiers"},
        "advanced": {"scalingModifiers": {"formula": "max(waiting, rate) ?? rate", "target": "2"}},
    }));
    let hpa = generated_hpa("scaler", &spec, &Annotations::default()).expect("an HPA");
    let kinds: Vec<String> = hpa.metrics.iter().map(|metric| format!("{:?}", metric.r#type)).collect();
    assert_eq!(kinds, ["External", "Resource"]);
    let external = hpa.metrics[0].external.as_ref().expect("the composite");
    assert_eq!(external.metric.name, "composite-metric");
    assert_eq!(external.target.average_value.expect("a target").to_string(), "2");

    let formula = Formula::parse("waiting ?? rate").expect("a formula");
    formula.check_names(&["waiting", "rate"]).expect("known names");
    assert!(formula.check_names(&["waiting"]).is_err());
    let values = |waiting, rate| BTreeMap::from([("waiting".to_owned(), waiting), ("rate".to_owned(), rate)]);
    assert_eq!(composite_value(&spec, &formula, &values(None, Some(1.5))), Ok(1500));
    // Nothing at all: the fallback's 4 replicas times the target 2.
    assert_eq!(composite_value(&spec, &formula, &values(None, None)), Ok(8000));
}

#[test]
fn a_trigger_without_a_usable_target_is_named() {
    for (trigger, message) in [
        (
            json!({"type": "prometheus", "metadata": {"query": "x"}}),
            "triggers[0] (prometheus): metadata.threshold must be a positive number, not None",
        ),
        (
            json!({"type": "prometheus", "metadata": {"threshold": "many"}}),
            "triggers[0] (prometheus): metadata.threshold must be a positive number, not Some(\"many\")",
        ),
        (
            json!({"type": "unheard-of", "metadata": {}}),
            "triggers[0]: the target of type \"unheard-of\" is not known",
        ),
        (
            json!({"type": "kafka", "metadata": {"topic": "t"}, "metricType": "Utilization"}),
            "triggers[0].metricType: Utilization is only for cpu and memory; use AverageValue or Value",
        ),
    ] {
        let spec = spec(json!({"scaleTargetRef": {"name": "d"}, "triggers": [trigger]}));
        let error = generated_hpa("s", &spec, &Annotations::default()).expect_err("refused");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn the_cooldown_takes_any_count_straight_to_zero_and_must_be_exceeded() {
    let spec = spec(json!({"cooldownPeriod": 60, "initialCooldownPeriod": 10, "triggers": []}));
    let mut state = ExecutorState::default();
    let mut poll = |seconds: i64, replicas, is_active| {
        let seen = ExecutorObservation {
            now: Timestamp::from_millis(seconds * 1000),
            created_at: Timestamp::from_millis(0),
            replicas: Ok(replicas),
            is_active,
            is_error: false,
        };
        let plan = keda::plan(&spec, &Annotations::default(), &mut state, &seen);
        keda::settle(&mut state, plan, Ok(())).scale_to
    };
    assert_eq!(poll(10, 3, false), None);
    assert_eq!(poll(11, 3, false), Some(0));
    // To one, never to the need.
    assert_eq!(poll(20, 0, true), Some(1));
    assert_eq!(poll(50, 7, true), None);
    assert_eq!(poll(110, 7, false), None);
    assert_eq!(poll(111, 7, false), Some(0));
}

#[test]
fn annotations_that_are_no_booleans_count_as_true() {
    for (pairs, paused) in [
        (&[("paused", "yes-please")][..], true),
        (&[("paused", "false")], false),
        (&[("paused", "0")], false),
        (&[("paused-replicas", "5")], true),
        (&[("paused", "false"), ("paused-replicas", "5")], true),
        (&[], false),
    ] {
        assert_eq!(annotations(pairs).paused(), paused, "{pairs:?}");
    }
}

#[test]
fn a_fallback_begins_after_its_threshold_and_needs_ready_pods_for_a_total() {
    let spec = spec(json!({"fallback": {"failureThreshold": 1, "replicas": 6}, "triggers": []}));
    let target = serde_json::from_value(json!({"type": "Value", "value": "10"})).expect("a target");
    let mut state = FallbackState::default();
    let mut fail = |ready| {
        let reading = Err("timeout".to_owned());
        let input = FallbackInput {
            metric: "s0",
            target: &target,
            reading,
            replicas: Some(3),
            ready_pods: Some(ready),
        };
        keda::serve(&spec, &mut state, &input)
    };
    assert_eq!(fail(3), Served::Error("timeout".to_owned()));
    // 6 replicas over 3 ready pods: twice the target.
    assert_eq!(fail(3), Served::Fallback(20_000));
    assert_eq!(fail(0), Served::Error("error performing fallback".to_owned()));
}
