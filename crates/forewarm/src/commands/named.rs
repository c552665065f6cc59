//! Policies with a name: what people run today, as data.

use std::{collections::BTreeMap, time::Duration};

use anyhow::anyhow;
use forewarm_core::{
    Bounds, DynamoPolicy, Forewarm, HpaPolicy, KedaPolicy, KpaPolicy, Policy, PreWarm, QueueDepth,
    RayServePolicy, Requests, SkyServePolicy, peers::sky_serve::SkyServeSpec,
};
use forewarm_sim::Objective;
use serde_json::{Value, json};

use crate::{commands::contender::Terms, exit::Failure};

/// The names, and what each is.
pub(crate) const NAMES: [(&str, &str); 11] = [
    ("forewarm", "our own policy: nothing to set but the objective; 1 to 1000 replicas"),
    (
        "seed-hpa",
        "examples/seed/hpa.yaml with its queue metric only: 5 waiting requests a pod; 1 to 8 replicas",
    ),
    ("seed-hpa-gpu", "the same with its second metric too: GPU utilisation of 70 %"),
    ("seed-keda", "examples/seed/scaledobject.yaml: 10 waiting, 20 requests a second; 1 to 10 replicas"),
    ("seed-prewarm", "5 waiting requests a replica; starts one at 0.7 of a queue of 100, now or in 180 s"),
    ("kpa", "Knative's defaults, with the slots as containerConcurrency"),
    ("ray", "Ray Serve's defaults: 2 ongoing requests a replica"),
    ("sky", "SkyServe's defaults, with 70 % of a replica's measured requests a second as target"),
    ("dynamo", "Dynamo's planner with its defaults, and a replica's measured requests a second"),
    ("clairvoyant", "knows every request beforehand, and pays for its cold starts; 1 to 8 replicas"),
    ("static:N", "always N replicas"),
];

/// A policy and its bounds; `None` when the word is no name.
pub(super) fn named(word: &str, terms: &Terms) -> Option<Result<(Policy, Bounds), Failure>> {
    let policy = match word {
        "forewarm" => {
            let Objective { percent, ttft } = terms.objective;
            Ok(Policy::Forewarm(Forewarm { percent, ttft }))
        }
        "seed-hpa" => seed_hpa(false),
        "seed-hpa-gpu" => seed_hpa(true),
        "seed-keda" => seed_keda(),
        "seed-prewarm" => seed_prewarm(),
        "kpa" => kpa(terms),
        "ray" => Ok(Policy::RayServe(RayServePolicy::default())),
        "sky" => sky(terms),
        "dynamo" => {
            let engine_requests_per_second = terms.replica_requests_per_second;
            Ok(Policy::Dynamo(DynamoPolicy { engine_requests_per_second, ..DynamoPolicy::default() }))
        }
        _ => return None,
    };
    let most = match word {
        "forewarm" => 1_000,
        "seed-keda" => 10,
        _ => 8,
    };
    Some(policy.and_then(|policy| Ok((policy, Bounds::new(1, most)?))))
}

fn seed_hpa(with_gpu: bool) -> Result<Policy, Failure> {
    let metric = |name: &str, target: &str| {
        json!({"type": "Pods", "pods": {
            "metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": target}}})
    };
    let mut metrics = vec![metric("vllm_pending_requests", "5")];
    metrics.extend(with_gpu.then(|| metric("nvidia_gpu_duty_cycle", "70")));
    let rules = |window: u32, pods: u32, period: u32| {
        json!({"stabilizationWindowSeconds": window,
            "policies": [{"type": "Pods", "value": pods, "periodSeconds": period}]})
    };
    let behavior = json!({"scaleUp": rules(30, 2, 60), "scaleDown": rules(600, 1, 300)});
    let metrics = serde_json::from_value(Value::Array(metrics))?;
    Ok(Policy::Hpa(Box::new(HpaPolicy::new(metrics, Some(serde_json::from_value(behavior)?)))))
}

fn seed_keda() -> Result<Policy, Failure> {
    let trigger = |query: &str, threshold: &str| {
        json!({"type": "prometheus", "metadata": {
            "serverAddress": "http://prometheus.monitoring.svc.cluster.local:9090",
            "query": query, "threshold": threshold}})
    };
    let object = json!({
        "cooldownPeriod": 300,
        "triggers": [
            trigger("sum(vllm_num_requests_waiting{namespace=\"ai-serving\"})", "10"),
            trigger("rate(http_requests_total{job=\"vllm\"}[2m])", "20"),
        ],
    });
    Ok(Policy::Keda(Box::new(KedaPolicy::new(serde_json::from_value(object)?))))
}

fn seed_prewarm() -> Result<Policy, Failure> {
    let pre_warm =
        PreWarm { threshold: 0.7, lead_time: Duration::from_secs(180), max_queue: Requests::new(100.0)? };
    let per_replica = Requests::new(QueueDepth::DEFAULT_PER_REPLICA)?;
    Ok(Policy::QueueDepth(QueueDepth { per_replica, pre_warm: Some(pre_warm) }))
}

fn kpa(terms: &Terms) -> Result<Policy, Failure> {
    let concurrency = i64::from(terms.max_concurrency);
    let policy = KpaPolicy::new(BTreeMap::new(), BTreeMap::new(), concurrency)
        .map_err(|error| anyhow!("`--policy kpa` with {concurrency} slots: {error}"))?;
    Ok(Policy::Kpa(Box::new(policy)))
}

/// What Knative leaves free by default is left free here too.
const SKY_UTILIZATION: f64 = 0.7;

fn sky(terms: &Terms) -> Result<Policy, Failure> {
    let measured = terms.replica_requests_per_second.ok_or_else(|| {
        Failure::usage(anyhow!(
            "`--policy sky` needs a trace, on which a replica's requests a second are measured"
        ))
    })?;
    let target_qps_per_replica = Some(measured * SKY_UTILIZATION);
    Ok(Policy::SkyServe(SkyServePolicy {
        rules: SkyServeSpec { target_qps_per_replica, ..SkyServeSpec::default() },
    }))
}
