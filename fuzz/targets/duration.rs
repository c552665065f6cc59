//! Go durations as manifests have them: written and read back the same to the precision they are written in.
#![no_main]

use forewarm_manifest::quantity::{duration, write_duration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(span) = duration(text) else { return };
    let written = write_duration(span);
    let again = duration(&written).unwrap_or_else(|error| panic!("{text:?} as {written:?}: {error}"));
    assert_eq!(again, span, "{text:?} as {written:?}");
});
