//! The rules, grouped by what they look at. A rule reads the world and reports; it decides nothing else.

pub(super) mod autoscalers;
pub(super) mod aws;
pub(super) mod behavior;
pub(super) mod hpa;
pub(super) mod keda;
pub(super) mod keda_zero;
pub(super) mod knative;
pub(super) mod metrics;
pub(super) mod ours;
pub(super) mod promql;
pub(super) mod schema;
pub(super) mod workload;
