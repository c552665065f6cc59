//! What is measured outside: engine metrics, Prometheus queries, queues, each with its age.
//!
//! A source gives a [`forewarm_core::Signal`]; a value that is not there says why and is never 0. Start
//! reading at [`Poller`], which asks a source again and again and knows how old its last answer is. This
//! crate must not decide anything about scaling.

pub mod dcgm;
pub mod engine;
mod http;
mod kafka;
pub mod measure;
mod metrics_api;
mod poller;
pub mod prometheus;
mod rabbitmq;
mod secret;
mod sources;
pub mod text;
mod tls;

pub use poller::{PollOptions, Poller, SignalBatch};
pub use sources::{OtherSources, SourceError, Sources, describe};
