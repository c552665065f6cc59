//! The simulator's time: whole microseconds from the start of the run, so that a run repeats to the last bit.

use std::time::Duration;

use forewarm_core::Timestamp;

/// A moment or a span of a run, in microseconds.
pub type Micros = u64;

/// A span of seconds, rounded to the microsecond.
pub(crate) fn seconds(seconds: f64) -> Micros {
    // `as` saturates, and maps NaN to 0.
    (seconds * 1e6).round() as Micros
}

/// A span of the standard library's type.
pub(crate) fn micros(span: Duration) -> Micros {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// The moment as the core has it.
pub(crate) fn timestamp(at: Micros) -> Timestamp {
    Timestamp::from_millis(i64::try_from(at / 1_000).unwrap_or(i64::MAX))
}
