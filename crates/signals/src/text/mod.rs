//! The text that metrics are exposed in: Prometheus 0.0.4 and OpenMetrics 1.0.
//!
//! Reads samples one line at a time out of a buffer and copies nothing but escaped label values. It must
//! not know any engine or metric name.

mod error;
mod labels;
mod samples;

pub use error::{ParseError, Problem};
pub use labels::{LabelIter, Labels};
pub use samples::{Format, MAX_LINE_BYTES, Sample, Samples};
