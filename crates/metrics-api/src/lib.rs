//! `custom.metrics.k8s.io` and `external.metrics.k8s.io`: what forewarm sees of engines, for an HPA.
//!
//! Start reading at [`MetricsApi`]. Engines are asked when somebody asks for them; what they did not say is
//! absent, never 0, so that an HPA holds instead of scaling down. It must not decide anything about scaling.

mod answer;
mod attributes;
mod authenticate;
mod authorise;
mod engines;
mod gpu;
mod metric;
mod pods;
mod requests;
mod selector;
mod server;
mod trust;
mod values;

use forewarm_core::ScalerId;
use futures_util::future::BoxFuture;

pub use engines::EngineOptions;
pub use metric::{Metric, metric_names};
pub use server::{CertificateFiles, MetricsApi, MetricsApiConfig, MetricsApiError};

/// Groups and versions that are served, for APIServices.
pub const SERVED: [(&str, &str); 3] =
    [(requests::CUSTOM, "v1beta1"), (requests::CUSTOM, "v1beta2"), (requests::EXTERNAL, "v1beta1")];
/// The label of pods whose requests wait at a gateway: the name of their scaler there.
pub const SCALER_LABEL: &str = "forewarm.dev/scaler";
/// The annotation of pods that run another engine than the usual: `sglang`.
pub const ENGINE_ANNOTATION: &str = "forewarm.dev/engine";

/// Who knows how many requests wait before they reach an engine.
pub trait Queues: Send + Sync + 'static {
    /// Requests that wait for the replicas of a scaler; why nobody knows, otherwise.
    fn queued<'a>(&'a self, scaler: &'a ScalerId) -> BoxFuture<'a, Result<u64, String>>;
}
