//! Event streams, as the gateway watches them and as the load generator reads them: however they are cut, the
//! same is seen.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    let watched = forewarm_gateway::fuzzing::watch(std::iter::once(stream));
    let scanned = forewarm_load::fuzzing::scan(std::iter::once(stream));
    for length in [1, 2, 7, 64] {
        assert_eq!(forewarm_gateway::fuzzing::watch(stream.chunks(length)), watched, "in pieces of {length}");
        assert_eq!(forewarm_load::fuzzing::scan(stream.chunks(length)), scanned, "in pieces of {length}");
    }
});
