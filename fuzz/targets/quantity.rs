//! Quantities: the canonical form reads back as the same value. Its suffixes may change their kind, as they do in
//! Kubernetes: `62.5Ki` is written `64000`, and that is written `64k`.
#![no_main]

use forewarm_core::quantity::Quantity;
use forewarm_manifest::quantity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(read) = text.parse::<Quantity>() {
        let canonical = read.to_string();
        let again: Quantity = canonical.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(again.milli_value(), read.milli_value(), "{text:?}");
        assert_eq!(again.is_negative(), read.is_negative(), "{text:?}");
        let (a, b) = (again.approximate(), read.approximate());
        assert!((a - b).abs() <= 1e-12 * a.abs(), "{text:?}: {a} and {b}");
        let json = serde_json::to_string(&read).expect("a quantity can be written");
        assert_eq!(serde_json::from_str::<Quantity>(&json).ok(), Some(again), "{text:?}");
    }
    if let Ok(value) = quantity::quantity(text) {
        assert!(value.is_finite(), "{text:?} is {value}");
    }
    if let Ok(size) = quantity::bytes(text) {
        assert_eq!(quantity::bytes(&quantity::write_bytes(size)), Ok(size), "{text:?}");
    }
});
