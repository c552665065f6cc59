//! Conversions: what is carried over, what is not and why, and the way back.

use std::path::Path;

use forewarm_manifest::{
    CheckedScaler,
    convert::{Conversion, Form, convert},
    lint::{Severity, Source, lint},
    read_policy, read_scalers,
    yaml::{Node, Value, parse},
};
use proptest::prelude::*;

fn seed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/seed").join(name);
    std::fs::read_to_string(path).expect("a file of examples/seed")
}

fn one(text: &str, to: Form) -> Conversion {
    let mut all = convert("f.yaml", text, to).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

fn scaler(yaml: &str) -> CheckedScaler {
    let scalers = read_scalers("converted.yaml", yaml);
    scalers.unwrap_or_else(|problems| panic!("{problems}\n{yaml}")).remove(0)
}

/// The paths of everything that holds no further fields.
fn leaves(node: &Node, path: &str) -> Vec<String> {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => entries
            .iter()
            .flat_map(|entry| {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(&entry.value, &format!("{path}{dot}{}", entry.key))
            })
            .collect(),
        Value::Seq(items) if !items.is_empty() => {
            let leaf = |(index, item)| leaves(item, &format!("{path}[{index}]"));
            items.iter().enumerate().flat_map(leaf).collect()
        }
        Value::Map(_) | Value::Seq(_) | Value::Scalar(_) => vec![path.to_owned()],
    }
}

fn assert_every_field_is_accounted_for(text: &str, conversion: &Conversion) {
    let within = |leaf: &str, path: &str| {
        leaf.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    for leaf in leaves(&parse(text).expect("yaml")[0], "") {
        let carried = conversion.carried.iter().any(|path| within(&leaf, path));
        let dropped = conversion.dropped.iter().any(|note| within(&leaf, &note.path) && !note.why.is_empty());
        assert!(carried || dropped, "{leaf} is neither carried nor dropped: {conversion:#?}");
    }
}

#[test]
fn the_seed_configuration_becomes_inference_scalers() {
    let hpa = one(&seed("hpa.yaml"), Form::InferenceScaler);
    let checked = scaler(&hpa.yaml);
    assert_eq!(checked.spec.scaler.as_str(), "vllm-autoscaler");
    assert_eq!(checked.namespace.as_deref(), Some("ai-serving"));
    assert_eq!((checked.spec.replicas.min.0, checked.spec.replicas.max.0), (1, 8));
    // The rules as they are, to the last field.
    let read = read_policy("hpa.yaml", &seed("hpa.yaml")).expect("an HPA");
    assert_eq!(checked.spec.policy, read[0].policy);
    assert_eq!(hpa.dropped, []);

    let keda = one(&seed("scaledobject.yaml"), Form::InferenceScaler);
    let checked = scaler(&keda.yaml);
    assert_eq!((checked.spec.replicas.min.0, checked.spec.replicas.max.0), (1, 10));
    assert_eq!(keda.dropped, []);
    let back = one(&keda.yaml, Form::ScaledObject);
    // Defaults are said.
    let target = "scaleTargetRef:\n    apiVersion: apps/v1\n    kind: Deployment\n";
    let wanted = seed("scaledobject.yaml").replace("scaleTargetRef:\n", target);
    assert_eq!(fields(&back.yaml), fields(&wanted));

    let asg = one(&seed("asg.json"), Form::InferenceScaler);
    assert!(asg.yaml.contains("awsAutoScalingGroup"), "{}", asg.yaml);
    assert!(asg.yaml.contains("perReplica: 5"), "{}", asg.yaml);
    assert!(asg.assumed.iter().any(|note| note.path == "spec.replicas"));
    for (file, conversion) in [("hpa.yaml", hpa), ("scaledobject.yaml", keda), ("asg.json", asg)] {
        assert_every_field_is_accounted_for(&seed(file), &conversion);
    }
}

#[test]
fn what_comes_out_has_no_errors_of_its_own() {
    for (file, to) in [
        ("hpa.yaml", Form::ScaledObject),
        ("scaledobject.yaml", Form::Hpa),
        ("hpa.yaml", Form::InferenceScaler),
        ("scaledobject.yaml", Form::InferenceScaler),
        ("asg.json", Form::ScaledObject),
    ] {
        let text = one(&seed(file), to).yaml;
        let findings = lint(&[Source { name: "out.yaml".into(), text: text.clone() }]);
        // The queries are the user's own, traps included.
        let errors = findings
            .iter()
            .filter(|f| f.severity == Severity::Error && !["FW011", "FW013"].contains(&f.code));
        assert_eq!(errors.count(), 0, "{file}: {findings:#?}\n{text}");
    }
}

#[test]
fn a_knative_service_keeps_its_bounds_and_its_concurrency() {
    let text = "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: llama, namespace: ai}
spec:
  template:
    metadata:
      annotations: {autoscaling.knative.dev/minScale: '1', autoscaling.knative.dev/max-scale: '4',
        autoscaling.knative.dev/target: '16', autoscaling.knative.dev/window: 120s}
    spec: {containers: [{image: model}], timeoutSeconds: 600}
";
    let conversion = one(text, Form::InferenceScaler);
    let checked = scaler(&conversion.yaml);
    assert_eq!((checked.spec.replicas.min.0, checked.spec.replicas.max.0), (1, 4));
    assert_eq!(checked.spec.max_concurrency, 16);
    assert_every_field_is_accounted_for(text, &conversion);
    // The rules as they are: what is left behind is about the pods.
    let policy = serde_json::to_value(&checked.spec.policy).expect("JSON");
    let annotations = serde_json::json!({
        "autoscaling.knative.dev/target": "16", "autoscaling.knative.dev/window": "120s"
    });
    assert_eq!(policy["kpa"]["annotations"], annotations);
    assert!(
        conversion.dropped.iter().all(|note| note.path.starts_with("spec.template.spec")),
        "{conversion:?}"
    );
}

#[test]
fn a_tolerance_is_kept_where_it_has_a_place() {
    let text = "\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: a}
spec:
  scaleTargetRef: {kind: Deployment, name: b}
  maxReplicas: 2
  behavior: {scaleDown: {tolerance: 0.05, stabilizationWindowSeconds: 600}}
";
    let keda = one(text, Form::ScaledObject);
    assert!(keda.yaml.contains("tolerance: 0.05"), "{}", keda.yaml);
    let ours = one(text, Form::InferenceScaler);
    scaler(&ours.yaml);
    let path = "spec.behavior.scaleDown.tolerance";
    assert!(ours.dropped.iter().any(|note| note.path == path), "{:?}", ours.dropped);
    assert!(!ours.carried.iter().any(|carried| carried == path));
}

#[test]
fn a_peers_policy_is_dropped_as_a_whole_and_the_target_is_an_assumption() {
    let text = "\
apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {name: a}
spec:
  target: {kubernetes: {kind: Deployment, name: a}}
  replicas: {min: 1, max: 4}
  policy: {kpa: {target: 10}}
";
    let conversion = one(text, Form::Hpa);
    assert!(conversion.dropped.iter().any(|note| note.path == "spec.policy.kpa"), "{conversion:?}");
    assert!(conversion.assumed.iter().any(|note| note.why.contains("the policy is `kpa`")), "{conversion:?}");
    assert_every_field_is_accounted_for(text, &conversion);
}

#[test]
fn what_cannot_be_converted_is_refused_with_a_reason() {
    let cases = [
        ("kind: Service\n", "no autoscaler"),
        ("", "no autoscaler"),
        (
            "kind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec: {maxReplicas: 2}\n",
            "spec.scaleTargetRef.name",
        ),
        (
            "kind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec: {scaleTargetRef: {name: b}}\n",
            "spec.maxReplicas",
        ),
        ("kind: ScaledObject\nspec: {scaleTargetRef: {name: b}}\n", "metadata.name"),
        (
            "kind: ScaledObject\nmetadata: {name: a}\nspec: {scaleTargetRef: {name: b}, maxReplicaCount: many}\n",
            "many",
        ),
        ("AutoScalingGroupName: g\nPolicyType: StepScaling\n", "only target tracking"),
        ("kind: InferenceScaler\nmetadata: {name: a}\n", "apiVersion"),
        ("a: [", "wanted YAML"),
    ];
    for (text, message) in cases {
        for (_, to) in Form::ALL {
            let problems = convert("f.yaml", text, to).expect_err(text);
            assert!(problems.to_string().contains(message), "{text}: {problems}");
        }
    }
}

#[test]
fn several_documents_are_converted_one_by_one() {
    let text = format!("{}---\n{}---\nkind: Service\n", seed("hpa.yaml"), seed("scaledobject.yaml"));
    let all = convert("f.yaml", &text, Form::InferenceScaler).expect("two");
    assert_eq!(
        all.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["vllm-autoscaler", "vllm-keda-scaler"]
    );
}

fn behavior() -> impl Strategy<Value = String> {
    let direction = (
        0..3600u32,
        "Max|Min|Disabled",
        prop::collection::vec(("Pods|Percent", 1..200u32, 1..1800u32), 1..3),
    )
        .prop_map(|(window, select, policies)| {
            let policies: Vec<_> = policies
                .iter()
                .map(|(kind, value, period)| {
                    format!("{{type: {kind}, value: {value}, periodSeconds: {period}}}")
                })
                .collect();
            format!(
                "{{stabilizationWindowSeconds: {window}, selectPolicy: {select}, policies: [{}]}}",
                policies.join(", ")
            )
        });
    (direction.clone(), direction).prop_map(|(up, down)| format!("{{scaleUp: {up}, scaleDown: {down}}}"))
}

proptest! {
    #[test]
    fn an_hpa_survives_the_way_to_every_form_and_back(
        min in 1..20u32, more in 0..80u32, milli in 1..1_000_000u32, behavior in behavior(),
    ) {
        let text = format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: a, namespace: n, labels: {{team: x}}}}\n\
             spec:\n  scaleTargetRef: {{apiVersion: apps/v1, kind: StatefulSet, name: t}}\n  minReplicas: {min}\n  \
             maxReplicas: {}\n  metrics: [{{type: Pods, pods: {{metric: {{name: waiting}}, target: {{type: AverageValue, \
             averageValue: {milli}m}}}}}}]\n  behavior: {behavior}\n", min + more,
        );
        let ours = one(&text, Form::InferenceScaler);
        assert_every_field_is_accounted_for(&text, &ours);
        prop_assert_eq!(&ours.dropped, &[]);
        let read = read_policy("f.yaml", &text).expect("an HPA");
        prop_assert_eq!(&scaler(&ours.yaml).spec.policy, &read[0].policy);
        let back = one(&ours.yaml, Form::Hpa);
        assert_every_field_is_accounted_for(&ours.yaml, &back);
        prop_assert_eq!(&back.dropped, &[]);
        prop_assert_eq!(fields(&back.yaml), fields(&text));
        // What KEDA cannot say is listed.
        let keda = one(&ours.yaml, Form::ScaledObject);
        assert_every_field_is_accounted_for(&ours.yaml, &keda);
    }

    #[test]
    fn a_scaled_object_survives_the_way_to_ours_and_back(
        min in 0..5u32, more in 1..80u32, threshold in 1..1000u32, behavior in behavior(),
    ) {
        let text = format!(
            "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{name: a}}\nspec:\n  scaleTargetRef: \
             {{apiVersion: apps/v1, kind: Deployment, name: t}}\n  minReplicaCount: {min}\n  maxReplicaCount: {}\n  \
             fallback: {{failureThreshold: 3, replicas: {}, behavior: currentReplicasIfHigher}}\n  advanced: \
             {{horizontalPodAutoscalerConfig: {{behavior: {behavior}}}}}\n  triggers:\n    - type: prometheus\n      \
             name: queue\n      metadata: {{serverAddress: 'http://p:9090', query: 'sum(vllm:num_requests_waiting)', \
             threshold: '{threshold}', ignoreNullValues: 'false'}}\n", min + more, min.max(1),
        );
        let ours = one(&text, Form::InferenceScaler);
        assert_every_field_is_accounted_for(&text, &ours);
        let back = one(&ours.yaml, Form::ScaledObject);
        assert_every_field_is_accounted_for(&ours.yaml, &back);
        prop_assert_eq!(&back.dropped, &[]);
        prop_assert_eq!(fields(&back.yaml), fields(&text));
    }
}

/// Every leaf of the first document with its text, in no order.
fn fields(text: &str) -> Vec<String> {
    let mut fields = flat(&parse(text).expect("yaml")[0], "");
    fields.sort();
    fields
}

/// Every leaf with its text.
fn flat(node: &Node, path: &str) -> Vec<String> {
    match &node.value {
        Value::Map(entries) => {
            entries.iter().flat_map(|entry| flat(&entry.value, &format!("{path}.{}", entry.key))).collect()
        }
        Value::Seq(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| flat(item, &format!("{path}[{index}]")))
            .collect(),
        Value::Scalar(scalar) => vec![format!("{path}={}", scalar.text)],
    }
}
