//! The parts of `spec`.
#![expect(unreachable_pub, reason = "the derive repeats these types where nobody can reach them")]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scalars::{Amount, GoDuration, Quantity, empty, free};

/// What is scaled.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// An object of the scaler's own namespace.
    pub kubernetes: KubernetesTarget,
}

/// An object with a `scale` subresource: Deployment, StatefulSet, LeaderWorkerSet, or a custom resource.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.replicasPath) || (has(self.selector) && size(self.selector) > 0)")
        .message("replicasPath needs `selector` as well: only a scale subresource says which pods are its own")
)]
pub struct KubernetesTarget {
    /// Its group and version; default apps/v1.
    #[serde(default = "apps_v1")]
    pub api_version: String,
    /// Its kind, such as Deployment.
    #[schemars(length(min = 1))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The port where its pods serve; default: their container port named `http`, else their first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Where it has its number of replicas, such as .spec.workers, if it has no scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\.spec(\.[A-Za-z0-9_-]+)+$"))]
    pub replicas_path: Option<String>,
    /// Labels of its pods; default: those that its scale subresource names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
}

fn apps_v1() -> String {
    "apps/v1".to_owned()
}

/// What serves the requests.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.tls) || (has(self.scheme) && self.scheme == 'HTTPS')")
        .message("engine.tls needs `scheme: HTTPS` as well")
        .field_path(".tls")
)]
pub struct Engine {
    /// vllm (the default), sglang, tgi, triton, llama-cpp or another that forewarm knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// HTTP (the default) or HTTPS, as for a probe: how its metrics are asked for, and how requests come to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// How HTTPS is spoken where its metrics are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What is shown where its metrics are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<SecretFile>,
    /// Where its metrics are; default by its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_path: Option<String>,
    /// Where it says that it serves; default by its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
    /// Requests that a replica works on at a time, or `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<Amount>,
    /// Gives a new replica a part of its concurrency first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<bool>,
    /// Tokens that a replica's KV cache holds, or `auto`: as its metrics say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_tokens: Option<Amount>,
}

/// HTTP (the default) or HTTPS, as for a probe: how its metrics are asked for, and how requests come to it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// How TLS is spoken. Files are those of the namespace's credentials at the controller.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.certFile) == has(self.keyFile)").message("both certFile and keyFile, or none")
)]
pub struct Tls {
    /// Who signs the server's certificate, in PEM; default: whom the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// The certificate to show, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// The name that the server's certificate is for; default: the one in the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Takes any certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsafe_ssl: Option<bool>,
}

/// A secret in a file of the namespace's credentials at the controller.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretFile {
    /// Its path.
    #[schemars(length(min = 1))]
    pub from_file: String,
}

/// The fewest and the most replicas.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.min <= self.max").message("replicas.max must be at least replicas.min")
        .field_path(".max")
)]
pub struct Replicas {
    /// Kept at all times. `kubectl scale` sets it.
    #[schemars(range(min = 0, max = 10000))]
    pub min: i32,
    /// Never exceeded.
    #[schemars(range(min = 1, max = 10000))]
    pub max: i32,
}

/// The share of requests that get their first token in time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Objective {
    /// Longest time to the first token.
    pub ttft: GoDuration,
    /// Percent of the requests; default 99.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<f64>,
}

/// What is known about starting a replica before it was ever observed.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.expected) || !has(self.deadline) || duration(self.deadline) >= duration(self.expected)")
        .message("coldStart.deadline must be at least `expected`, or every start is given up before it is done")
        .field_path(".deadline")
)]
pub struct ColdStart {
    /// How long it takes; default 240s. Learned from the third start on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<GoDuration>,
    /// A start that takes longer is given up; default 30m, and at least twice `expected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<GoDuration>,
}

/// Exactly one of these.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.forewarm), has(self.queueDepth), has(self.queue), has(self.hpa), has(self.keda), has(self.kpa), \
         has(self.rayServe), has(self.skyServe), has(self.dynamo)].filter(x, x).size() == 1"
    ).message("policy needs exactly one of forewarm, queueDepth, queue, hpa, keda, kpa, rayServe, skyServe, dynamo")
)]
pub struct Policy {
    /// forewarm's own: learns the load, how it changes over a cold start, and what keeps `objective`. Nothing to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "empty")]
    pub forewarm: Option<Value>,
    /// Waiting requests per replica, with pre-warming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_depth: Option<QueueDepth>,
    /// Messages of a queue per worker: `signal`, `perReplica`, `visibilityTimeout`, `scalingStrategy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub queue: Option<Value>,
    /// As a HorizontalPodAutoscaler decides: `metrics` and `behavior` of autoscaling/v2, and the flags of its
    /// controller (tolerance, downscaleStabilization, cpuInitializationPeriod, initialReadinessDelay).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub hpa: Option<Value>,
    /// As KEDA decides: `triggers`, `cooldownPeriod`, `fallback`, `advanced` and the rest of a ScaledObject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub keda: Option<Value>,
    /// As Knative decides: annotations of autoscaling.knative.dev without that prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub kpa: Option<Value>,
    /// As Ray Serve decides: its autoscaling_config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub ray_serve: Option<Value>,
    /// As SkyServe decides: its replica_policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub sky_serve: Option<Value>,
    /// As Dynamo's planner decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub dynamo: Option<Value>,
}

/// Target tracking on waiting requests per replica.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueDepth {
    /// Waiting requests that one replica is worth; default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_replica: Option<Quantity>,
    /// Starts a replica before the queue asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_warm: Option<PreWarm>,
}

/// When a replica is started before the queue asks for it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreWarm {
    /// Share of maxQueue from which a replica is started: above 0, at most 1.
    #[schemars(range(min = 0, max = 1))]
    pub threshold: f64,
    /// How far ahead the forecast is read: the time a replica takes to start.
    pub lead_time: GoDuration,
    /// The number of waiting requests that counts as full.
    pub max_queue: Quantity,
}

/// How fast the number may be followed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Behavior {
    /// On the way up; default: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<Rules>,
    /// On the way down; default: the highest wish of the last 300 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<Rules>,
}

/// Rules of one direction.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Up: the lowest wish of this window is followed. Down: the highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: Option<i32>,
    /// Which limit applies: Max (the largest change, the default), Min, or Disabled (no change in this direction).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(Max|Min|Disabled)$"))]
    pub select_policy: Option<String>,
    /// Limits of the change in a period. None: no limit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub policies: Vec<RateLimit>,
}

/// A limit of the change in a period.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Pods, or Percent of the replicas at the start of the period.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = "^(Pods|Percent)$"))]
    pub unit: String,
    /// How many.
    #[schemars(range(min = 1))]
    pub value: i32,
    /// The period.
    #[schemars(range(min = 1, max = 1800))]
    pub period_seconds: i32,
}

/// A signal with a name that policies refer to: exactly one of engine, prometheus, kafka, rabbitmq, metricsApi,
/// awsSqsQueue and awsCloudwatch.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.engine), has(self.prometheus), has(self.kafka), has(self.rabbitmq), has(self.metricsApi), \
         has(self.awsSqsQueue), has(self.awsCloudwatch)].filter(x, x).size() == 1"
    ).message("a signal needs exactly one of engine, prometheus, kafka, rabbitmq, metricsApi, awsSqsQueue, awsCloudwatch")
)]
pub struct Signal {
    /// The name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// From the engines' own metrics, asked of each pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineSource>,
    /// From a Prometheus server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSource>,
    /// How far a consumer group of Kafka is behind: bootstrapServers, consumerGroup, topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub kafka: Option<Value>,
    /// What waits in a queue of RabbitMQ: host, queueName.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub rabbitmq: Option<Value>,
    /// A number in somebody's JSON: url, valueLocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub metrics_api: Option<Value>,
    /// What waits in a queue of SQS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub aws_sqs_queue: Option<Value>,
    /// A metric of CloudWatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free")]
    pub aws_cloudwatch: Option<Value>,
}

/// A metric of the engines.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EngineSource {
    /// Its name, the same for all engines: waiting, running, kv_usage, requests_finished_per_second…
    pub metric: String,
}

/// A query that gives one value.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct PrometheusSource {
    /// The server, such as `http://prometheus.monitoring:9090`.
    #[schemars(regex(pattern = "^https?://.+"))]
    pub server_address: String,
    /// The PromQL expression.
    #[schemars(length(min = 1))]
    pub query: String,
}

/// The fewest replicas during hours of the week.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Floor {
    /// Whose clock, such as Europe/Berlin.
    pub timezone: String,
    /// When it begins, as cron has it: 0 8 * * 1-5.
    pub start: String,
    /// When it ends: 0 18 * * 1-5.
    pub end: String,
    /// The replicas that are kept.
    pub desired_replicas: Quantity,
}

/// The waiting room at the gateway.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Requests that may wait; default 5000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_requests: Option<i64>,
    /// Bytes of their bodies; default 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Quantity>,
    /// Longest wait while capacity is ready; default 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// Longest time a request is held while no replica is ready; default coldStart.deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start_timeout: Option<GoDuration>,
    /// Who shares the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Tenants>,
}

/// Whose requests they are, where no API key says so.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.weights) || has(self.header) || (has(self.user) && self.user)")
        .message("tenants.weights of tenants that nothing names: set `header` or `user: true` as well")
)]
pub struct Tenants {
    /// The request header that names the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Whether the body's `user` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<bool>,
    /// Shares by name where they are not 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<BTreeMap<String, i32>>,
}

/// How the gateway treats streams and prompts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Routing {
    /// How often a stream that waits is sent a comment; default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<GoDuration>,
    /// Sends requests that begin alike to the same replica; default: to the one with the least work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_affinity: Option<Affinity>,
}

/// Which requests begin alike.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// Bytes of the prompt that are looked at; default 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub bytes: Option<i32>,
    /// How many times its peers' mean load a replica may have and still be preferred; default 1.25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub load_factor: Option<f64>,
}

/// A number of replicas held by hand.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// The number.
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: i32,
    /// When the policy decides again, such as 2026-12-01T00:00:00Z.
    #[schemars(extend("format" = "date-time"))]
    pub until: String,
}
