//! Open-loop load and the account of every request.
//!
//! Requests are sent when the workload says, whether or not earlier ones have ended. Start reading at [`run`].

mod account;
mod client;
mod report;
mod run;
mod sse;

pub use account::{Account, Ending, FailureCause};
pub use report::{LoadReport, Quantiles};
pub use run::{LoadConfig, LoadError, LoadProgress, run};
