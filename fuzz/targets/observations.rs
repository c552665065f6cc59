//! Recorded observations, one JSON object a line; what is read is written and read back the same.
#![no_main]

use forewarm_manifest::read_observations;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(observations) = read_observations("f", text) else { return };
    let lines = observations
        .iter()
        .map(|observation| serde_json::to_string(observation).expect("an observation can be written") + "\n");
    let written: String = lines.collect();
    let again = read_observations("f", &written).unwrap_or_else(|error| panic!("{error} in\n{written}"));
    assert_eq!(again, observations);
});
