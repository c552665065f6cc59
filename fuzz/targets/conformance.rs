//! Lines of recorded runs, of every kind: replayed or refused.
#![no_main]

use forewarm_core::peers::vectors::{VectorKind, replay};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    for kind in
        [VectorKind::Hpa, VectorKind::Kpa, VectorKind::KpaWindow, VectorKind::KpaSpec, VectorKind::Keda]
    {
        if let Ok(report) = replay(kind, line) {
            for mismatch in report.steps.iter().flat_map(|step| &step.mismatches) {
                assert!(!mismatch.to_string().is_empty());
            }
        }
    }
});
