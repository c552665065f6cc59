//! Manifests as people, editors and templates write them.

use forewarm_manifest::{
    CheckedScaler,
    convert::{Form, convert},
    lint::{Finding, Source, apply_fixes, lint},
    read_scalers,
    yaml::parse,
};

fn scaler(name: &str, per_replica: &str) -> String {
    format!(
        "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: {name}}}\nspec:\n  \
         environment: dev\n  models: [{name}]\n  target: {{kubernetes: {{apiVersion: apps/v1, kind: Deployment, \
         name: {name}}}}}\n  replicas: {{min: 1, max: 4}}\n  policy: {{queueDepth: {{perReplica: {per_replica}}}}}\n"
    )
}

fn read(text: &str) -> Vec<CheckedScaler> {
    read_scalers("f.yaml", text).unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"))
}

fn found(text: &str) -> Vec<Finding> {
    lint(&[Source { name: "f.yaml".into(), text: text.into() }])
}

#[test]
fn one_scaler_is_the_same_however_it_is_written() {
    let plain = scaler("a", "5");
    let expected = read(&plain);
    let indented = plain.replace('\n', "\n    ");
    let cases = [
        ("CRLF", plain.replace('\n', "\r\n")),
        ("a byte order mark", format!("\u{feff}{plain}")),
        ("a byte order mark and a document's start", format!("\u{feff}---\n{plain}")),
        ("a document's end", format!("---\n{plain}...\n")),
        ("a document's end, and one that is empty", format!("{plain}...\n---\n...\n")),
        ("comments alone around it", format!("# a chart's\n---\n# nothing\n---\n{plain}---\n# the end\n")),
        ("no line's end at the end", plain.trim_end().into()),
        ("a List, as kubectl get writes it", format!("apiVersion: v1\nkind: List\nitems:\n  - {indented}")),
        (
            "an anchor and an alias",
            plain.replace("models: [a]", "models: [&name a]").replace("name: a}}", "name: *name}}"),
        ),
        (
            "a merge key",
            plain.replace("replicas: {min: 1, max: 4}", "replicas: {<<: {min: 1, max: 9}, max: 4}"),
        ),
    ];
    for (name, text) in cases {
        let read = read_scalers("f.yaml", &text);
        assert_eq!(read.as_ref(), Ok(&expected), "{name}:\n{text}");
    }
}

#[test]
fn a_quantity_is_one_in_each_of_its_forms() {
    for (written, value) in
        [("5", 5.0), ("\"5\"", 5.0), ("5000m", 5.0), ("'5000m'", 5.0), ("1Ki", 1024.0), ("1e1", 10.0)]
    {
        let read = read(&scaler("a", written));
        assert_eq!(read, self::read(&scaler("a", &value.to_string())), "{written}");
        let hpa = format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: a}}\nspec:\n  \
             scaleTargetRef: {{kind: Deployment, name: a}}\n  maxReplicas: 4\n  metrics:\n  - type: Pods\n    \
             pods: {{metric: {{name: waiting}}, target: {{type: AverageValue, averageValue: {written}}}}}\n"
        );
        let converted = convert("f.yaml", &hpa, Form::ScaledObject).expect("an HPA");
        let written_so = format!("threshold: \"{value}\"");
        let threshold = converted[0].yaml.replace('\'', "\"");
        assert!(threshold.contains(&written_so), "{written}: {threshold}");
    }
    for written in ["0", "-5", "5x", "five", "[5]", "\"\""] {
        let problems = read_scalers("f.yaml", &scaler("a", written)).expect_err(written);
        assert_eq!(problems.list[0].path, "spec.policy.queueDepth.perReplica", "{written}");
    }
}

#[test]
fn items_of_a_list_are_named_by_their_place() {
    let indent = |text: String| text.replace('\n', "\n    ");
    let (good, bad) = (indent(scaler("a", "5")), indent(scaler("b", "none")));
    let text = format!("apiVersion: v1\nkind: List\nitems:\n  - {good}\n  - {bad}");
    let problems = read_scalers("f.yaml", &text).expect_err("the second is bad");
    let paths: Vec<_> = problems.list.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["items[1].spec.policy.queueDepth.perReplica"]);
    let findings = found(&text);
    let finding = findings.iter().find(|finding| finding.code == "FW003").expect("FW003");
    assert_eq!(finding.path, "items[1].spec.policy.queueDepth.perReplica");
    assert!(text[finding.span.start..].starts_with("none"));
    assert!(
        read_scalers("f.yaml", "kind: List\napiVersion: v1\nitems: []\n").is_err(),
        "nothing is no scaler"
    );
}

#[test]
fn unknown_fields_of_foreign_manifests_are_warned_of_by_path() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: autoscaling/v2\n  kind: HorizontalPodAutoscaler\n  \
                metadata: {name: a}\n  spec:\n    scaleTargetRef: {kind: Deployment, name: a}\n    maxReplica: 3\n    \
                maxReplicas: 3\n    metrics:\n    - type: Pods\n      pods:\n        metric: {name: m}\n        \
                target: {type: AverageValue, avarageValue: 5}\n---\nkind: ScaledObject\napiVersion: \
                keda.sh/v1alpha1\nspec: {cooldownPeriods: 5}\n";
    let findings = found(text);
    let unknown: Vec<_> = findings.iter().filter(|f| f.code == "FW002").map(|f| f.path.as_str()).collect();
    assert_eq!(
        unknown,
        [
            "items[0].spec.maxReplica",
            "items[0].spec.metrics[0].pods.target.avarageValue",
            "spec.cooldownPeriods"
        ]
    );
}

#[test]
fn what_yaml_forbids_is_refused_where_it_stands() {
    for (name, text, line) in [
        ("a tab", "a:\n\tb: 1\n", 2),
        ("a key twice", "a: 1\nb: 2\na: 3\n", 3),
        ("a key twice in a merged mapping", "a: {<<: {b: 1, b: 2}}\n", 1),
        ("an alias of the document before", "a: &x 1\n---\nb: *x\n", 3),
    ] {
        let error = parse(text).expect_err(name);
        assert_eq!(error.line, line, "{name}: {error}");
        assert_eq!(found(text)[0].code, "FW001", "{name}");
    }
}

#[test]
fn edits_keep_the_lines_ends_of_the_file() {
    let text =
        "kind: ScaledObject\nspec:\n  minReplicaCount: 1\n  cooldownPeriod: 300\n  maxReplicaCount: 2\n";
    let text = text.replace('\n', "\r\n");
    let (fixed, settled) = apply_fixes("f.yaml", &text, &found(&text));
    assert_eq!(settled, 1);
    assert_eq!(fixed, text.replace("  cooldownPeriod: 300\r\n", ""));
}

#[test]
fn a_conversion_is_a_manifest_that_is_read() {
    let knative = |annotations: &str| {
        format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{template: {{metadata: \
             {{annotations: {{{annotations}}}}}}}}}\n"
        )
    };
    let text = knative("autoscaling.knative.dev/min-scale: \"9\"");
    let converted = convert("f.yaml", &text, Form::InferenceScaler).expect("a Knative service");
    assert_eq!(read(&converted[0].yaml)[0].spec.replicas.max.0, 9, "no guess below what is asked for");
    let text = knative("autoscaling.knative.dev/min-scale: \"9\", autoscaling.knative.dev/max-scale: \"3\"");
    let problems = convert("f.yaml", &text, Form::InferenceScaler).expect_err("bounds that cross");
    assert_eq!(problems.list[0].path, "spec.replicas.max");
}
