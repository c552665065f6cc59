//! The HPA's surprises, one by one, with numbers worked out by hand.
#![cfg(test)]

use std::collections::BTreeMap;

use forewarm_core::{
    Timestamp,
    peers::hpa::{
        ConditionStatus, ConditionType, ControllerConfig, HpaObservation, HpaOutcome, HpaReason, HpaSpec,
        HpaState, MetricAnswer, Observed, Pod, PodPhase, PodSample, Scale, evaluate, plan, settle,
    },
};
use serde_json::json;

/// One HPA over time; the pods are as many as the scale asks for, and all ready.
struct Hpa {
    spec: HpaSpec,
    state: HpaState,
    replicas: i32,
}

fn spec(metric: serde_json::Value, rest: serde_json::Value) -> HpaSpec {
    let mut spec = json!({
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
        "minReplicas": 1, "maxReplicas": 100, "metrics": metric,
    });
    for (key, value) in rest.as_object().cloned().unwrap_or_default() {
        spec[key] = value;
    }
    serde_json::from_value(spec).expect("a specification")
}

fn pods_metric(target: &str) -> serde_json::Value {
    json!([{"type": "Pods", "pods": {
        "metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": target}}}])
}

fn external_metric(kind: &str, target: &str) -> serde_json::Value {
    let key = if kind == "Value" { "value" } else { "averageValue" };
    json!([{"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": kind, key: target}}}])
}

fn pods(count: i32) -> Vec<Pod> {
    (0..count).map(|index| Pod::running(format!("p{index}"))).collect()
}

fn per_pod(values: &[i64]) -> MetricAnswer {
    let sample = |value: &i64| PodSample {
        value: *value,
        timestamp: Timestamp::default(),
        window: std::time::Duration::from_secs(60),
    };
    let samples: BTreeMap<String, PodSample> =
        values.iter().enumerate().map(|(index, value)| (format!("p{index}"), sample(value))).collect();
    MetricAnswer::PerPod(samples)
}

fn seen(seconds: i64, replicas: i32, metrics: Vec<MetricAnswer>) -> HpaObservation {
    HpaObservation {
        now: Timestamp::from_millis(seconds * 1000),
        scale: Ok(Scale { spec_replicas: replicas, status_replicas: replicas }),
        pods: pods(replicas),
        metrics,
    }
}

impl Hpa {
    fn new(spec: HpaSpec, replicas: i32) -> Self {
        Self { spec, state: HpaState::default(), replicas }
    }

    fn at(&mut self, seconds: i64, metric: MetricAnswer) -> HpaOutcome {
        let observation = seen(seconds, self.replicas, vec![metric]);
        let outcome = evaluate(&self.spec, &ControllerConfig::default(), &mut self.state, &observation);
        self.replicas = outcome.desired.expect("the scale was read");
        outcome
    }

    fn even(&mut self, seconds: i64, value: i64) -> i32 {
        let metric = per_pod(&vec![value; usize::try_from(self.replicas).expect("a count")]);
        self.at(seconds, metric).desired.expect("the scale was read")
    }
}

fn condition(outcome: &HpaOutcome, r#type: ConditionType) -> String {
    let condition = outcome.conditions.get(r#type).expect("the condition is set");
    format!("{:?}/{}", condition.status, condition.reason)
}

#[test]
fn averages_are_truncated_before_the_ratio() {
    // 3042/1500 = 2.028 → 3; 34480/10 = 3448, 3448/2000 = 1.724 → 18; 2776000/9 = 308444.
    assert_eq!(Hpa::new(spec(pods_metric("1500m"), json!({})), 1).even(0, 3042), 3);
    let mut ten = Hpa::new(spec(pods_metric("2"), json!({})), 10);
    let outcome = ten.at(0, per_pod(&[3448, 3448, 3448, 3448, 3448, 3448, 3448, 3448, 3448, 3448]));
    assert_eq!(outcome.scale_update, Some(18));
    let mut nine = Hpa::new(spec(pods_metric("100"), json!({})), 9);
    let outcome = nine.at(0, per_pod(&[2_776_000, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(outcome.observed, [Some(Observed::Average { milli: 308_444 })]);
    // 28 is wanted, 2 × 9 is allowed.
    assert_eq!(outcome.scale_update, Some(18));
    assert_eq!(condition(&outcome, ConditionType::ScalingLimited), "True/ScaleUpLimit");
}

#[test]
fn without_a_behavior_a_step_at_most_doubles_or_reaches_four() {
    // 57115/10000 → 6, but one replica may only become four.
    let mut hpa = Hpa::new(spec(pods_metric("10"), json!({})), 1);
    let outcome = hpa.at(0, per_pod(&[57_115]));
    assert_eq!(outcome.scale_update, Some(4));
    assert!(outcome.steps.contains(&HpaReason::RateLimited { wish: 6, allowed: 4, result: 4 }));
}

#[test]
fn percent_policies_are_floating_point() {
    let up = json!({"behavior": {"scaleUp": {"policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}]}}});
    // 50 × 1.1 = 55.00000000000001 in floating point, while 10 × 1.1 is 11 exactly.
    assert_eq!(Hpa::new(spec(pods_metric("1"), up.clone()), 50).even(0, 100_000), 56);
    assert_eq!(Hpa::new(spec(pods_metric("1"), up), 10).even(0, 100_000), 11);
    // 5 × (1 - 0.8) = 0.9999999999999998, truncated.
    let down = json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0,
        "policies": [{"type": "Percent", "value": 80, "periodSeconds": 60}]}}, "minReplicas": 0});
    let metric = external_metric("AverageValue", "1");
    let mut hpa = Hpa::new(spec(metric, down), 5);
    assert_eq!(hpa.at(15, MetricAnswer::Series(vec![0])).scale_update, Some(0));
}

#[test]
fn a_tolerance_is_read_as_an_integer_times_a_power_of_ten() {
    // 1 - 0.7000000000000001 = 0.2999999999999999: a ratio of 0.3 is still within.
    let behavior = json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0, "tolerance": "0.7"}}});
    let mut hpa = Hpa::new(spec(pods_metric("10"), behavior), 10);
    assert_eq!(hpa.even(0, 3000), 10);
    assert_eq!(hpa.even(15, 2999), 3);
}

#[test]
fn a_quantity_is_stored_as_written_where_only_its_looks_are_not_canonical() {
    // 2.125 is 2125 thousandths with a point in it, and 7E0 is 7; 1.5 needs other digits: 1500m.
    for (written, stored) in [("2.125", "2.125"), ("7E0", "7E0"), ("1.5", "1500m"), ("2.000", "2")] {
        let defaulted =
            serde_json::to_value(spec(pods_metric(written), json!({})).defaulted()).expect("JSON");
        assert_eq!(defaulted["metrics"][0]["pods"]["target"]["averageValue"], stored);
    }
    // 4250/2125 = 2, exactly two for each.
    assert_eq!(Hpa::new(spec(pods_metric("2.125"), json!({})), 2).even(0, 4250), 4);
}

#[test]
fn a_recent_removal_raises_the_allowance_for_adding() {
    // The policy's period starts from 6 - 0 + 1 = 7, so up to 9 are allowed and 8 is the maximum.
    let seed = json!({"maxReplicas": 8, "behavior": {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
        "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}]}}});
    let mut hpa = Hpa::new(spec(pods_metric("5"), seed), 7);
    assert_eq!(hpa.even(0, 0), 6);
    assert_eq!(hpa.even(30, 20_000), 8);
}

#[test]
fn out_of_bounds_goes_there_at_once_without_reading_a_metric() {
    let mut hpa = Hpa::new(spec(pods_metric("5"), json!({"maxReplicas": 8})), 30);
    let outcome = hpa.at(0, MetricAnswer::Failed("nobody asks".to_owned()));
    assert_eq!(outcome.scale_update, Some(8));
    assert_eq!(outcome.observed, []);
    assert!(outcome.steps.contains(&HpaReason::OutOfBounds { current: 30, bound: 8 }));
}

#[test]
fn the_first_reconcile_remembers_the_count_it_found() {
    let mut hpa = Hpa::new(spec(pods_metric("5"), json!({})), 10);
    let outcome = hpa.at(0, per_pod(&[0; 10]));
    assert_eq!(outcome.desired, Some(10));
    assert_eq!(condition(&outcome, ConditionType::AbleToScale), "True/ScaleDownStabilized");
    assert_eq!(hpa.even(300, 0), 10);
    assert_eq!(hpa.even(301, 0), 1);
}

#[test]
fn zero_is_only_left_by_who_went_there() {
    let zero = json!({"minReplicas": 0, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}});
    let mut manual = Hpa::new(spec(external_metric("Value", "1"), zero.clone()), 0);
    let outcome = manual.at(0, MetricAnswer::Series(vec![50_000]));
    assert_eq!(outcome.desired, Some(0));
    assert_eq!(condition(&outcome, ConditionType::ScalingActive), "False/ScalingDisabled");

    let mut own = Hpa::new(spec(external_metric("Value", "1"), zero), 1);
    assert_eq!(own.at(15, MetricAnswer::Series(vec![0])).desired, Some(0));
    // From nothing there is no tolerance: 1.05 asks for two.
    assert_eq!(own.at(30, MetricAnswer::Series(vec![1050])).desired, Some(2));
}

#[test]
fn a_failing_metric_blocks_shrinking_only() {
    let mut metrics = external_metric("AverageValue", "1");
    metrics.as_array_mut().expect("a list").push(pods_metric("5")[0].clone());
    let spec = spec(metrics, json!({}));
    let failed = || MetricAnswer::Failed("timeout".to_owned());
    for (usage, update, active) in
        [(9_000, Some(9), "True/ValidMetricFound"), (2_000, None, "False/FailedGetPodsMetric")]
    {
        let observation = seen(0, 5, vec![MetricAnswer::Series(vec![usage]), failed()]);
        let outcome = evaluate(&spec, &ControllerConfig::default(), &mut HpaState::default(), &observation);
        assert_eq!(outcome.scale_update, update, "{usage}");
        assert_eq!(condition(&outcome, ConditionType::ScalingActive), active);
    }
}

#[test]
fn negative_sums_and_overflows_are_what_go_makes_of_them() {
    let negative = Hpa::new(spec(external_metric("AverageValue", "1"), json!({})), 2)
        .at(0, MetricAnswer::Series(vec![-1]));
    assert_eq!(negative.observed, [Some(Observed::Average { milli: i64::MAX })]);
    // A negative total asks for nothing, and the minimum is kept.
    let mut hpa = Hpa::new(spec(external_metric("Value", "1"), json!({})), 2);
    hpa.at(0, MetricAnswer::Series(vec![-5000]));
    assert_eq!(hpa.at(301, MetricAnswer::Series(vec![-5000])).desired, Some(1));
    let huge = Hpa::new(spec(external_metric("Value", "1"), json!({})), 2)
        .at(0, MetricAnswer::Series(vec![i64::MAX, i64::MAX]));
    assert_eq!(huge.desired, Some(4));
}

#[test]
fn silent_pods_make_changes_smaller() {
    let observe = |values: &[i64], pending: bool| {
        let mut observation = seen(0, 4, vec![per_pod(values)]);
        if pending {
            observation.pods[3].phase = PodPhase::Pending;
        }
        let spec = spec(pods_metric("10"), json!({}));
        evaluate(&spec, &ControllerConfig::default(), &mut HpaState::default(), &observation)
    };
    // Two of four report 20: the others count as 0 when growing, and 20·2/4 = 10 is the target.
    assert_eq!(observe(&[20_000, 20_000], false).desired, Some(4));
    // Three report 30, one is pending: 90/4 = 22.5 → 9, cut to 8.
    assert_eq!(observe(&[30_000, 30_000, 30_000], true).desired, Some(8));
}

#[test]
fn cpu_samples_of_a_starting_pod_are_not_trusted() {
    let cpu = |ready_since: i64, sampled: i64, now: i64| {
        let mut observation = seen(now, 2, vec![per_pod(&[900, 900])]);
        for pod in &mut observation.pods {
            pod.started = Some(Timestamp::from_millis(0));
            pod.containers = serde_json::from_value::<Vec<BTreeMap<String, BTreeMap<String, i64>>>>(
                json!([{"requests": {"cpu": 500}}]),
            )
            .expect("containers")
            .into_iter()
            .map(|mut container| forewarm_core::peers::hpa::Container {
                name: "main".to_owned(),
                requests: container.remove("requests").unwrap_or_default(),
            })
            .collect();
            if let Some(ready) = &mut pod.ready {
                ready.since = Some(Timestamp::from_millis(ready_since * 1000));
            }
        }
        if let MetricAnswer::PerPod(samples) = &mut observation.metrics[0] {
            for sample in samples.values_mut() {
                sample.timestamp = Timestamp::from_millis(sampled * 1000);
            }
        }
        let spec = spec(json!([]), json!({}));
        let config = ControllerConfig::default();
        evaluate(&spec, &config, &mut HpaState::default(), &observation).scale_update
    };
    // 180 % of the request against 80 %: ceil(2.25 × 2) = 5, cut to 4.
    assert_eq!(cpu(10, 70, 100), Some(4));
    // The sample's window began before the pod was ready.
    assert_eq!(cpu(10, 69, 100), None);
    // After the initialisation period it counts.
    assert_eq!(cpu(10, 69, 300), Some(4));
}

#[test]
fn a_scale_that_cannot_be_read_or_written_leaves_no_event() {
    let spec = spec(pods_metric("1"), json!({"behavior": {}}));
    let config = ControllerConfig::default();
    let mut state = HpaState::default();
    let unread = HpaObservation { scale: Err("gone".to_owned()), ..seen(0, 2, Vec::new()) };
    let outcome = evaluate(&spec, &config, &mut state, &unread);
    assert_eq!((outcome.desired, outcome.scale_update), (None, None));
    assert_eq!(condition(&outcome, ConditionType::AbleToScale), "False/FailedGetScale");

    let observation = seen(15, 2, vec![per_pod(&[9000, 9000])]);
    let planned = plan(&spec, &config, &mut state, &observation);
    assert_eq!(planned.scale_update(), Some(6));
    let outcome = settle(&spec, &mut state, planned, Err("conflict".to_owned()));
    assert_eq!(outcome.desired, Some(2));
    assert_eq!(condition(&outcome, ConditionType::AbleToScale), "False/FailedUpdateScale");
    // Nothing was added, so the next attempt may go as far.
    let again = evaluate(
        &spec,
        &config,
        &mut state,
        &HpaObservation { now: Timestamp::from_millis(16_000), ..observation },
    );
    assert_eq!(again.scale_update, Some(6));
}

#[test]
fn every_step_has_a_sentence() {
    let mut hpa = Hpa::new(spec(pods_metric("10"), json!({})), 1);
    let sentences: Vec<String> =
        hpa.at(0, per_pod(&[57_115])).steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        sentences,
        [
            "pods metric m: average 57.115 per pod / target 10 = 5.7115, × 1 pods → 6",
            "the largest proposal counts: 6, from pods metric m",
            "stabilised: 6 → 6 (recent recommendations between 6 and 6)",
            "speed limit: 6 → 4 (up to 4 is allowed now)",
            "bounds 1 to 100: 6 → 4",
            "rescaled from 1 to 4: pods metric m above target",
        ]
    );
}

#[test]
fn conditions_stay_until_they_are_set_again() {
    let mut hpa = Hpa::new(spec(pods_metric("10"), json!({})), 1);
    hpa.at(0, per_pod(&[57_115]));
    let failed = hpa.at(15, MetricAnswer::Failed("timeout".to_owned()));
    assert_eq!(condition(&failed, ConditionType::ScalingLimited), "True/ScaleUpLimit");
    assert_eq!(condition(&failed, ConditionType::AbleToScale), "True/SucceededGetScale");
    let status = failed.conditions.get(ConditionType::ScalingActive).expect("set").status;
    assert_eq!(status, ConditionStatus::False);
}
