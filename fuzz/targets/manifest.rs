//! A file of manifests: read, linted, fixed, rendered, converted to every form.
#![no_main]

use forewarm_manifest::{
    convert::{Form, convert},
    lint::{Finding, Source, apply_fixes, lint, to_json, to_sarif, to_text},
    yaml::{Node, Value, parse},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for document in parse(text).unwrap_or_default() {
        within(text, &document);
    }
    let findings = linted(text);
    for finding in &findings {
        assert!(text.get(finding.span.start..finding.span.end).is_some(), "{finding:?} is not in the text");
        fixed(text, finding);
    }
    for (_, form) in Form::ALL {
        let conversions = convert("f", text, form);
        assert_eq!(conversions, convert("f", text, form));
        for conversion in conversions.iter().flatten() {
            if conversion.yaml.contains("awsAutoScalingGroup:") {
                // Said to be of no use in this version.
                continue;
            }
            // What has the form already stays as it is.
            let again = convert("f", &conversion.yaml, form).expect("a conversion is a manifest");
            assert_eq!(again.len(), 1, "{}", conversion.yaml);
            assert_eq!(again[0].yaml, conversion.yaml);
        }
    }
});

fn linted(text: &str) -> Vec<Finding> {
    let sources = [Source { name: "f".into(), text: text.into() }];
    let findings = lint(&sources);
    to_text(&findings, &sources, false);
    to_json(&findings);
    to_sarif(&findings);
    findings
}

/// An edit settles its finding, and breaks nothing.
fn fixed(text: &str, finding: &Finding) {
    let (fixed, settled) = apply_fixes("f", text, std::slice::from_ref(finding));
    if settled == 0 {
        assert_eq!(fixed, text);
        return;
    }
    let count = |text: &str| {
        let same = |other: &&Finding| (other.code, &other.path) == (finding.code, &finding.path);
        linted(text).iter().filter(same).count()
    };
    assert!(parse(&fixed).is_ok(), "{finding:?} makes\n{fixed}");
    assert!(count(&fixed) < count(text), "{finding:?} is still in\n{fixed}");
}

/// Every node's place is a part of the text.
fn within(text: &str, node: &Node) {
    assert!(text.get(node.span.start..node.span.end).is_some(), "{node:?} is not in the text");
    match &node.value {
        Value::Scalar(_) => {}
        Value::Seq(items) => items.iter().for_each(|item| within(text, item)),
        Value::Map(entries) => entries.iter().for_each(|entry| {
            assert!(text.get(entry.key_span.start..entry.key_span.end).is_some(), "{entry:?}");
            within(text, &entry.value);
        }),
    }
}
