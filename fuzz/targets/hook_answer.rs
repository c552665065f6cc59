//! Answers of a webhook or a command: a fleet within its bounds, a refusal, or an error in words.
#![no_main]

use std::{collections::BTreeSet, time::Duration};

use forewarm_hooks::protocol::{SeenFleet, applied, observed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    match observed(body) {
        Ok(Ok(observed)) => match observed.fleet {
            SeenFleet::Number { desired, ready } => assert!(desired <= 10_000 && ready <= 10_000),
            SeenFleet::Replicas(replicas) => {
                let names: BTreeSet<_> = replicas.iter().map(|replica| replica.id.clone()).collect();
                assert_eq!(names.len(), replicas.len());
                assert!(replicas.len() <= 10_000);
                for age in replicas.iter().filter_map(|replica| replica.age) {
                    // A controller's clock adds to it.
                    assert!(age + Duration::from_secs(1 << 30) > age);
                }
            }
        },
        Ok(Err(refusal)) => {
            // What stands beside it in an answer to `observe` may be no answer to `apply`.
            if let Ok(done) = applied(body) {
                assert_eq!(done, Err(refusal));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
