//! How a wish for replicas is computed: by forewarm's own rules, or exactly as another autoscaler would.
//!
//! The bounds of a peer's policy are those of the [`ScalerSpec`](crate::ScalerSpec) it stands in.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Behavior, Requests, SignalName,
    peers::{
        dynamo::OptimizationTarget,
        hpa::{self, ControllerConfig, MetricSpec},
        keda::{Annotations, JobStrategy, ScaledObjectSpec},
        kpa::{self, ConfigMap, InvalidConfig},
        ray_serve::RayServeSpec,
        sky_serve::SkyServeSpec,
    },
    time::seconds,
};

/// How a wish for replicas is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// forewarm's own: learns the load, how it changes over a cold start, and what keeps the objective.
    Forewarm(Forewarm),
    /// Waiting requests per replica, with pre-warming.
    QueueDepth(QueueDepth),
    /// Messages per worker, where workers take them from a queue by themselves.
    Queue(QueuePolicy),
    /// Kubernetes' HorizontalPodAutoscaler.
    Hpa(Box<HpaPolicy>),
    /// KEDA's ScaledObject.
    Keda(Box<KedaPolicy>),
    /// Knative's pod autoscaler.
    Kpa(Box<KpaPolicy>),
    /// Ray Serve's default policy.
    RayServe(RayServePolicy),
    /// SkyServe's request-rate autoscaler.
    SkyServe(SkyServePolicy),
    /// NVIDIA Dynamo's planner.
    Dynamo(DynamoPolicy),
}

impl Policy {
    /// The behavior where the user sets none: forewarm's own for its own rules; none for a peer, which
    /// has stabilised and limited its number already.
    pub fn default_behavior(&self) -> Behavior {
        match self {
            Policy::QueueDepth(_) | Policy::Queue(QueuePolicy { jobs: None, .. }) => Behavior::default(),
            // It weighs what a start costs against what it saves by itself.
            Policy::Forewarm(_)
            // Jobs end by themselves.
            | Policy::Queue(_)
            | Policy::Hpa(_)
            | Policy::Keda(_)
            | Policy::Kpa(_)
            | Policy::RayServe(_)
            | Policy::SkyServe(_)
            | Policy::Dynamo(_) => Behavior::pass_through(),
        }
    }
}

/// Batch work: workers that take messages from a queue, for whom no request comes through the gateway.
///
/// What a worker holds is known from the signal `in_flight`, where its source tells workers apart. A worker that
/// drains was told to take no more, and is never asked back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueuePolicy {
    /// The signal that counts the messages to be done.
    pub signal: SignalName,
    /// The signal that counts the messages at workers, by worker where its source knows.
    pub in_flight: SignalName,
    /// Messages that one worker is worth.
    pub per_replica: Requests,
    /// How long the queue keeps a message for whoever took it, before it gives it to another.
    #[serde(
        rename = "visibilityTimeoutSeconds",
        default,
        skip_serializing_if = "Option::is_none",
        with = "seconds::optional"
    )]
    pub visibility_timeout: Option<Duration>,
    /// Each replica is a job that ends by itself; `None`: a worker that stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<JobStrategy>,
}

impl QueuePolicy {
    /// The name of the signal that counts messages to be done, where the user gives none.
    pub const SIGNAL: &str = "waiting";
    /// The name of the signal that counts messages at workers, where the user gives none: what engines and hooks call
    /// what they work on.
    pub const IN_FLIGHT: &str = "running";
    /// A message, a worker: what a job is made for.
    pub const PER_REPLICA: f64 = 1.0;
}

/// forewarm's own policy: nothing to set but the objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forewarm {
    /// Percent of the requests that are to see their first token in time; the gateway judges each.
    pub percent: f64,
    /// In time: within so long. So long a request may wait.
    #[serde(rename = "ttftSeconds", with = "seconds", default = "Forewarm::default_ttft")]
    pub ttft: Duration,
}

impl Forewarm {
    /// What service-level objectives for interactive use commonly ask for.
    pub const DEFAULT_PERCENT: f64 = 99.0;
    /// What is assumed of a record from before it was written down.
    pub const DEFAULT_TTFT: Duration = Duration::from_secs(5);

    fn default_ttft() -> Duration {
        Self::DEFAULT_TTFT
    }

    /// Share of the requests that may miss. Never none at all: that would ask for all replicas at all times.
    pub fn allowance(self) -> f64 {
        (1.0 - self.percent / 100.0).clamp(1e-5, 1.0)
    }
}

/// Target tracking on the number of waiting requests per replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueDepth {
    /// Waiting requests that one replica is worth.
    pub per_replica: Requests,
    /// When to start replicas before the queue asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_warm: Option<PreWarm>,
}

impl QueueDepth {
    /// The target that vLLM deployments commonly start from (production-stack's ScaledObject, and the
    /// HPA manifests in `examples/seed/`).
    pub const DEFAULT_PER_REPLICA: f64 = 5.0;
}

/// Start replicas at a threshold of the queue, or because a forecast reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PreWarm {
    /// Share of `max_queue` from which a replica is started.
    pub threshold: f64,
    /// How far ahead the forecast is read: the time a replica takes to start.
    #[serde(rename = "leadTimeSeconds", with = "seconds")]
    pub lead_time: Duration,
    /// The queue's length that counts as full.
    pub max_queue: Requests,
}

/// An HPA without its target and bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HpaPolicy {
    /// What the count follows; CPU at 80 % when empty.
    #[serde(default)]
    pub metrics: Vec<MetricSpec>,
    /// How fast the count may follow. Absent and empty are different algorithms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<hpa::Behavior>,
    /// The flags of the kube-controller-manager.
    #[serde(default)]
    pub controller: ControllerConfig,
}

impl HpaPolicy {
    /// Between two reconciles (`--horizontal-pod-autoscaler-sync-period`).
    pub const SYNC_PERIOD: Duration = Duration::from_secs(15);

    /// With the controller's default flags.
    pub fn new(metrics: Vec<MetricSpec>, behavior: Option<hpa::Behavior>) -> Self {
        Self { metrics, behavior, controller: ControllerConfig::default() }
    }
}

/// A ScaledObject, and the HPA that KEDA makes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KedaPolicy {
    /// The object. Its minimum, where it has one, counts while triggers are active; `maxReplicaCount` does
    /// not count.
    pub object: ScaledObjectSpec,
    /// Its annotations, which pause and force.
    #[serde(default)]
    pub annotations: Annotations,
    /// The flags of the kube-controller-manager.
    #[serde(default)]
    pub controller: ControllerConfig,
}

impl KedaPolicy {
    /// Between two polls when the object does not say.
    pub const POLLING_INTERVAL: Duration = Duration::from_secs(30);

    /// Without annotations, and with the controller's default flags.
    pub fn new(object: ScaledObjectSpec) -> Self {
        Self { object, annotations: Annotations::default(), controller: ControllerConfig::default() }
    }

    /// Between two polls.
    pub fn polling_interval(&self) -> Duration {
        self.object.polling_interval.map_or(Self::POLLING_INTERVAL, |seconds| {
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        })
    }
}

/// A Knative revision's settings, as its annotations and the cluster's configuration have them; what
/// Knative refuses is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "KpaLine", into = "KpaLine")]
pub struct KpaPolicy {
    line: KpaLine,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct KpaLine {
    annotations: BTreeMap<String, String>,
    config: BTreeMap<String, String>,
    container_concurrency: i64,
}

impl TryFrom<KpaLine> for KpaPolicy {
    type Error = InvalidConfig;

    fn try_from(line: KpaLine) -> Result<Self, InvalidConfig> {
        ConfigMap::parse(&line.config).map(|_| Self { line })
    }
}

impl From<KpaPolicy> for KpaLine {
    fn from(policy: KpaPolicy) -> Self {
        policy.line
    }
}

impl KpaPolicy {
    /// Between two decisions (`tickInterval`).
    pub const TICK: Duration = Duration::from_secs(2);

    /// From a revision's annotations (`autoscaling.knative.dev/…`), the data of the config map
    /// `config-autoscaler`, and the revision's `containerConcurrency` (0: no limit).
    ///
    /// # Errors
    /// When Knative would refuse the configuration.
    pub fn new(
        annotations: BTreeMap<String, String>,
        config: BTreeMap<String, String>,
        container_concurrency: i64,
    ) -> Result<Self, InvalidConfig> {
        KpaLine { annotations, config, container_concurrency }.try_into()
    }

    /// The revision's annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.line.annotations
    }

    /// The data of the cluster's `config-autoscaler`.
    pub fn config(&self) -> &BTreeMap<String, String> {
        &self.line.config
    }

    /// Requests that one pod takes at a time; 0 for no limit.
    pub fn container_concurrency(&self) -> i64 {
        self.line.container_concurrency
    }

    /// What the decider goes by.
    pub(crate) fn resolve(&self) -> Result<(ConfigMap, kpa::RevisionSpec), InvalidConfig> {
        let config = ConfigMap::parse(&self.line.config)?;
        let revision = kpa::resolve(
            &config,
            &self.line.annotations,
            self.line.container_concurrency,
            kpa::Reachability::Reachable,
        );
        Ok((config, revision))
    }
}

/// A Ray Serve deployment's `autoscaling_config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RayServePolicy {
    /// The rules; its bounds do not count.
    pub rules: RayServeSpec,
}

impl RayServePolicy {
    /// How often the load is reported (`metrics_interval_s`); nothing new is to be decided in between.
    pub const INTERVAL: Duration = Duration::from_secs(10);
    /// The load is the mean over this span (`look_back_period_s`).
    pub const LOOK_BACK: Duration = Duration::from_secs(30);
}

/// A SkyServe service's `replica_policy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkyServePolicy {
    /// The rules; its bounds do not count.
    pub rules: SkyServeSpec,
}

/// Dynamo's planner for engines that read and generate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DynamoPolicy {
    /// What the load rule aims at.
    #[serde(default)]
    pub target: OptimizationTarget,
    /// Requests per second that one engine carries, which Dynamo measures before; without it there is no
    /// throughput rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_requests_per_second: Option<f64>,
}
