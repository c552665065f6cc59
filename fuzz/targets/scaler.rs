//! InferenceScaler manifests: refused with places in the text, or written out and read back the same.
#![no_main]

use forewarm_manifest::read_scalers;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match read_scalers("f", text) {
    Ok(scalers) => {
        for scaler in scalers {
            let yaml = scaler.to_yaml().expect("what was read can be written");
            let again = read_scalers("f", &yaml).unwrap_or_else(|problems| panic!("{problems}\nin\n{yaml}"));
            assert_eq!(again, [scaler]);
        }
    }
    Err(problems) => {
        assert!(!problems.list.is_empty());
        // A carriage return alone ends a line in YAML.
        let lines = text.split(['\n', '\r']).count();
        for problem in &problems.list {
            assert!((1..=lines + 1).contains(&problem.line), "{problem:?}");
        }
        assert!(!problems.to_string().is_empty());
    }
});
