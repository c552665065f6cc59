//! Knative's `config-autoscaler` and a revision's annotations, as lines of `key: value`.
#![no_main]

use std::collections::BTreeMap;

use forewarm_core::peers::kpa::{ConfigMap, Reachability, resolve};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let entries = || text.lines().filter_map(|line| line.split_once(": "));
    let data: BTreeMap<String, String> =
        entries().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let config = ConfigMap::parse(&data).or_else(|error| {
        assert!(!error.to_string().is_empty());
        ConfigMap::parse(&BTreeMap::new())
    });
    let annotations = data.into_iter().map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), value));
    let annotations: BTreeMap<_, _> = annotations.collect();
    for concurrency in [0, 10, i64::MAX] {
        for reachability in [Reachability::Unknown, Reachability::Unreachable] {
            let config = config.as_ref().expect("Knative's defaults are valid");
            let spec = resolve(config, &annotations, concurrency, reachability);
            assert!(spec.panic_window.as_secs() >= 1);
        }
    }
});
