//! What deciding costs on one core: the HPA's rules, and forewarm's own.
//!
//! Prints one JSON row a line, for `cargo xtask bench core`. Loads move, so that the count changes, windows
//! fill and events are remembered; what is measured includes every reason.

use std::{collections::BTreeMap, hint::black_box, io::Write, time::Duration};

use forewarm_core::{
    Bounds, Environment, Observation, Phase, Policy, QueueDepth, Replica, Requests, ScalerSpec, ScalerState,
    Signal, Timestamp,
    peers::hpa::{
        self, Container, ControllerConfig, HpaObservation, HpaSpec, HpaState, MetricAnswer, Pod, PodSample,
        Scale,
    },
};

/// Time between two decisions: the HPA's own.
const SYNC: Duration = Duration::from_secs(15);
/// Decisions until the load is where it began.
const PERIOD: u32 = 240;
/// Decisions that fill every window before anything is measured.
const WARM_UP: u32 = 40;
/// Scalers of a large installation.
const SCALERS: u32 = 10_000;

fn main() {
    let pods = 50;
    let spec = hpa_spec(0);
    let mut state = HpaState::default();
    let mut loads: Vec<_> = (0..PERIOD).map(|step| hpa_observation(pods, load(step))).collect();
    let mut run = |from: u32, steps: u32| {
        for step in from..from + steps {
            let seen = &mut loads[(step % PERIOD) as usize];
            seen.now = Timestamp::default() + SYNC * step;
            black_box(decide(&spec, &mut state, seen));
        }
    };
    run(0, WARM_UP);
    let steps = 20_000;
    let started = cpu_seconds();
    run(WARM_UP, steps);
    let rate = f64::from(steps) / (cpu_seconds() - started);
    row("HPA decisions, 3 metrics, 50 pods", rate, "1/s");

    many_hpas();
    many_scalers();
}

/// Ten thousand HPAs, each with a specification, a state and ten pods of its own.
fn many_hpas() {
    let specs: Vec<_> = (0..SCALERS).map(hpa_spec).collect();
    let mut states = vec![HpaState::default(); SCALERS as usize];
    let mut seconds = 0.0;
    for step in 0..=WARM_UP {
        // As many observations as scalers would be memory of the benchmark's own.
        let mut loads: Vec<_> = (0..PERIOD).map(|phase| hpa_observation(10, load(step + phase))).collect();
        let started = cpu_seconds();
        for (index, (spec, state)) in specs.iter().zip(&mut states).enumerate() {
            let seen = &mut loads[index % PERIOD as usize];
            seen.now = Timestamp::default() + SYNC * step;
            black_box(decide(spec, state, seen));
        }
        seconds = cpu_seconds() - started;
    }
    row("10,000 HPAs once, 3 metrics, 10 pods each", seconds * 1e3, "ms");
    row("memory of an HPA's state", memory_of(&states), "bytes");
}

/// Ten thousand scalers of forewarm's own, as many replicas each.
fn many_scalers() {
    let policy = Policy::QueueDepth(QueueDepth { per_replica: requests(5.0), pre_warm: None });
    let bounds = Bounds::new(1, 100).expect("bounds");
    let spec = |index: u32| ScalerSpec {
        environment: Environment::Dev,
        ..ScalerSpec::new(format!("scaler-{index}"), bounds, policy.clone())
    };
    let specs: Vec<_> = (0..SCALERS).map(spec).collect();
    let mut states = vec![ScalerState::default(); SCALERS as usize];
    let mut seconds = 0.0;
    for step in 0..=WARM_UP {
        let mut loads: Vec<_> = (0..PERIOD).map(|phase| own_observation(10, load(step + phase))).collect();
        let started = cpu_seconds();
        for (index, (spec, state)) in specs.iter().zip(&mut states).enumerate() {
            let seen = &mut loads[index % PERIOD as usize];
            seen.at = Timestamp::default() + SYNC * step;
            drop(black_box(forewarm_core::plan(spec, state, seen)));
        }
        seconds = cpu_seconds() - started;
    }
    row("10,000 scalers once, 3 signals, 10 replicas each", seconds * 1e3, "ms");
    row("memory of a scaler's state", memory_of(&states), "bytes");
}

fn decide(spec: &HpaSpec, state: &mut HpaState, seen: &mut HpaObservation) -> Option<i32> {
    let outcome = hpa::evaluate(spec, &ControllerConfig::default(), state, seen);
    // What was asked for is there the next time that this load comes round.
    if let (Ok(scale), Some(desired)) = (&mut seen.scale, outcome.desired) {
        scale.spec_replicas = desired;
    }
    outcome.scale_update
}

/// The load at a step, as a share of what the pods can take: up and down around it.
fn load(step: u32) -> f64 {
    1.0 + 0.5 * (std::f64::consts::TAU * f64::from(step) / f64::from(PERIOD)).sin()
}

/// Three metrics and a behavior; no two indices give the same.
fn hpa_spec(index: u32) -> HpaSpec {
    let spec = serde_json::json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": format!("model-{index}")},
        "minReplicas": 1,
        "maxReplicas": 100 + index % 100,
        "metrics": [
            {"type": "Pods", "pods": {
                "metric": {"name": "vllm_num_requests_waiting"},
                "target": {"type": "AverageValue", "averageValue": "5"},
            }},
            {"type": "Resource", "resource": {
                "name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 80},
            }},
            {"type": "External", "external": {
                "metric": {"name": "queue", "selector": {"matchLabels": {"model": format!("model-{index}")}}},
                "target": {"type": "AverageValue", "averageValue": "30"},
            }},
        ],
        "behavior": {
            "scaleUp": {"policies": [
                {"type": "Pods", "value": 4, "periodSeconds": 60},
                {"type": "Percent", "value": 100, "periodSeconds": 60},
            ]},
            "scaleDown": {
                "stabilizationWindowSeconds": 120,
                "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
            },
        },
    });
    serde_json::from_value(spec).expect("an HPA's specification")
}

fn hpa_observation(pods: i32, load: f64) -> HpaObservation {
    let milli = |value: f64| (value * 1e3) as i64;
    let samples = |per_pod: f64| {
        let sample = |index| {
            // Pods differ a little.
            let value = milli(per_pod * (0.9 + 0.2 * f64::from(index) / f64::from(pods)));
            let sample =
                PodSample { value, timestamp: Timestamp::default(), window: Duration::from_secs(30) };
            (pod_name(index), sample)
        };
        MetricAnswer::PerPod((0..pods).map(sample).collect())
    };
    let pod = |index| {
        let requests = BTreeMap::from([("cpu".to_owned(), 1_000)]);
        let containers = vec![Container { name: "engine".into(), requests }];
        Pod { started: Some(Timestamp::from_millis(-3_600_000)), containers, ..Pod::running(pod_name(index)) }
    };
    HpaObservation {
        now: Timestamp::default(),
        scale: Ok(Scale { spec_replicas: pods, status_replicas: pods }),
        pods: (0..pods).map(pod).collect(),
        metrics: vec![
            samples(5.0 * load),
            samples(0.8 * load),
            MetricAnswer::Series(vec![milli(30.0 * f64::from(pods) * load)]),
        ],
    }
}

/// As a ReplicaSet names them.
fn pod_name(index: i32) -> String {
    format!("vllm-llama-7d9f8b6c5d-{index:05}")
}

fn own_observation(replicas: u32, load: f64) -> Observation {
    let ready = |index| Replica::new(format!("replica-{index}"), Phase::Ready);
    let total = f64::from(replicas) * load;
    let signals = [("queued", 5.0 * total), ("waiting", total), ("in_flight", 8.0 * total)];
    Observation {
        replicas: (0..replicas).map(ready).collect(),
        signals: signals
            .into_iter()
            .map(|(name, value)| (name.into(), Signal::value(value.round())))
            .collect(),
        ..Observation::default()
    }
}

fn requests(value: f64) -> Requests {
    Requests::new(value).expect("a number of requests")
}

/// Bytes that one of the states takes: by how much the process grows with copies of them all. They are kept, lest
/// the next measurement finds their memory free.
fn memory_of<S: Clone>(states: &[S]) -> f64 {
    const COPIES: usize = 10;
    let before = resident_bytes();
    std::mem::forget(black_box(vec![states.to_vec(); COPIES]));
    (resident_bytes() - before) / (states.len() * COPIES) as f64
}

/// Time that this thread was on a core: what else the machine does is not measured.
fn cpu_seconds() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = schedstat.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok());
    nanos.expect("time on a core") / 1e9
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024.0
}

fn row(name: &str, figure: f64, unit: &str) {
    let row = serde_json::json!({"name": name, "figure": figure, "unit": unit});
    writeln!(std::io::stdout(), "{row}").expect("somebody reads the rows");
}
