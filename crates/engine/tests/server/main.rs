//! The engine over real connections on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail tests")]

mod http;
mod metrics_page;
mod support;
