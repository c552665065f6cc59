//! What holds for the peers whatever they are fed.
#![cfg(test)]

use std::time::Duration;

use forewarm_core::{
    Timestamp,
    peers::{
        hpa::{
            ControllerConfig, HpaObservation, HpaSpec, HpaState, MetricAnswer, Pod, PodSample, Scale,
            evaluate,
        },
        keda::{self, Annotations, ExecutorObservation, ExecutorState, Formula, ScaledObjectSpec},
        kpa::{self, DeciderSpec, KpaObservation, KpaState, ScalingMetric, WindowAverages},
        ray_serve, sky_serve,
    },
    quantity::Quantity,
};
use proptest::prelude::*;
use serde_json::json;

fn seconds(value: i64) -> Timestamp {
    Timestamp::from_millis(value * 1000)
}

fn rules() -> impl Strategy<Value = serde_json::Value> {
    let policy = (any::<bool>(), 1..200_i32, 1..600_i32).prop_map(|(pods, value, period)| {
        json!({"type": if pods { "Pods" } else { "Percent" }, "value": value, "periodSeconds": period})
    });
    let select = prop_oneof![Just("Max"), Just("Min"), Just("Disabled")];
    (prop::collection::vec(policy, 1..3), 0..600_i32, select).prop_map(|(policies, window, select)| {
        json!({"policies": policies, "stabilizationWindowSeconds": window, "selectPolicy": select})
    })
}

fn hpa_spec() -> impl Strategy<Value = HpaSpec> {
    let behavior = prop_oneof![
        Just(serde_json::Value::Null),
        Just(json!({})),
        (rules(), rules()).prop_map(|(up, down)| json!({"scaleUp": up, "scaleDown": down})),
    ];
    (0..5_i32, 0..30_i32, 1..20_000_i64, behavior).prop_map(|(min, extra, target, behavior)| {
        serde_json::from_value(json!({
            "scaleTargetRef": {"kind": "Deployment", "name": "d"},
            "minReplicas": min, "maxReplicas": (min + extra).max(1), "behavior": behavior,
            "metrics": [
                {"type": "External", "external": {"metric": {"name": "e"},
                    "target": {"type": "AverageValue", "averageValue": format!("{target}m")}}},
                {"type": "Pods", "pods": {"metric": {"name": "p"},
                    "target": {"type": "AverageValue", "averageValue": format!("{target}m")}}},
            ],
        }))
        .expect("a specification")
    })
}

fn hpa_seen(t: i64, replicas: i32, total: i64, sample: i64) -> HpaObservation {
    let pods: Vec<Pod> = (0..replicas.min(50)).map(|index| Pod::running(format!("p{index}"))).collect();
    let sample = PodSample { value: sample, timestamp: seconds(t), window: Duration::from_secs(30) };
    let samples = pods.iter().map(|pod| (pod.name.clone(), sample)).collect();
    HpaObservation {
        now: seconds(t),
        scale: Ok(Scale { spec_replicas: replicas, status_replicas: replicas }),
        pods,
        metrics: vec![MetricAnswer::Series(vec![total]), MetricAnswer::PerPod(samples)],
    }
}

/// Any number, with the extremes often.
fn wild() -> impl Strategy<Value = i64> {
    prop_oneof![0..100_000_i64, any::<i64>(), Just(i64::MAX), Just(i64::MIN), Just(-1_i64), Just(0_i64)]
}

proptest! {
    #[test]
    fn the_hpa_stays_within_its_bounds_whatever_it_sees(
        spec in hpa_spec(),
        mut replicas in 0..60_i32,
        seen in prop::collection::vec((1..400_i64, wild(), wild()), 1..20),
    ) {
        let mut state = HpaState::default();
        let mut t = 0;
        for (step, total, sample) in seen {
            t += step;
            let outcome = evaluate(&spec, &ControllerConfig::default(), &mut state, &hpa_seen(t, replicas, total, sample));
            if let Some(update) = outcome.scale_update {
                prop_assert!((spec.min_replicas.unwrap_or(1)..=spec.max_replicas).contains(&update));
                prop_assert_ne!(update, replicas);
            }
            prop_assert!(outcome.steps.iter().all(|step| !step.to_string().is_empty()));
            replicas = outcome.desired.expect("the scale was read");
        }
    }

    #[test]
    fn the_hpa_comes_to_rest_when_nothing_changes(
        spec in hpa_spec(), replicas in 1..40_i32, total in 0..1_000_000_i64,
    ) {
        // One metric that more replicas do not move; the steps outlast every window and period.
        let spec = HpaSpec { metrics: spec.metrics[..1].to_vec(), ..spec };
        let (mut state, mut replicas) = (HpaState::default(), replicas);
        for round in 0..64 {
            let seen = hpa_seen(round * 601, replicas, total, 0);
            replicas = evaluate(&spec, &ControllerConfig::default(), &mut state, &seen).desired.expect("read");
        }
        let seen = hpa_seen(64 * 601, replicas, total, 0);
        prop_assert_eq!(evaluate(&spec, &ControllerConfig::default(), &mut state, &seen).scale_update, None);
    }

    #[test]
    fn more_load_never_means_fewer_hpa_replicas(
        spec in hpa_spec(), replicas in 1..40_i32, loads in (0..10_000_000_i64, 0..10_000_000_i64),
    ) {
        let desired = |load: i64| {
            let seen = hpa_seen(0, replicas, load, load / i64::from(replicas));
            evaluate(&spec, &ControllerConfig::default(), &mut HpaState::default(), &seen).desired
        };
        prop_assert!(desired(loads.0.min(loads.1)) <= desired(loads.0.max(loads.1)));
    }

    #[test]
    fn an_hpa_that_was_written_down_goes_on_as_if_nothing_had_happened(
        spec in hpa_spec(), replicas in 1..40_i32, loads in prop::collection::vec(0..1_000_000_i64, 2..12),
    ) {
        let (mut state, mut replicas) = (HpaState::default(), replicas);
        for (round, load) in loads.into_iter().enumerate() {
            let text = serde_json::to_string(&state).expect("writes");
            let mut restored: HpaState = serde_json::from_str(&text).expect("reads");
            let seen = hpa_seen(round as i64 * 30, replicas, load, load / 10);
            let outcome = evaluate(&spec, &ControllerConfig::default(), &mut state, &seen);
            prop_assert_eq!(&outcome, &evaluate(&spec, &ControllerConfig::default(), &mut restored, &seen));
            replicas = outcome.desired.expect("read");
        }
    }

    #[test]
    fn defaulting_twice_changes_nothing_and_a_spec_survives_json(spec in hpa_spec()) {
        let once = spec.defaulted();
        prop_assert_eq!(&once.defaulted(), &once);
        let text = serde_json::to_string(&spec).expect("writes");
        prop_assert_eq!(serde_json::from_str::<HpaSpec>(&text).expect("reads"), spec);
    }

    #[test]
    fn quantities_survive_their_text(milli in any::<i64>()) {
        let quantity = Quantity::from_milli(milli);
        prop_assert_eq!(quantity.to_string().parse::<Quantity>().expect("reads"), quantity);
    }

    #[test]
    fn no_text_upsets_a_quantity_or_a_formula(text in "[-+.0-9a-zA-Z ()*/?:#{},\\[\\]]{0,40}") {
        drop(text.parse::<Quantity>());
        if let Ok(formula) = Formula::parse(&text) {
            drop(formula.evaluate_milli(&std::collections::BTreeMap::new()));
        }
    }

    #[test]
    fn more_load_never_means_fewer_kpa_pods_and_rates_hold(
        ready in 0..50_i32, loads in (0.0..1e6_f64, 0.0..1e6_f64), target in 0.01..100.0_f64,
    ) {
        let spec = DeciderSpec {
            max_scale_up_rate: 10.0,
            max_scale_down_rate: 2.0,
            scaling_metric: ScalingMetric::Concurrency,
            target_value: target,
            total_value: target,
            target_burst_capacity: 211.0,
            activator_capacity: 100.0,
            panic_threshold: 2.0,
            stable_window: Duration::from_secs(60),
            scale_down_delay: Duration::ZERO,
            initial_scale: 1,
            reachable: true,
            activation_scale: 0,
        };
        let desired = |load: f64| {
            let mut state = KpaState::new(&spec, Some(0), seconds(0));
            let seen = KpaObservation {
                now: seconds(2),
                ready_pods: Ok(ready),
                metric: Ok(WindowAverages { stable: load, panic: load }),
            };
            kpa::scale(&spec, &mut state, &seen).desired.expect("all is known")
        };
        let (low, high) = (desired(loads.0.min(loads.1)), desired(loads.0.max(loads.1)));
        prop_assert!(low <= high);
        prop_assert!(high <= 10 * ready.max(1));
        prop_assert!(low >= ready.max(1) / 2);
    }

    #[test]
    fn keda_writes_only_idle_the_minimum_or_one(
        min in 0..4_i32, idle in prop::option::of(0..4_i32),
        polls in prop::collection::vec((any::<bool>(), any::<bool>(), 0..6_i32), 1..20),
    ) {
        let spec = ScaledObjectSpec {
            min_replica_count: Some(min), idle_replica_count: idle, ..ScaledObjectSpec::default()
        };
        let mut state = ExecutorState::default();
        for (round, (is_active, is_error, replicas)) in polls.into_iter().enumerate() {
            let seen = ExecutorObservation {
                now: seconds(round as i64 * 100), created_at: seconds(-1),
                replicas: Ok(replicas), is_active, is_error,
            };
            let plan = keda::plan(&spec, &Annotations::default(), &mut state, &seen);
            if let Some(to) = plan.scale_to() {
                prop_assert!(to == min || to == 1 || Some(to) == idle);
                prop_assert!(is_active || !is_error, "a failing trigger never takes a target away");
            }
            keda::settle(&mut state, plan, Ok(()));
        }
    }

    #[test]
    fn ray_and_sky_stay_within_their_bounds(
        (min, extra) in (0..5_i32, 1..20_i32), loads in prop::collection::vec(0.0..1e9_f64, 1..40),
    ) {
        let max = min + extra;
        let ray = ray_serve::RayServeSpec { min_replicas: min, max_replicas: max, ..Default::default() };
        let sky = sky_serve::SkyServeSpec {
            min_replicas: min, max_replicas: max, target_qps_per_replica: Some(0.5), ..Default::default()
        };
        let (mut ray_state, mut sky_state) = (ray_serve::RayServeState::default(), sky_serve::SkyServeState::new(&sky));
        let mut replicas = min;
        for (round, load) in loads.into_iter().enumerate() {
            let seen = ray_serve::RayServeObservation {
                now: seconds(round as i64 * 20), running: replicas, target: replicas, ongoing_requests: load,
            };
            replicas = ray_serve::decide(&ray, &mut ray_state, &seen).0;
            prop_assert!((min..=max).contains(&replicas));
            let (target, _) = sky_serve::decide(&sky, &mut sky_state, load as u64);
            prop_assert!((min..=max).contains(&target));
        }
    }
}
