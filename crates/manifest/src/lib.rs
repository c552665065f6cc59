//! Manifests as people write them: read, check, lint and convert.
//!
//! No file is opened here and nothing is printed: texts go in, checked values, findings and texts come
//! out. Start reading at [`read_scalers`]; [`read_policy`] takes the manifests of others, too.

pub mod convert;
mod cursor;
pub mod lint;
mod observations;
mod policy;
mod policy_file;
mod problem;
pub mod quantity;
mod range_export;
mod scaler;
mod suggest;
pub mod yaml;

pub use observations::{ObservationError, read_observations};
pub use policy_file::read_policy;
pub use problem::{Problem, Problems};
pub use range_export::{RangeError, RangeExport};
pub use scaler::{
    API_VERSION, AwsAutoScalingGroup, CheckedScaler, EngineKind, EngineSpec, ExecTarget, KIND,
    KubernetesTarget, KvTokens, NamedSignal, Objective, Processes, SecretRef, SignalSource, Target,
    WebhookTarget, read_scalers, signal,
};
