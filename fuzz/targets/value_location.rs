//! Paths into JSON: a path that is read finds something or nothing, and reads the same from its own text.
#![no_main]

use forewarm_manifest::signal::ValueLocation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (path, document) = input;
    let Ok(location) = path.parse::<ValueLocation>() else { return };
    assert_eq!(location.to_string().parse(), Ok(location.clone()), "{path:?}");
    if let Ok(document) = serde_json::from_str(document) {
        location.find(&document);
    }
});
