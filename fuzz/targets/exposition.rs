//! Pages of metrics, in both formats, as samples and as what an engine says.
#![no_main]

use forewarm_signals::{
    engine::{EngineKind, EngineReading},
    text::{Format, Samples},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|page: &[u8]| {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let lines = page.split(|&byte| byte == b'\n').count();
        let mut seen = 0;
        for sample in Samples::all(page, format) {
            seen += 1;
            match sample {
                Ok(sample) => {
                    assert!(!sample.name.is_empty());
                    for (name, value) in sample.labels {
                        assert!(!name.is_empty());
                        drop(value);
                    }
                }
                Err(error) => assert!(error.line <= lines, "{error}"),
            }
        }
        // One for each line, and one for an end that is missing.
        assert!(seen <= lines + 1);
        for kind in EngineKind::ALL {
            drop(EngineReading::parse(kind, page, format));
        }
    }
});
