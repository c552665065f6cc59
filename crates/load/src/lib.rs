//! Open-loop load and the account of every request.
//!
//! Requests are sent when the workload says, whether or not earlier ones have ended. Start reading at [`run`].

mod account;
mod client;
mod report;
mod run;
mod sse;

/// What reads the bytes of strangers, for the fuzz targets only.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Events with text, done, and the error's code, after a stream that comes in these pieces.
    pub fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (u32, bool, Option<String>) {
        let mut scanner = crate::sse::Scanner::default();
        let events = pieces.map(|piece| scanner.push(piece)).sum();
        (events, scanner.done, scanner.error)
    }
}

pub use account::{Account, Ending, FailureCause};
pub use report::{LoadReport, Quantiles};
pub use run::{LoadConfig, LoadError, LoadProgress, run};
