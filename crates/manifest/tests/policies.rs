//! The peers' policies: in manifests of ours, and in their own.

use std::{path::Path, time::Duration};

use forewarm_core::{
    Behavior, HpaPolicy, KedaPolicy, Policy, Replicas, ScalerSpec, peers::hpa::MetricSourceType,
};
use forewarm_manifest::{CheckedScaler, read_policy, read_scalers};

const HPA: &str = "
    hpa:
      metrics:
        - {type: Pods, pods: {metric: {name: pending}, target: {type: AverageValue, averageValue: '5'}}}
        - {type: External, external: {metric: {name: backlog, selector: {matchLabels: {a: b}}}, target: {type: Value, value: 20}}}
      behavior: {scaleUp: {stabilizationWindowSeconds: 30, tolerance: 0.2, policies: [{type: Pods, value: 2, periodSeconds: 60}]}}
      tolerance: 0.05
";
const KEDA: &str = "
    keda:
      pollingInterval: 10
      cooldownPeriod: 60
      fallback: {failureThreshold: 3, replicas: 4, behavior: currentReplicasIfHigher}
      advanced: {scalingModifiers: {formula: waiting + 1, target: '5'}, horizontalPodAutoscalerConfig: {behavior: {}}}
      triggers:
        - {type: prometheus, name: waiting, metadata: {query: sum(waiting), threshold: '10'}}
";
const TRIGGER: &str = "
    keda: {triggers: [{type: prometheus, metadata: {query: sum(waiting), threshold: '10'}}]}
";
const KPA: &str = "
    kpa: {target: 10, window: 90s, metric: concurrency, containerConcurrency: 8, config: {max-scale-up-rate: '10'}}
";
const RAY: &str = "    rayServe: {targetOngoingRequests: 5, downscaleToZeroDelay: 60s}\n";
const SKY: &str = "    skyServe: {targetQpsPerReplica: 0.5, upscaleDelay: 60s}\n";
const DYNAMO: &str = "    dynamo: {optimizationTarget: latency, engineRequestsPerSecond: 2.5}\n";

fn manifest(policy: &str) -> String {
    format!(
        "\
apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {{name: llama3}}
spec:
  target: {{kubernetes: {{kind: Deployment, name: llama3}}}}
  replicas: {{min: 1, max: 8}}
  policy:
{policy}"
    )
}

fn read_one(text: &str) -> CheckedScaler {
    let mut scalers = read_scalers("f.yaml", text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(scalers.len(), 1);
    scalers.remove(0)
}

#[test]
fn every_policy_reads_and_is_written_out_to_read_the_same() {
    for policy in [HPA, KEDA, TRIGGER, KPA, RAY, SKY, DYNAMO] {
        let scaler = read_one(&manifest(policy));
        assert_eq!(scaler.spec.behavior, Behavior::pass_through(), "a peer has its own");
        let written = scaler.to_yaml().expect("yaml");
        assert_eq!(read_one(&written), scaler, "{written}");
    }
    let Policy::Hpa(hpa) = read_one(&manifest(HPA)).spec.policy else { panic!("an HPA") };
    let HpaPolicy { metrics, behavior, controller } = *hpa;
    assert_eq!(metrics[1].r#type, MetricSourceType::External);
    assert_eq!(controller.tolerance, 0.05);
    let up = behavior.and_then(|behavior| behavior.scale_up).expect("rules");
    assert_eq!(up.tolerance.map(|tolerance| tolerance.to_f64()), Some(0.2));
}

#[test]
fn a_behavior_beside_a_peers_policy_counts_and_what_it_does_not_say_does_not() {
    let text = manifest(HPA) + "  behavior: {scaleDown: {stabilizationWindowSeconds: 60}}\n";
    let behavior = read_one(&text).spec.behavior;
    assert_eq!(behavior.scale_down.stabilization_window, Duration::from_secs(60));
    assert_eq!(behavior.scale_up, Behavior::pass_through().scale_up);
}

#[test]
fn a_wrong_value_is_named_with_its_place_and_what_would_be_right() {
    let cases = [
        (
            HPA,
            "type: Pods, pods",
            "type: Pod, pods",
            "spec.policy.hpa.metrics[0].type",
            "did you mean `Pods`",
        ),
        (HPA, "type: Pods, pods", "type: Pods, pod", "spec.policy.hpa.metrics[0].pod", "did you mean `pods`"),
        (
            HPA,
            "averageValue: '5'",
            "averageValue: five",
            "metrics[0].pods.target.averageValue",
            "a quantity such as",
        ),
        (HPA, "averageValue: '5'", "averageValue: 0", "metrics[0].pods.target.averageValue", "above zero"),
        (
            HPA,
            "type: AverageValue, averageValue",
            "type: AverageValue, value",
            "metrics[0].pods.target",
            "`averageValue`, as the type says",
        ),
        (
            HPA,
            "type: AverageValue, averageValue",
            "type: Utilization, averageValue",
            "metrics[0].pods.target.type",
            "one of AverageValue",
        ),
        (
            HPA,
            "matchLabels: {a: b}",
            "matchLabels: [a]",
            "metrics[1].external.metric.selector",
            "matchLabels or",
        ),
        (
            HPA,
            "stabilizationWindowSeconds: 30",
            "stabilizationWindowSeconds: 3601",
            "scaleUp.stabilizationWindowSeconds",
            "from 0 to 3600",
        ),
        (HPA, "tolerance: 0.05", "tolerance: -1", "spec.policy.hpa.tolerance", "at least 0"),
        (
            TRIGGER,
            "threshold: '10'",
            "treshold: '10'",
            "spec.policy.keda.triggers[0].metadata.threshold",
            "found nothing, wanted a number above 0",
        ),
        (
            TRIGGER,
            "type: prometheus",
            "type: promtheus",
            "spec.policy.keda.triggers[0].type",
            "one of prometheus, kafka",
        ),
        (
            KEDA,
            "formula: waiting + 1",
            "formula: waitin + 1",
            "advanced.scalingModifiers.formula",
            "unknown name waitin",
        ),
        (KEDA, "target: '5'", "target: '0'", "advanced.scalingModifiers.target", "above 0"),
        (
            KEDA,
            "cooldownPeriod",
            "coolDownPeriod",
            "spec.policy.keda.coolDownPeriod",
            "did you mean `cooldownPeriod`",
        ),
        (KEDA, "failureThreshold: 3, ", "", "spec.policy.keda.fallback.failureThreshold", "in a row"),
        (
            KEDA,
            "pollingInterval: 10",
            "idleReplicaCount: 0",
            "spec.policy.keda.idleReplicaCount",
            "replicas.min, which is 1",
        ),
        (
            KEDA,
            "pollingInterval: 10",
            "minReplicaCount: 9",
            "spec.policy.keda.minReplicaCount",
            "replicas.max",
        ),
        (KPA, "target: 10", "target: many", "spec.policy.kpa.target", "at least 0.01"),
        (KPA, "window: 90s", "window: 90", "spec.policy.kpa.window", "whole seconds from 6s to 3600s"),
        (KPA, "metric: concurrency", "metric: cpu", "spec.policy.kpa.metric", "concurrency, rps"),
        (
            KPA,
            "max-scale-up-rate: '10'",
            "max-scale-up-rate: '1'",
            "spec.policy.kpa.config",
            "must be greater than 1",
        ),
        (SKY, "targetQpsPerReplica: 0.5, ", "", "spec.policy.skyServe.targetQpsPerReplica", "per second"),
        (DYNAMO, "latency", "speed", "spec.policy.dynamo.optimizationTarget", "throughput, latency"),
    ];
    for (policy, from, to, path, message) in cases {
        assert!(policy.contains(from), "{from}");
        let problems = read_scalers("f.yaml", &manifest(&policy.replacen(from, to, 1))).expect_err(to);
        let told = problems.to_string();
        assert!(problems.list.iter().any(|problem| problem.path.ends_with(path)), "{to}: {told}");
        assert!(told.contains(message), "{to}: {told}");
    }
}

fn example(name: &str) -> Vec<ScalerSpec> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/seed").join(name);
    let text = std::fs::read_to_string(path).expect(name);
    read_policy(name, &text).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_manifests_of_others_are_read_with_their_bounds() {
    let hpa = &example("hpa.yaml")[0];
    assert_eq!(
        (hpa.scaler.as_str(), hpa.replicas.min, hpa.replicas.max),
        ("vllm-autoscaler", Replicas(1), Replicas(8))
    );
    assert!(
        matches!(&hpa.policy, Policy::Hpa(policy) if policy.metrics.len() == 2 && policy.behavior.is_some())
    );
    let keda = &example("scaledobject.yaml")[0];
    assert_eq!((keda.replicas.min, keda.replicas.max), (Replicas(1), Replicas(10)));
    let Policy::Keda(policy) = &keda.policy else { panic!("{:?}", keda.policy) };
    let KedaPolicy { object, .. } = policy.as_ref();
    assert_eq!((object.cooldown_period, object.triggers.len()), (Some(300), 2));
}

#[test]
fn zero_in_a_manifest_of_anothers_is_its_authors_word() {
    let text = "\
apiVersion: v1
kind: List
items:
  - apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: a, annotations: {autoscaling.keda.sh/paused-scale-in: 'true', team: x}}
    spec:
      scaleTargetRef: {name: vllm}
      minReplicaCount: 2
      idleReplicaCount: 0
      someNewField: 1
      triggers: [{type: prometheus, metadata: {query: waiting, threshold: '5'}}]
  - apiVersion: serving.knative.dev/v1
    kind: Service
    metadata: {name: b}
    spec:
      template:
        metadata: {annotations: {autoscaling.knative.dev/max-scale: '6', autoscaling.knative.dev/target: '4'}}
        spec: {containerConcurrency: 8}
  - {apiVersion: v1, kind: Service, metadata: {name: c}}
";
    let read = read_policy("f.yaml", text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(read.len(), 2);
    assert!(read.iter().all(ScalerSpec::may_reach_zero));
    let Policy::Keda(keda) = &read[0].policy else { panic!("{:?}", read[0]) };
    assert_eq!(keda.object.min_replica_count, Some(2));
    assert_eq!(keda.annotations.0.len(), 1);
    let Policy::Kpa(kpa) = &read[1].policy else { panic!("{:?}", read[1]) };
    assert_eq!((kpa.container_concurrency(), read[1].replicas.max), (8, Replicas(6)));
}

#[test]
fn what_is_no_policy_is_refused_in_words() {
    let hpa = |change: (&str, &str)| {
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {maxReplicas: 4}}"
            .replace(change.0, change.1)
    };
    let cases = [
        ("a: 1\n".to_owned(), "wanted an HPA, ScaledObject, Knative Service"),
        (hpa(("autoscaling/v2", "autoscaling/v1")), "found autoscaling/v1, wanted autoscaling/v2"),
        (hpa(("{maxReplicas: 4}", "{}")), "spec.maxReplicas: found nothing, wanted the most replicas"),
        (hpa(("maxReplicas: 4", "maxReplicas: 4, minReplicas: 5")), "spec.maxReplicas: found 4, wanted at least the minimum"),
        (
            "{kind: PodAutoscaler, metadata: {annotations: {autoscaling.knative.dev/window: 5s}}}".to_owned(),
            "wanted a duration of whole seconds from 6s to 3600s",
        ),
        (
            "{kind: PodAutoscaler, metadata: {annotations: {autoscaling.knative.dev/class: hpa.autoscaling.knative.dev}}}"
                .to_owned(),
            "the class hpa.autoscaling.knative.dev",
        ),
    ];
    for (text, message) in cases {
        let told = read_policy("f.yaml", &text).expect_err(message).to_string();
        assert!(told.contains(message), "{told}");
    }
}
