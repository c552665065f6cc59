//! The peers' rules as policies of the pipeline: the peer's own number comes out, at the peer's own moments.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::{
    Behavior, Bounds, Cadence, Decision, DynamoPolicy, Environment, HpaPolicy, KedaPolicy, KpaPolicy,
    Missing, Mode, Observation, Phase, Policy, RayServePolicy, Reading, Replica, Replicas, ScalerSpec,
    ScalerState, Signal, SkyServePolicy, Timestamp,
    peers::{
        hpa::{
            self, ConditionStatus, ControllerConfig, HpaObservation, HpaSpec, HpaState, MetricAnswer,
            MetricSpec, Pod, PodPhase, PodSample, Readiness, Scale,
        },
        ray_serve::RayServeSpec,
        sky_serve::SkyServeSpec,
    },
    plan,
};
use proptest::prelude::*;
use serde_json::json;

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn scaler(min: u32, max: u32, policy: Policy) -> ScalerSpec {
    let mut spec = ScalerSpec::new("vllm", Bounds::new(min, max).unwrap(), policy);
    spec.environment = Environment::Dev;
    spec
}

fn observation(seconds: f64, phases: &[Phase], signals: &[(&str, Signal)]) -> Observation {
    Observation {
        at: at(seconds),
        replicas: phases.iter().enumerate().map(|(i, phase)| Replica::new(format!("p{i}"), *phase)).collect(),
        signals: signals.iter().map(|(name, signal)| ((*name).into(), signal.clone())).collect(),
        ..Observation::default()
    }
}

/// A signal with a share for each of `p0`, `p1`, ….
fn shares(values: &[f64]) -> Signal {
    let per_replica = values.iter().enumerate().map(|(i, value)| (format!("p{i}").into(), *value)).collect();
    Signal { reading: Reading::Value { total: values.iter().sum(), per_replica }, age: Duration::ZERO }
}

fn reasons(decision: &Decision) -> Vec<String> {
    decision.steps.iter().map(|step| step.reason.to_string()).collect()
}

fn metrics(value: serde_json::Value) -> Vec<MetricSpec> {
    serde_json::from_value(value).unwrap()
}

/// The metrics and the behavior of `examples/seed/hpa.yaml`.
fn seed_hpa() -> HpaPolicy {
    let pods = |name: &str, target: &str| {
        json!({"type": "Pods", "pods": {
            "metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": target}}})
    };
    let behavior = json!({
        "scaleUp": {"stabilizationWindowSeconds": 30, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
        "scaleDown": {"stabilizationWindowSeconds": 600, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}]},
    });
    HpaPolicy::new(
        metrics(json!([pods("vllm_pending_requests", "5"), pods("nvidia_gpu_duty_cycle", "70")])),
        Some(serde_json::from_value(behavior).unwrap()),
    )
}

/// The two triggers of `examples/seed/scaledobject.yaml`.
fn seed_keda(extra: serde_json::Value) -> KedaPolicy {
    let prometheus = |query: &str, threshold: &str| {
        json!({"type": "prometheus", "metadata": {
            "serverAddress": "http://prometheus:9090", "query": query, "threshold": threshold}})
    };
    let mut object = json!({
        "cooldownPeriod": 300,
        "triggers": [
            prometheus("sum(vllm_num_requests_waiting{namespace=\"ai-serving\"})", "10"),
            prometheus("rate(http_requests_total{job=\"vllm\"}[2m])", "20"),
        ],
    });
    object.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    KedaPolicy::new(serde_json::from_value(object).unwrap())
}

#[test]
fn a_per_pod_queue_is_the_engines_own_and_a_share_of_the_gateways() {
    let spec = scaler(1, 8, Policy::Hpa(Box::new(seed_hpa())));
    let fleet = [Phase::Ready, Phase::Ready, Phase::Loading, Phase::Provisioning, Phase::Draining];
    let signals = [
        ("queued", Signal::value(10.0)),
        ("waiting", shares(&[3.0, 1.0])),
        ("gpu_utilization", shares(&[70.0, 70.0])),
    ];
    let decision = plan(&spec, &mut ScalerState::default(), &observation(0.0, &fleet, &signals));
    let told = reasons(&decision);
    // (3 + 5 and 1 + 5) over two pods, and nothing known of the loading one.
    assert!(told[0].contains("average 7 per pod / target 5 = 1.4000"), "{told:?}");
    assert!(told[0].contains("2 pods (1 not ready, 1 without a sample, 1 ignored)"), "{told:?}");
}

#[test]
fn an_hpa_decides_every_fifteen_seconds_and_keeps_its_number_in_between() {
    let spec = scaler(1, 8, Policy::Hpa(Box::new(HpaPolicy { behavior: None, ..seed_hpa() })));
    let mut state = ScalerState::default();
    let seen = |t: f64, waiting: f64| {
        let signals = [("waiting", Signal::value(waiting)), ("gpu_utilization", Signal::value(50.0))];
        observation(t, &[Phase::Ready], &signals)
    };
    let first = plan(&spec, &mut state, &seen(0.0, 4.0));
    assert_eq!((first.to, first.wake_at), (Replicas(1), Some(at(15.0))));
    let between = plan(&spec, &mut state, &seen(14.9, 400.0));
    assert_eq!((between.to, between.wake_at), (Replicas(1), Some(at(15.0))));
    assert_eq!(reasons(&between), ["the policy decides again in 0 s"]);
    let second = plan(&spec, &mut state, &seen(15.0, 400.0));
    assert_eq!(second.to, Replicas(4), "{:?}", reasons(&second));
    assert!(
        second.summary().contains("pods metric vllm_pending_requests: average 400 per pod"),
        "{}",
        second.summary()
    );
}

#[test]
fn a_missing_metric_holds_an_hpa_and_the_error_names_the_signal_to_provide() {
    let spec = scaler(1, 8, Policy::Hpa(Box::new(seed_hpa())));
    let fleet = [Phase::Ready; 3];
    let decide = |signals: &[(&str, Signal)]| {
        let decision = plan(&spec, &mut ScalerState::default(), &observation(0.0, &fleet, signals));
        (decision.to, reasons(&decision).join("\n"))
    };
    let idle = shares(&[0.0; 3]);
    let stale = Signal { age: Duration::from_secs(61), ..idle.clone() };
    let failed = Signal::missing(Missing::Failed("timeout".into()));
    let cases: [(&[(&str, Signal)], &str); 5] = [
        (
            &[("waiting", idle.clone())],
            "`nvidia_gpu_duty_cycle` is read from `gpu_utilization`, and there is no such",
        ),
        (&[("gpu_utilization", idle.clone())], "is read from `queued` and `waiting`, and there is no such"),
        (&[("waiting", stale), ("gpu_utilization", idle.clone())], "`waiting`: the last value is 61 s old"),
        (&[("waiting", failed), ("gpu_utilization", idle.clone())], "could not be read: timeout"),
        (
            &[("waiting", Signal::value(9.0)), ("gpu_utilization", idle.clone())],
            "`waiting` has a total but no value per replica",
        ),
    ];
    for (signals, wanted) in cases {
        let (to, told) = decide(signals);
        assert_eq!(to, Replicas(3), "{told}");
        assert!(told.contains(wanted), "{told}");
    }
    // A signal of the metric's own name comes first.
    let own = [
        ("vllm_pending_requests", shares(&[5.0; 3])),
        ("waiting", idle.clone()),
        ("nvidia_gpu_duty_cycle", idle),
    ];
    assert!(decide(&own).1.contains("average 5 per pod"));
}

#[test]
fn keda_wakes_to_one_and_goes_to_zero_after_the_cooldown() {
    let spec = scaler(0, 10, Policy::Keda(Box::new(seed_keda(json!({})))));
    let mut state = ScalerState::default();
    let mut arrived = 0.0;
    let mut decide = |t: f64, fleet: &[Phase], queued: f64| {
        arrived += queued;
        let signals = [("queued", Signal::value(queued)), ("arrivals_total", Signal::value(arrived))];
        let decision = plan(&spec, &mut state, &observation(t, fleet, &signals));
        (decision.to.0, reasons(&decision).join("\n"))
    };
    assert_eq!(decide(0.0, &[], 0.0).0, 0);
    let (to, told) = decide(15.0, &[], 100.0);
    assert_eq!(to, 0, "nobody polls before 30 s: {told}");
    let (to, told) = decide(30.0, &[], 100.0);
    assert_eq!(to, 1, "to one, never to the need: {told}");
    assert!(told.contains("triggers are active: straight to 1"), "{told}");
    let (to, told) = decide(45.0, &[Phase::Loading], 100.0);
    assert_eq!(to, 4, "now the HPA counts, by its default behavior: {told}");
    // Idle from here on; the rate falls to zero within its window of two minutes.
    let ready = [Phase::Ready; 10];
    let mut last = (4, String::new());
    let mut zero_at = None;
    for step in 4..60 {
        let t = f64::from(step) * 15.0;
        last = decide(t, &ready[..last.0 as usize], 0.0);
        if last.0 == 0 && zero_at.is_none() {
            zero_at = Some(t);
        }
    }
    // Last active at the poll of 120 s, when requests of 30 s and 45 s still count; more than 300 s later is 450 s.
    assert_eq!(zero_at, Some(450.0), "{}", last.1);
}

#[test]
fn keda_reads_nothing_as_zero_and_serves_its_fallback_when_a_trigger_fails() {
    let fallback = json!({"fallback": {"failureThreshold": 1, "replicas": 6}});
    let mut spec = scaler(1, 10, Policy::Keda(Box::new(seed_keda(fallback))));
    spec.cadence = Cadence::EveryObservation;
    let mut state = ScalerState::default();
    let mut decide = |t: f64, waiting: Signal| {
        let signals = [("waiting", waiting), ("http_requests_total", Signal::value(0.0))];
        let decision = plan(&spec, &mut state, &observation(t, &[Phase::Ready; 2], &signals));
        (decision.to.0, reasons(&decision).join("\n"))
    };
    let (to, told) = decide(0.0, Signal::missing(Missing::Absent));
    assert_eq!(to, 2, "the window of the HPA holds: {told}");
    assert!(told.contains("trigger s0-prometheus has no value, which KEDA reads as 0"), "{told}");
    let (_, told) = decide(15.0, Signal::missing(Missing::Failed("timeout".into())));
    assert!(
        told.contains("trigger s0-prometheus failed: `waiting`: the source could not be read: timeout"),
        "{told}"
    );
    let (to, told) = decide(30.0, Signal::missing(Missing::Failed("timeout".into())));
    assert_eq!(to, 4, "six, at the speed of the HPA: {told}");
    assert!(told.contains("s0-prometheus failed too often"), "{told}");
}

#[test]
fn a_paused_object_has_no_hpa_either() {
    let mut policy = seed_keda(json!({}));
    policy.annotations.0.insert("autoscaling.keda.sh/paused".into(), "true".into());
    let spec = scaler(1, 10, Policy::Keda(Box::new(policy)));
    let signals = [("waiting", Signal::value(100.0)), ("arrivals_total", Signal::value(0.0))];
    let decision = plan(&spec, &mut ScalerState::default(), &observation(0.0, &[Phase::Ready], &signals));
    assert_eq!((decision.to, reasons(&decision)), (Replicas(1), vec!["paused by annotation".to_owned()]));
}

#[test]
fn a_formula_over_triggers_is_the_one_metric_of_keda() {
    let trigger = |name: &str| {
        json!({"type": "prometheus", "name": name, "metadata": {
            "serverAddress": "http://prometheus:9090", "query": "up", "threshold": "1"}})
    };
    let object = json!({
        "triggers": [trigger("engines"), trigger("gateway")],
        "advanced": {"scalingModifiers": {"formula": "engines + gateway", "target": "5"}},
    });
    let policy = KedaPolicy::new(serde_json::from_value(object).unwrap());
    let spec = scaler(1, 10, Policy::Keda(Box::new(policy)));
    let signals = [("engines", Signal::value(8.0)), ("gateway", Signal::value(7.0))];
    let decision = plan(&spec, &mut ScalerState::default(), &observation(0.0, &[Phase::Ready], &signals));
    assert_eq!(decision.to, Replicas(3), "{:?}", reasons(&decision));
}

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), (*value).to_owned())).collect()
}

#[test]
fn kpa_panics_on_a_burst_and_does_not_shrink_while_it_does() {
    let policy = KpaPolicy::new(annotations(&[("target", "10")]), BTreeMap::new(), 0).unwrap();
    let spec = scaler(1, 20, Policy::Kpa(Box::new(policy)));
    let mut state = ScalerState::default();
    let mut decide = |t: f64, load: f64| {
        let signals = [("in_flight", Signal::value(load)), ("queued", Signal::value(0.0))];
        plan(&spec, &mut state, &observation(t, &[Phase::Ready], &signals))
    };
    for t in 0..30 {
        assert_eq!(decide(f64::from(t) * 2.0, 5.0).to, Replicas(1));
    }
    // 70 % of 10 is the target. After 6 s of 70 the panic window is full of it: 70 / 7.
    let burst: Vec<Decision> = (30..33).map(|t| decide(f64::from(t) * 2.0, 70.0)).collect();
    assert!(reasons(&burst[2]).iter().any(|reason| reason.starts_with("panic:")), "{:?}", reasons(&burst[2]));
    let peak = burst[2].to;
    assert!(peak >= Replicas(8), "{:?}", reasons(&burst[2]));
    let calm = decide(66.0, 0.0);
    assert!(calm.to >= peak, "{:?}", reasons(&calm));
    let after: Vec<Decision> = (34..120).map(|t| decide(f64::from(t) * 2.0, 0.0)).collect();
    assert_eq!(after.last().unwrap().to, Replicas(1));
}

#[test]
fn kpa_averages_over_time_however_seldom_it_is_asked() {
    let policy = KpaPolicy::new(annotations(&[("target", "10")]), BTreeMap::new(), 0).unwrap();
    let mut spec = scaler(1, 20, Policy::Kpa(Box::new(policy)));
    spec.cadence = Cadence::EveryObservation;
    let mut state = ScalerState::default();
    let mut told = Vec::new();
    for (t, load) in [(0.0, 6.0), (15.0, 6.0), (30.0, 6.0)] {
        let seen = observation(t, &[Phase::Ready], &[("in_flight", Signal::value(load))]);
        told = reasons(&plan(&spec, &mut state, &seen));
    }
    assert!(told[0].starts_with("stable window: 6.000 / target 7 → 1"), "{told:?}");
}

#[test]
fn kpa_lets_the_last_pod_go_and_wakes_at_once() {
    let spec = scaler(0, 20, Policy::Kpa(Box::default()));
    let mut state = ScalerState::default();
    let mut decide = |t: f64, fleet: &[Phase], queued: f64| {
        let signals = [("in_flight", Signal::value(0.0)), ("queued", Signal::value(queued))];
        plan(&spec, &mut state, &observation(t, fleet, &signals))
    };
    let mut gone_at = None;
    for t in 0..60 {
        let decision = decide(f64::from(t) * 2.0, &[Phase::Ready], 0.0);
        if decision.to == Replicas(0) && gone_at.is_none() {
            gone_at = Some(t * 2);
        }
    }
    assert_eq!(gone_at, Some(62), "active for the stable window, then one tick for the activator");
    let woken = decide(119.0, &[], 3.0);
    assert_eq!(woken.to, Replicas(1), "between two ticks: {:?}", reasons(&woken));
}

#[test]
fn the_other_peers_decide_at_their_own_moments() {
    let ray = RayServeSpec { target_ongoing_requests: 2.0, ..RayServeSpec::default() };
    let sky = SkyServeSpec { target_qps_per_replica: Some(0.1), ..SkyServeSpec::default() };
    let measured = DynamoPolicy { engine_requests_per_second: Some(0.25), ..DynamoPolicy::default() };
    // Requests in flight, the policy, between two decisions, when it gets where.
    let cases = [
        (10.0, Policy::RayServe(RayServePolicy { rules: ray }), 10.0, 30.0, 5),
        // One request a second is worth 10 replicas, once it was wished 15 times.
        (10.0, Policy::SkyServe(SkyServePolicy { rules: sky }), 20.0, 280.0, 10),
        (10.0, Policy::Dynamo(DynamoPolicy::default()), 5.0, 0.0, 2),
        (1.0, Policy::Dynamo(measured), 5.0, 180.0, 4),
    ];
    for (in_flight, policy, interval, reached_at, wanted) in cases {
        let spec = scaler(1, 10, policy.clone());
        let mut state = ScalerState::default();
        let mut first = None;
        for t in 0..400 {
            let t = f64::from(t);
            let signals = [("in_flight", Signal::value(in_flight)), ("arrivals_total", Signal::value(t))];
            let decision = plan(&spec, &mut state, &observation(t, &[Phase::Ready], &signals));
            assert!(decision.wake_at.is_some_and(|wake| wake <= at(t + interval)), "{policy:?}");
            if decision.to >= Replicas(wanted) {
                first.get_or_insert(t);
            }
        }
        let first = first.unwrap_or_else(|| panic!("{policy:?} never reached {wanted}"));
        assert!(first >= reached_at && first <= reached_at + interval, "{policy:?}: {first}");
    }
}

#[test]
fn production_keeps_a_replica_whatever_a_peer_says_and_says_so() {
    let external = json!([{"type": "External", "external": {
        "metric": {"name": "llm_queue_depth"}, "target": {"type": "AverageValue", "averageValue": "5"}}}]);
    let policy = HpaPolicy::new(metrics(external), Some(hpa::Behavior::default()));
    let mut spec = scaler(0, 8, Policy::Hpa(Box::new(policy)));
    spec.cadence = Cadence::EveryObservation;
    for (environment, to) in [(Environment::Production, 1), (Environment::Dev, 0)] {
        spec.environment = environment;
        let mut state = ScalerState::default();
        let decide = |state: &mut ScalerState, t: f64| {
            plan(&spec, state, &observation(t, &[Phase::Ready], &[("queued", Signal::value(0.0))]))
        };
        assert_eq!(decide(&mut state, 0.0).to, Replicas(1));
        let last = decide(&mut state, 301.0);
        assert_eq!(last.to, Replicas(to), "{:?}", reasons(&last));
        let guarded = last.steps.iter().any(|step| step.reason.label() == "zero_guard");
        assert_eq!(guarded, to == 1);
    }
}

#[test]
fn a_behavior_of_the_users_own_holds_a_peers_number_too() {
    let mut spec = scaler(1, 8, Policy::Hpa(Box::new(HpaPolicy { behavior: None, ..seed_hpa() })));
    spec.cadence = Cadence::EveryObservation;
    let seen = |t: f64| {
        let signals = [("waiting", Signal::value(100.0)), ("gpu_utilization", Signal::value(50.0))];
        observation(t, &[Phase::Ready], &signals)
    };
    let free = plan(&spec, &mut ScalerState::default(), &seen(0.0));
    assert_eq!(free.to, Replicas(4));
    spec.behavior = Behavior::default();
    spec.behavior.scale_up.stabilization_window = Duration::from_secs(60);
    let mut state = ScalerState::default();
    let held = plan(&spec, &mut state, &seen(0.0));
    assert_eq!(held.to, Replicas(1));
    assert!(held.steps.iter().any(|step| step.reason.label() == "stabilised"), "{:?}", reasons(&held));
    assert_eq!(plan(&spec, &mut state, &seen(61.0)).to, Replicas(4));
}

#[test]
fn a_shadow_goes_on_wishing_what_it_wished() {
    let mut spec = scaler(1, 8, Policy::Hpa(Box::new(HpaPolicy { behavior: None, ..seed_hpa() })));
    spec.mode = Mode::Shadow;
    let mut state = ScalerState::default();
    let signals = [("waiting", Signal::value(100.0)), ("gpu_utilization", Signal::value(50.0))];
    for t in [0.0, 5.0, 14.0] {
        let decision = plan(&spec, &mut state, &observation(t, &[Phase::Ready], &signals));
        assert_eq!((decision.from, decision.to), (Replicas(1), Replicas(4)), "at {t}");
    }
}

prop_compose! {
    fn seen()(
        phases in prop::collection::vec(prop::sample::select(Phase::ALL.to_vec()), 0..7),
        waiting in prop::collection::vec(prop::option::weighted(0.9, 0_u32..40), 7),
        gpu in prop::option::weighted(0.9, prop::collection::vec(0_u32..100, 7)),
        queued in prop::option::weighted(0.9, 0_u32..100),
        gap in 1_u32..120,
    ) -> (Vec<Phase>, Vec<Option<u32>>, Option<Vec<u32>>, Option<u32>, u32) {
        (phases, waiting, gpu, queued, gap)
    }
}

/// What the HPA would be told of one pod, written down once more and independently.
fn pod(name: &str, phase: Phase, now: Timestamp) -> Pod {
    let unready = Some(Readiness { status: ConditionStatus::False, since: Some(now) });
    let running = Pod { started: Some(now), ..Pod::running(name) };
    match phase {
        Phase::Ready => running,
        Phase::Draining | Phase::Leaving => Pod { deleting: true, ..running },
        Phase::Loading => Pod { ready: unready, ..running },
        Phase::Requested | Phase::Provisioning => Pod { phase: PodPhase::Pending, ready: unready, ..running },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_hpa_in_the_pipeline_decides_what_the_hpa_decides(sequence in prop::collection::vec(seen(), 1..30), behaves in any::<bool>()) {
        let external = json!([{"type": "External", "external": {
            "metric": {"name": "arrivals"}, "target": {"type": "Value", "value": "20"}}}]);
        let mut policy = seed_hpa();
        policy.metrics.extend(metrics(external));
        policy.behavior = policy.behavior.filter(|_| behaves);
        let hpa_spec = HpaSpec {
            min_replicas: Some(1),
            max_replicas: 8,
            metrics: policy.metrics.clone(),
            behavior: policy.behavior.clone(),
            ..HpaSpec::default()
        };
        let mut spec = scaler(1, 8, Policy::Hpa(Box::new(policy)));
        spec.max_changes_per_minute = u32::MAX;
        spec.cadence = Cadence::EveryObservation;
        let (mut state, mut alone) = (ScalerState::default(), HpaState::default());
        let (mut now, mut current) = (0, None);
        for (phases, waiting, gpu, queued, gap) in sequence {
            now += gap;
            let moment = at(f64::from(now));
            let ready = phases.iter().filter(|phase| **phase == Phase::Ready).count();
            let share = f64::from(queued.unwrap_or(0)) / ready.max(1) as f64;
            let sample = |value: f64| PodSample { value: (value * 1000.0) as i64, timestamp: moment, window: Duration::from_secs(15) };
            let mut per_replica = BTreeMap::new();
            let mut told = BTreeMap::new();
            for (index, phase) in phases.iter().enumerate() {
                if let Some(value) = waiting[index].map(f64::from) {
                    per_replica.insert(format!("p{index}").into(), value);
                    let own = if *phase == Phase::Ready { share } else { 0.0 };
                    told.insert(format!("p{index}"), sample(value + own));
                }
            }
            if per_replica.is_empty() {
                // A total of nothing is nothing for everyone who serves.
                for (index, phase) in phases.iter().enumerate() {
                    match phase {
                        Phase::Ready => told.insert(format!("p{index}"), sample(share)),
                        Phase::Draining | Phase::Leaving => told.insert(format!("p{index}"), sample(0.0)),
                        Phase::Requested | Phase::Provisioning | Phase::Loading => None,
                    };
                }
            }
            let total = per_replica.values().sum();
            let mut signals = vec![
                ("waiting", Signal { reading: Reading::Value { total, per_replica }, age: Duration::ZERO }),
                ("arrivals", Signal::value(f64::from(gap))),
                ("gpu_utilization", Signal::missing(Missing::Absent)),
            ];
            let mut answers = vec![MetricAnswer::PerPod(told), MetricAnswer::Failed("absent".into())];
            if let Some(gpu) = gpu {
                let gpu: Vec<f64> = gpu.iter().take(phases.len()).map(|value| f64::from(*value)).collect();
                answers[1] = MetricAnswer::PerPod(gpu.iter().enumerate().map(|(i, value)| (format!("p{i}"), sample(*value))).collect());
                signals[2].1 = shares(&gpu);
            }
            if let Some(queued) = queued {
                signals.push(("queued", Signal::value(f64::from(queued))));
            }
            answers.push(MetricAnswer::Series(vec![i64::from(gap) * 1000]));
            let counted = phases.iter().filter(|phase| phase.counts()).count() as i32;
            let expected = hpa::evaluate(&hpa_spec, &ControllerConfig::default(), &mut alone, &HpaObservation {
                now: moment,
                scale: Ok(Scale { spec_replicas: current.unwrap_or(counted), status_replicas: counted }),
                pods: phases.iter().enumerate().map(|(i, phase)| pod(&format!("p{i}"), *phase, moment)).collect(),
                metrics: answers,
            });
            let decision = plan(&spec, &mut state, &observation(f64::from(now), &phases, &signals));
            // An HPA that was switched off by a zero that was not its own stays off; our minimum does not.
            let wanted = expected.desired.unwrap_or(counted).clamp(1, 8);
            prop_assert_eq!(decision.to.0 as i32, wanted, "{:?} {:?}", reasons(&decision), expected.steps);
            current = Some(wanted);
            let stored = serde_json::to_string(&state).unwrap();
            prop_assert_eq!(serde_json::from_str::<ScalerState>(&stored).unwrap(), state.clone());
        }
    }

    #[test]
    fn every_peers_decision_keeps_the_bounds_and_reads_back(sequence in prop::collection::vec(seen(), 1..20), which in 0_usize..6) {
        let policies = [
            Policy::Hpa(Box::new(seed_hpa())),
            Policy::Keda(Box::new(seed_keda(json!({"fallback": {"failureThreshold": 1, "replicas": 3}})))),
            Policy::Kpa(Box::default()),
            Policy::RayServe(RayServePolicy::default()),
            Policy::SkyServe(SkyServePolicy::default()),
            Policy::Dynamo(DynamoPolicy { engine_requests_per_second: Some(1.0), ..DynamoPolicy::default() }),
        ];
        let spec = scaler(0, 6, policies[which].clone());
        let text = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(&serde_json::from_str::<ScalerSpec>(&text).unwrap(), &spec);
        let mut state = ScalerState::default();
        let (mut now, mut arrived) = (0, 0);
        for (phases, waiting, _, queued, gap) in sequence {
            now += gap;
            arrived += gap / 3;
            let waiting: Vec<f64> = waiting.iter().take(phases.len()).map(|value| f64::from(value.unwrap_or(0))).collect();
            let mut signals = vec![("waiting", shares(&waiting)), ("arrivals_total", Signal::value(f64::from(arrived)))];
            match queued {
                Some(queued) => signals.push(("queued", Signal::value(f64::from(queued)))),
                None => signals.push(("queued", Signal::missing(Missing::Failed("timeout".into())))),
            }
            let decision = plan(&spec, &mut state, &observation(f64::from(now), &phases, &signals));
            prop_assert!(decision.to <= Replicas(6));
            prop_assert!(!decision.steps.is_empty());
            prop_assert!(decision.wake_at.is_some_and(|wake| wake > decision.at));
            let stored = serde_json::to_string(&state).unwrap();
            prop_assert_eq!(serde_json::from_str::<ScalerState>(&stored).unwrap(), state.clone());
            let stored = serde_json::to_string(&decision).unwrap();
            let read: Decision = serde_json::from_str(&stored).unwrap();
            prop_assert_eq!(serde_json::to_string(&read).unwrap(), stored);
        }
    }
}
