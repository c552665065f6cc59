//! A GPU-free inference engine that speaks vLLM's API and metrics.
//!
//! It answers `/v1/chat/completions` and `/v1/completions` with made-up tokens at the pace of a timing model, so that
//! gateways, autoscalers and dashboards can be tried on any machine: continuous batching with KV memory and
//! preemption ([`scheduler`], pure), cold starts in stages ([`cold_start`], drawn purely), vLLM's `/metrics` page, and
//! vLLM's ways to die.
//!
//! It must not decide anything about scaling, and it must not be used as a real engine's replacement for quality:
//! its text is constant.
//!
//! Start reading at [`EngineConfig`] and [`run`].

mod api;
mod body;
mod clock;
pub mod cold_start;
mod config;
mod core;
mod error;
mod lag;
mod metrics;
pub mod profile;
pub mod scheduler;
mod server;
mod service;

pub use cold_start::ColdStart;
pub use config::{ConfigProblem, EngineConfig, InvalidConfig, LoadingBehaviour};
pub use error::EngineError;
pub use profile::{EngineProfile, UnknownProfile};
pub use server::{Engine, StageReport, run};
