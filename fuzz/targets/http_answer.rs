//! Answers of replicas over HTTP/1.1, as the gateway reads them: however they are cut, the same is read.
#![no_main]

use forewarm_gateway::fuzzing::answer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let is_head = first % 8 == 0;
    let read = answer(is_head, std::iter::once(bytes).filter(|bytes| !bytes.is_empty()));
    for length in [1, 2, 7, 64] {
        assert_eq!(answer(is_head, bytes.chunks(length)), read, "in pieces of {length}");
    }
});
