//! The exact decision rules of other autoscalers, each as a pure function with explicit state.
//!
//! forewarm runs them as policies, compares itself with them on the same trace, and re-decides their
//! recorded history. The rules are reproduced to the last bit, surprises included: an improvement
//! belongs into forewarm's own policy, never here.

pub(crate) mod any_number;
pub mod dynamo;
pub(crate) mod go_arith;
mod go_duration;
mod go_float;
pub mod hpa;
pub mod keda;
pub mod kpa;
pub mod ray_serve;
pub mod sky_serve;
pub mod vectors;
