//! `InferenceScaler`, the manifest of forewarm's own: from the file to a checked scaler.
//!
//! Every value of [`CheckedScaler`] obeys every rule, and a file that breaks some is refused with all of
//! them at once. Whether a target can be served, and whether a pause has passed, is for the caller.

mod effective;
mod effective_policy;
mod engine;
mod hooks;
mod policy;
mod queue;
mod read;
mod routing;
pub mod signal;
mod target;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use forewarm_core::{
    Policy, ScalerSpec,
    pool::{QueueLimits, Routing},
};

pub use engine::{EngineKind, EngineSpec, KvTokens};
pub use hooks::{ExecTarget, SecretRef, WebhookTarget};
pub use read::read_scalers;
pub(crate) use read::{MAX_REPLICAS, read_one};
pub use signal::{NamedSignal, SignalSource};

/// The `apiVersion` of this schema.
pub const API_VERSION: &str = "forewarm.dev/v1alpha1";
/// The `kind` of this schema.
pub const KIND: &str = "InferenceScaler";

/// An `InferenceScaler` that obeys every rule.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedScaler {
    /// `metadata.namespace`, for targets that have one.
    pub namespace: Option<String>,
    /// What deciding needs.
    pub spec: ScalerSpec,
    /// What is scaled.
    pub target: Target,
    /// What serves the requests.
    pub engine: EngineSpec,
    /// Values of a request's `model` that come here; empty: every model.
    pub models: Vec<String>,
    /// The waiting room at the gateway.
    pub queue: QueueLimits,
    /// How the gateway tells requests apart, and what those that wait are told.
    pub routing: Routing,
    /// What is read, by name.
    pub signals: Vec<NamedSignal>,
    /// What is promised to users, when anything is.
    pub objective: Option<Objective>,
}

impl CheckedScaler {
    /// Requests that may wait at the gateway: some 10 minutes of a replica's work at 8 requests/s, and at
    /// a few KiB each a small part of [`CheckedScaler::DEFAULT_QUEUE_BYTES`].
    pub const DEFAULT_QUEUE_REQUESTS: u32 = 5000;
    /// Bytes of their bodies: little beside the memory of a machine that holds a GPU.
    pub const DEFAULT_QUEUE_BYTES: u64 = 256 * 1024 * 1024;
    /// Longest wait while capacity is ready: what long-running clients (15 minutes) still sit through.
    pub const DEFAULT_QUEUE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
    /// Time between SIGTERM and SIGKILL of a process: what Kubernetes gives a pod.
    pub const DEFAULT_TERMINATION_GRACE: Duration = Duration::from_secs(30);

    /// Whether requests come to it through the gateway; workers that take messages from a queue have none.
    pub fn takes_requests(&self) -> bool {
        !matches!(self.spec.policy, Policy::Queue(_))
    }

    /// The manifest with every default written out. Reading it gives this scaler again.
    ///
    /// # Errors
    /// When a value cannot be written as YAML, which no value that was read from YAML can cause.
    pub fn to_yaml(&self) -> Result<String, crate::yaml::WriteError> {
        crate::yaml::write(&effective::Manifest::of(self))
    }
}

/// What is scaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Processes on this machine.
    Processes(Processes),
    /// An object of Kubernetes with a `scale` subresource.
    Kubernetes(KubernetesTarget),
    /// An Auto Scaling group of AWS, one instance for each replica.
    AwsAutoScalingGroup(AwsAutoScalingGroup),
    /// Whatever is behind an HTTPS endpoint of the user's.
    Webhook(WebhookTarget),
    /// Whatever a command of the user's starts and stops.
    Exec(ExecTarget),
}

/// Processes on this machine, one for each replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processes {
    /// The program and its arguments; `{port}` in an argument becomes the replica's port.
    pub command: Vec<String>,
    /// The port it listens on; 0: a free one for each replica, passed as `{port}` and as `PORT` in its
    /// environment.
    pub port: u16,
    /// Added to its environment; `{port}` becomes the replica's port.
    pub env: BTreeMap<String, String>,
    /// Where it runs; `None`: where forewarm runs.
    pub working_dir: Option<PathBuf>,
    /// Time between SIGTERM, sent once the replica is drained, and SIGKILL.
    pub termination_grace_period: Duration,
}

/// An object of Kubernetes with a `scale` subresource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesTarget {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The port where its pods serve; `None`: their container port named `http`, else their first.
    pub port: Option<u16>,
    /// Where it has its number of replicas, such as `.spec.workers`, if it has no `scale` subresource.
    pub replicas_path: Option<String>,
    /// Labels of its pods; empty: those that its `scale` subresource names.
    pub selector: BTreeMap<String, String>,
}

/// An Auto Scaling group of AWS, whose instances serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsAutoScalingGroup {
    /// Its name.
    pub name: String,
    /// Where it is; `None`: what the environment or the profile says.
    pub region: Option<String>,
    /// Where an instance serves, `host:port`, with `{privateIp}`, `{publicIp}`, `{privateDns}` or `{instanceId}` in it.
    pub address: String,
    /// The role that is assumed; `None`: the credentials' own.
    pub role_arn: Option<String>,
    /// The URL of an SQS queue that gets interruption warnings and rebalance recommendations from EventBridge.
    pub interruption_queue: Option<String>,
}

impl AwsAutoScalingGroup {
    /// The engine's port where the manifest names no address: vLLM's.
    pub const DEFAULT_ADDRESS: &str = "{privateIp}:8000";
}

/// What is promised to users: the share of requests that get their first token in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Longest time to the first token.
    pub ttft: Duration,
    /// Share of requests, in percent.
    pub percent: f64,
}

impl Objective {
    /// What service-level objectives for interactive use commonly ask for.
    pub const DEFAULT_PERCENT: f64 = 99.0;
}
