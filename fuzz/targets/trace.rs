//! Request traces in every known format, and ServeGen's two tables.
#![no_main]

use std::path::Path;

use forewarm_workload::{ServeGen, ServeGenSpec, read_trace_from};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(workload) = read_trace_from(Path::new("f"), bytes) {
        assert!(!workload.requests.is_empty());
        assert!(workload.requests.is_sorted_by_key(|request| request.arrival));
        assert!(workload.requests[0].arrival.is_zero());
    }
    // The two tables lie one after the other, an empty line between them.
    let cut = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (rates, tokens) = bytes.split_at(cut);
    let spec = ServeGenSpec {
        rates: "rates".into(),
        tokens: "tokens".into(),
        replicas: 1.0,
        slots: 1,
        seed: 1,
        from_day: 0.0,
        days: None,
    };
    let Ok(servegen) = ServeGen::read(&spec, rates, tokens.trim_ascii_start()) else { return };
    if servegen.expected_requests() < 10_000.0 {
        let requests: Vec<_> = servegen.requests().collect();
        assert!(requests.is_sorted_by_key(|request| request.arrival));
    }
});
