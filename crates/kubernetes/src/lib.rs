//! Kubernetes: the InferenceScaler resource, its controller, targets and replicas.
//!
//! Start reading at [`scaler::Scaler::evaluate`], which is what happens to a scaler, and at [`controller`], which is
//! when. Everything up to [`table`] is pure; what touches the API server is behind it.

pub mod act;
pub mod clock;
pub mod condition;
pub mod contest;
pub mod controller;
pub mod fleet;
pub mod gateways;
pub mod lease;
pub mod metrics;
pub mod pod;
pub mod read;
pub mod resource;
pub mod scaler;
pub mod signals;
pub mod state;
pub mod table;
pub mod target;
pub mod watch;
pub mod why;
