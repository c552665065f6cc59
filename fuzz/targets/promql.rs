//! PromQL expressions, in a trigger that scales on them.
#![no_main]

use forewarm_manifest::{
    lint::{Finding, Source, apply_fixes, lint},
    yaml::parse,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| {
    let quoted = serde_json::to_string(query).expect("text is JSON");
    let text = format!(
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{name: a}}\nspec:\n  triggers:\n  - type: \
         prometheus\n    metadata:\n      query: {quoted}\n"
    );
    let sources = [Source { name: "f".into(), text: text.clone() }];
    for finding in lint(&sources) {
        let (fixed, settled) = apply_fixes("f", &text, std::slice::from_ref(&finding));
        if settled > 0 {
            assert!(parse(&fixed).is_ok(), "{fixed}");
            let left = lint(&[Source { name: "f".into(), text: fixed.clone() }]);
            let same = |other: &Finding| (other.code, &other.message) == (finding.code, &finding.message);
            assert!(!left.iter().any(same), "{finding:?} in\n{fixed}");
        }
    }
});
