//! Signals from AWS: what waits in a queue, and any metric of CloudWatch.

mod cloudwatch;
mod sqs;

pub use cloudwatch::{CloudWatchMetric, CloudWatchQuery, CloudWatchSource};
pub use sqs::{SqsQueue, SqsSource};
