//! Every rule, on a manifest that it is about and on the same manifest put right.

mod support;

use std::collections::BTreeSet;

use forewarm_manifest::lint::{
    Source, apply_fixes, codes, codes_table, explain, lint, to_json, to_sarif, to_text,
};
use support::{Case, cases, seed};

fn source(name: &str, text: &str) -> Source {
    Source { name: name.into(), text: text.into() }
}

fn codes_in(text: &str) -> Vec<&'static str> {
    lint(&[source("f.yaml", text)]).iter().map(|finding| finding.code).collect()
}

#[test]
fn every_rule_finds_the_bad_and_leaves_the_good_alone() {
    for Case { code, bad, good, path } in cases() {
        let findings = lint(&[source("f.yaml", bad)]);
        let found = findings.iter().find(|finding| finding.code == *code);
        let found = found.unwrap_or_else(|| panic!("{code} not found in\n{bad}\n{findings:#?}"));
        assert_eq!(found.path, *path, "{code}");
        assert!(found.line >= 1 && found.line <= bad.lines().count(), "{code}: line {}", found.line);
        assert!(!codes_in(good).contains(code), "{code} found in\n{good}");
    }
}

#[test]
fn every_code_has_a_case_and_a_page() {
    let tested: BTreeSet<_> = cases().map(|case| case.code).collect();
    let known: Vec<_> = codes().collect();
    assert!(known.is_sorted_by(|a, b| a.code < b.code), "codes are unique and in order");
    for code in known {
        assert!(tested.contains(code.code), "{} has no case", code.code);
        let page = explain(code.code).expect("a page");
        assert!(page.starts_with(&format!("# {}: {}\n", code.code, code.title)), "{page}");
        for part in ["## Why it hurts", "## How to fix it", "## Source", "<https://"] {
            assert!(page.contains(part), "{}: {part}", code.code);
        }
    }
    assert_eq!(explain("fw020"), explain("FW020"));
    assert_eq!(explain("FW999"), None);
}

#[test]
fn edits_settle_what_they_are_for_and_keep_the_rest() {
    let mut edited = 0;
    for Case { code, bad, .. } in cases() {
        let findings = lint(&[source("f.yaml", bad)]);
        let of_code: Vec<_> = findings.into_iter().filter(|finding| finding.code == *code).collect();
        if of_code.iter().all(|finding| finding.fix.as_ref().is_none_or(|fix| fix.edits.is_empty())) {
            continue;
        }
        let (fixed, settled) = apply_fixes("f.yaml", bad, &of_code);
        edited += settled;
        assert!(settled > 0 && !codes_in(&fixed).contains(code), "{code} still in\n{fixed}");
        for comment in bad.lines().filter(|line| line.trim_start().starts_with('#')) {
            assert!(fixed.contains(comment), "{code} lost {comment}");
        }
    }
    assert!(edited >= 9, "{edited} edits");
}

#[test]
fn the_seed_configuration_has_the_traps_it_is_known_for() {
    let findings = lint(&seed());
    let has = |code: &str, file: &str, path: &str| {
        assert!(
            findings.iter().any(|f| f.code == code && f.file.ends_with(file) && f.path == path),
            "{code} {file} {path}"
        );
    };
    has("FW010", "hpa.yaml", "spec.metrics[1].pods.metric.name");
    has("FW012", "hpa.yaml", "spec.metrics[1].pods.metric.name");
    has("FW015", "hpa.yaml", "spec.metrics[0].pods.metric.name");
    has("FW021", "hpa.yaml", "spec.behavior.scaleUp.policies[0]");
    has("FW022", "hpa.yaml", "spec.behavior.scaleUp.stabilizationWindowSeconds");
    has("FW030", "scaledobject.yaml", "spec.cooldownPeriod");
    has("FW031", "scaledobject.yaml", "spec.triggers[0].metadata.metricName");
    has("FW013", "scaledobject.yaml", "spec.triggers[1].metadata.query");
    has("FW011", "scaledobject.yaml", "spec.triggers[0].metadata.query");
    has("FW020", "scaledobject.yaml", "spec.scaleTargetRef");
    has("FW032", "scaledobject.yaml", "spec.triggers[0].metadata.query");
    has("FW033", "scaledobject.yaml", "spec.triggers");
    has("FW050", "asg.json", "TargetTrackingConfiguration.ScaleInCooldown");
    has("FW050", "asg.json", "TargetTrackingConfiguration.ScaleOutCooldown");
    has("FW051", "asg.json", "TargetTrackingConfiguration.CustomizedMetricSpecification.MetricName");
    has("FW052", "asg.json", "TargetTrackingConfiguration.ScaleOutCooldown");

    // Alone, neither file has another autoscaler to fight with.
    for source in seed() {
        assert!(lint(&[source]).iter().all(|finding| finding.code != "FW020"));
    }
}

#[test]
fn the_seed_configuration_stays_readable_when_it_is_fixed() {
    for source in seed() {
        let findings = lint(std::slice::from_ref(&source));
        let (text, settled) = apply_fixes(&source.name, &source.text, &findings);
        assert!(settled > 0 || source.name.ends_with("hpa.yaml"), "{}", source.name);
        let fixed = Source { name: source.name.clone(), text };
        let left = lint(std::slice::from_ref(&fixed));
        // One edit may settle what another finding is about, too.
        assert!(left.len() <= findings.len() - settled, "{}\n{}", source.name, fixed.text);
        assert!(apply_fixes(&fixed.name, &fixed.text, &left).1 == 0, "a second run has nothing to do");
        if source.name.ends_with("json") {
            serde_json::from_str::<serde_json::Value>(&fixed.text).expect("still JSON");
        }
    }
}

#[test]
fn overlapping_edits_are_applied_one_at_a_time() {
    // Both the missing sum() and the missing colon are in one query: insertions around, replacement inside.
    let text = "\
kind: ScaledObject
spec:
  triggers:
    - type: prometheus
      metadata:
        query: vllm_num_requests_waiting # of all pods
";
    let findings = lint(&[source("f.yaml", text)]);
    let (fixed, _) = apply_fixes("f.yaml", text, &findings);
    assert!(fixed.contains("query: sum(vllm:num_requests_waiting) # of all pods\n"), "{fixed}");
}

#[test]
fn a_sum_is_put_only_around_what_is_an_expression_and_settles_it() {
    let cases = [
        // Found by fuzzing: `sum()a by(((()` would be no better.
        (")a by((((", false),
        ("rate(a[1m]", false),
        (r#"a{b="c}"#, false),
        ("rate(a[1m]) # of all", false),
        (r#"a{b=" by ("}"#, true),
        (r#"a{b="("} "#, true),
        (r#"rate(a{b="\")"}[1m])"#, true),
        ("rate(a[1m])", true),
    ];
    for (query, is_fixed) in cases {
        let text = format!(
            "kind: ScaledObject\nspec:\n  triggers:\n    - type: prometheus\n      metadata:\n        query: '{query}'\n"
        );
        let of_code = |text: &str| -> Vec<_> {
            let findings = lint(&[source("f.yaml", text)]);
            findings.into_iter().filter(|finding| finding.code == "FW013").collect()
        };
        let findings = of_code(&text);
        assert_eq!(findings.len(), 1, "{query}");
        let (fixed, settled) = apply_fixes("f.yaml", &text, &findings);
        assert_eq!(settled == 1, is_fixed, "{fixed}");
        assert_eq!(of_code(&fixed).is_empty(), is_fixed, "{fixed}");
    }
}

#[test]
fn what_people_write_is_taken_as_it_is() {
    let hpa = |name: &str, target: &str| {
        format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: {name}}}\nspec:\n  \
             scaleTargetRef: {{kind: Deployment, name: {target}}}\n  maxReplicas: 4\n"
        )
    };
    // Helm output: comments, empty documents, a List, an anchor.
    let text = format!(
        "---\n# Source: chart/templates/hpa.yaml\n{}---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n  - \
         &a\n    kind: HorizontalPodAutoscaler\n    apiVersion: autoscaling/v2\n    metadata: {{name: b}}\n    spec: \
         {{scaleTargetRef: {{name: x, kind: Deployment}}, maxReplicas: 2}}\n  - *a\n",
        hpa("a", "x")
    );
    assert_eq!(codes_in(&text), ["FW020", "FW020"]);
    // Different namespaces and different kinds are different targets.
    let other = "kind: HorizontalPodAutoscaler\napiVersion: autoscaling/v2\nmetadata: {namespace: other}\nspec: \
                 {scaleTargetRef: {kind: Deployment, name: x}, maxReplicas: 3}\n";
    assert_eq!(codes_in(&format!("{}---\n{other}", hpa("a", "x"))), Vec::<&str>::new());
    // Things that are no business of ours.
    assert_eq!(
        codes_in("kind: Service\nspec: {ports: [{port: 80}]}\n---\njust text\n---\n[1, 2]\n"),
        Vec::<&str>::new()
    );
}

#[test]
fn outputs_have_the_shapes_that_scripts_rely_on() {
    let sources = [
        source("a b.yaml", cases().nth(3).expect("more than three").bad),
        source("broken.yaml", "a: [1\nb: 2\n"),
    ];
    let findings = lint(&sources);
    let json = to_json(&findings);
    for (finding, shown) in findings.iter().zip(json.as_array().expect("an array")) {
        assert_eq!(shown["code"], finding.code);
        assert_eq!(shown["severity"], finding.severity.label());
        assert_eq!(shown["file"], finding.file);
        assert_eq!(shown["line"], finding.line);
        assert_eq!(shown["path"], finding.path);
        assert!(shown["message"].is_string());
        assert!(shown["fix"].is_string() || shown["fix"].is_null());
    }
    let sarif = to_sarif(&findings);
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    for result in run["results"].as_array().expect("results") {
        let index = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small");
        assert_eq!(rules[index]["id"], result["ruleId"]);
        let level = result["level"].as_str().expect("a level");
        assert!(["error", "warning", "note"].contains(&level));
        let location = &result["locations"][0]["physicalLocation"];
        assert!(location["region"]["startLine"].as_u64().is_some_and(|line| line >= 1));
        let uri = location["artifactLocation"]["uri"].as_str().expect("a uri");
        assert!(["a%20b.yaml", "broken.yaml"].contains(&uri), "{uri}");
    }
    let text = to_text(&findings, &sources, false);
    for finding in &findings {
        assert!(text.contains(finding.code) && text.contains(&finding.message), "{text}");
    }
    assert!(to_text(&[], &[], false).contains("0 error, 0 warning, 0 info"));
}

#[test]
fn the_text_output_shows_the_place_and_the_fix() {
    let text =
        "kind: ScaledObject\nspec:\n  minReplicaCount: 1\n  cooldownPeriod: 300\n  maxReplicaCount: 2\n";
    let sources = [source("so.yaml", text)];
    insta::assert_snapshot!(to_text(&lint(&sources), &sources, false), @r"
    warning[FW030]: `cooldownPeriod` acts on the step to zero only, and minReplicaCount is above 0: it does nothing
     --> so.yaml:4:3
      |
    4 |   cooldownPeriod: 300
      |   ^^^^^^^^^^^^^^ spec.cooldownPeriod
      |
    help: remove it; the way down is `advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds`
      |
    4 -   cooldownPeriod: 300
      |

    0 error, 1 warning, 0 info
    ");
}

#[test]
fn the_documentation_lists_every_code_and_the_findings_on_the_seed() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lint.md");
    let shown = std::fs::read_to_string(&docs).unwrap_or_default();
    let mut expected = support::LINT_DOC_HEAD.to_owned();
    expected += &codes_table();
    expected += support::LINT_DOC_SEED;
    expected += "```text\n";
    for f in lint(&seed()) {
        expected += &format!("{}:{}: {} {}: {}\n", f.file, f.line, f.severity.label(), f.code, f.message);
    }
    expected += "```\n";
    if std::env::var_os("FOREWARM_BLESS").is_some() {
        std::fs::write(&docs, &expected).expect("docs/lint.md can be written");
        return;
    }
    assert!(
        shown == expected,
        "docs/lint.md is not what the registry says: run this test with FOREWARM_BLESS=1"
    );
}

#[test]
fn hostile_files_are_a_finding() {
    let deep = "[".repeat(10_000);
    assert_eq!(codes_in(&deep), ["FW001"]);
    let large = " ".repeat(100_000_000);
    assert_eq!(codes_in(&large), ["FW001"]);
}

proptest::proptest! {
    #[test]
    fn no_manifest_however_mangled_stops_the_linter(index in 0..cases().count(), cut in 0.0..1.0f64, junk in "[a-z:\\[{\" \\n-]{0,5}") {
        let text = cases().nth(index).expect("within the table").bad;
        let at = (0..=(text.len() as f64 * cut) as usize).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let mangled = format!("{}{junk}{}", &text[..at], &text[at..]);
        let sources = [source("f.yaml", &mangled)];
        let findings = lint(&sources);
        let (fixed, _) = apply_fixes("f.yaml", &mangled, &findings);
        proptest::prop_assert!(lint(&[source("f.yaml", &fixed)]).len() <= findings.len() + 1);
        to_text(&findings, &sources, false);
    }
}
