//! Engine and GPU metrics in one normalised form, for whoever scrapes Prometheus text.
//!
//! Start reading at [`Exporter`]. A round that fails takes its gauges away and says so in an `…_up` or
//! state gauge: a value that is served is one of the last round, and nothing that fails ends the rounds.

mod config;
mod exposition;
pub mod gpu;
mod page;
mod round;
mod server;

pub use config::{ConfigError, EngineAddress, ExporterConfig};
pub use server::{Exporter, ExporterError, run};
