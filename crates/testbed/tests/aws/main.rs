//! Auto Scaling groups, queues and metrics against servers that speak AWS' APIs.

mod group;
mod others;
mod policy;
mod signal;
mod support;
mod warm;
