//! Knative's pod autoscaler, as of Knative Serving 0.51.
//!
//! [`scale`] is one `Scale()` of `pkg/autoscaler/scaling/autoscaler.go`: from the averages of a stable and
//! a panic window ([`window`]) to a count. [`ConfigMap`] turns the cluster's configuration and a
//! revision's annotations into its [`DeciderSpec`], and [`zero`] is the reconciler's rule for the last pod.

mod config;
mod decider;
pub mod window;
pub mod zero;

pub use config::{ConfigMap, InvalidConfig, Reachability, RevisionSpec, resolve};
pub(crate) use config::{annotation, parse_bool};
pub use decider::{
    DeciderSpec, KpaObservation, KpaOutcome, KpaReason, KpaState, PodsError, ScalingMetric, WindowAverages,
    scale,
};
