//! Answers of a Prometheus server: a signal with a finite value and an age, or a failure in words.
#![no_main]

use std::time::Duration;

use forewarm_core::Evidence;
use forewarm_manifest::signal::PrometheusSignal;
use forewarm_signals::prometheus::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for per_replica_label in [None, Some("pod".to_owned())] {
        let query =
            PrometheusSignal { per_replica_label, ..PrometheusSignal::new("http://localhost:9090", "sum(up)") };
        for status in [200, 503] {
            let Ok(signal) = fuzzing::answer(status, body, &query, 100.0) else { continue };
            // What waits is added to its age.
            let aged = signal.age + Duration::from_secs(1 << 30);
            assert!(aged > signal.age);
            if let Evidence::Known(value) = signal.evidence(Duration::MAX) {
                assert!(value.is_finite());
            }
        }
    }
});
