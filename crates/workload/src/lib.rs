//! Requests and when they come: readers of real traces, seeded generators, windows and scaling.
//!
//! No async and no network: [`WorkloadSource`] says what to read or make, the result is a [`Workload`].

mod prometheus;
mod quantile;
mod range_query;
mod read;
mod servegen;
mod shape;
mod source;
mod transform;

use std::time::Duration;

pub use prometheus::{RateError, RateSpec};
pub use range_query::{RangeQuery, RangeQueryError, RangeSeries};
pub use read::{ReadError, RowProblem, read_trace, read_trace_from};
pub use servegen::{
    SIMPLE_ENGINE_INPUT_TOKENS_PER_SECOND, SIMPLE_ENGINE_SECONDS_PER_OUTPUT_TOKEN, ServeGen, ServeGenError,
    ServeGenSpec,
};
pub use shape::{DEMO_LENGTH, demo};
pub use source::{SourceError, WorkloadSource};
pub use transform::Burst;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it arrives, from the start of the workload.
    pub arrival: Duration,
    /// Tokens of its prompt.
    pub input_tokens: u32,
    /// Tokens to generate.
    pub output_tokens: u32,
    /// Leading tokens of its prompt whose KV entries an engine has already, if it caches prefixes.
    pub cached_tokens: u32,
}

/// Requests in the order of their arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The requests, sorted by arrival.
    pub requests: Vec<Request>,
    /// What is to be known about how they came to be: rows out of order, rows left out.
    pub notes: Vec<String>,
}

impl Workload {
    /// Time from the start to the last arrival.
    pub fn length(&self) -> Duration {
        self.requests.last().map_or(Duration::ZERO, |request| request.arrival)
    }
}
