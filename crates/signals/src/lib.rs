//! What is measured outside: engine metrics, Prometheus queries, each with its age.
//!
//! A source gives a [`forewarm_core::Signal`]; a value that is not there says why and is never 0. Start
//! reading at [`Poller`], which asks a source again and again and knows how old its last answer is. This
//! crate must not decide anything about scaling.

pub mod dcgm;
pub mod engine;
mod http;
mod poller;
pub mod prometheus;
pub mod text;

pub use poller::{PollOptions, Poller, SignalBatch};
