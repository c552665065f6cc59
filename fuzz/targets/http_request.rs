//! Requests of clients over HTTP/1.1, as the gateway reads them: however they are cut, the same is read.
#![no_main]

use forewarm_gateway::fuzzing::requests;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (seen, end) = requests(std::iter::once(bytes).filter(|bytes| !bytes.is_empty()));
    for length in [1, 2, 7, 64] {
        let (cut, its_end) = requests(bytes.chunks(length));
        assert_eq!(cut, seen, "in pieces of {length}");
        // A line that does not end is not looked at byte by byte: what else is wrong with it may not be known.
        assert_eq!(its_end.is_ok(), end.is_ok(), "in pieces of {length}: {its_end:?}, {end:?}");
    }
});
