//! KEDA's scaling formulas: read, and evaluated over triggers with and without a value.
#![no_main]

use std::collections::BTreeMap;

use forewarm_core::peers::keda::Formula;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(formula) = Formula::parse(text) else { return };
    let triggers = BTreeMap::from([
        ("a".to_owned(), Some(2.0)),
        ("b".to_owned(), Some(-3.5)),
        ("huge".to_owned(), Some(f64::MAX)),
        ("gone".to_owned(), None),
    ]);
    let first = formula.evaluate_milli(&triggers);
    assert_eq!(first, formula.evaluate_milli(&triggers));
    if first.is_ok() && formula.check_names(&[]).is_err() {
        // A name that is nowhere is an error, unless it is in a branch that is not taken.
        drop(formula.evaluate_milli(&BTreeMap::new()));
    }
});
