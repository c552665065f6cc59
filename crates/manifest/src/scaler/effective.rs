//! The manifest of a checked scaler with every default written out.

use std::{collections::BTreeMap, path::Path};

use forewarm_core::{
    Behavior, Environment, Mode, RateUnit, ScalingRules, SelectPolicy,
    calendar::Floor,
    pool::{Routing, Tenants},
};
use serde::Serialize;

use super::{
    API_VERSION, CheckedScaler, KIND, KvTokens, NamedSignal, Target,
    effective_policy::PolicyLine,
    hooks::{ExecLine, WebhookLine},
    signal::{Credential, Tls},
};
use crate::quantity::{write_bytes, write_duration};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    target: TargetLine<'a>,
    engine: Engine<'a>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    models: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    aliases: &'a BTreeMap<String, String>,
    environment: &'static str,
    replicas: Bounds,
    allow_scale_to_zero: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    objective: Option<Objective>,
    cold_start: ColdStart,
    policy: PolicyLine<'a>,
    behavior: BehaviorLine,
    #[serde(skip_serializing_if = "<[NamedSignal]>::is_empty")]
    signals: &'a [NamedSignal],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    floors: Vec<FloorLine<'a>>,
    queue: Queue<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing: Option<RoutingLine>,
    max_signal_age: String,
    drain_deadline: String,
    max_changes_per_minute: u32,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause: Option<Pause>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum TargetLine<'a> {
    #[serde(rename_all = "camelCase")]
    Processes {
        command: &'a [String],
        port: u16,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        env: &'a BTreeMap<String, String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        working_dir: Option<&'a Path>,
        termination_grace_period: String,
    },
    #[serde(rename_all = "camelCase")]
    Kubernetes {
        api_version: &'a str,
        kind: &'a str,
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        replicas_path: Option<&'a str>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        selector: &'a BTreeMap<String, String>,
    },
    #[serde(rename_all = "camelCase")]
    AwsAutoScalingGroup {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        region: Option<&'a str>,
        address: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        role_arn: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        interruption_queue: Option<&'a str>,
    },
    Webhook(WebhookLine<'a>),
    Exec(ExecLine<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Engine<'a> {
    kind: &'static str,
    scheme: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bearer_token: Option<&'a Credential>,
    metrics_path: &'a str,
    health_path: &'a str,
    max_concurrency: Amount,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    slow_start: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_tokens: Option<Amount>,
}

/// A number, or `auto`.
#[derive(Serialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Auto(&'static str),
}

const AUTO: Amount = Amount::Auto("auto");

#[derive(Serialize)]
struct Bounds {
    min: u32,
    max: u32,
}

#[derive(Serialize)]
struct Objective {
    ttft: String,
    percent: f64,
}

#[derive(Serialize)]
struct ColdStart {
    expected: String,
    deadline: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BehaviorLine {
    scale_up: Rules,
    scale_down: Rules,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    stabilization_window_seconds: u64,
    select_policy: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<RateLimit>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RateLimit {
    r#type: &'static str,
    value: u32,
    period_seconds: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FloorLine<'a> {
    timezone: &'a str,
    start: &'a str,
    end: &'a str,
    desired_replicas: u32,
}

impl<'a> FloorLine<'a> {
    fn of(floor: &'a Floor) -> Self {
        let (timezone, start, end) = (floor.timezone(), floor.start(), floor.end());
        Self { timezone, start, end, desired_replicas: floor.replicas().0 }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Queue<'a> {
    max_requests: u32,
    max_bytes: String,
    timeout: String,
    cold_start_timeout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenants: Option<&'a Tenants>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoutingLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    keepalive: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_affinity: Option<AffinityLine>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AffinityLine {
    bytes: u32,
    load_factor: f64,
}

impl RoutingLine {
    /// `None` where nothing is asked for.
    fn of(routing: &Routing) -> Option<Self> {
        let keepalive = routing.keepalive.map(write_duration);
        let affinity = routing.affinity;
        let prefix_affinity = affinity
            .map(|affinity| AffinityLine { bytes: affinity.prefix_bytes, load_factor: affinity.load_factor });
        (keepalive.is_some() || prefix_affinity.is_some()).then_some(Self { keepalive, prefix_affinity })
    }
}

#[derive(Serialize)]
struct Pause {
    replicas: u32,
    until: String,
}

impl<'a> Manifest<'a> {
    pub(super) fn of(scaler: &'a CheckedScaler) -> Self {
        let CheckedScaler { namespace, spec, target, engine, models, queue, routing, signals, objective } =
            scaler;
        let metadata = Metadata { name: spec.scaler.as_str(), namespace: namespace.as_deref() };
        let spec = Spec {
            target: target_line(target),
            engine: Engine {
                kind: engine.kind.label(),
                scheme: if engine.tls.is_some() { "HTTPS" } else { "HTTP" },
                tls: engine.tls.as_ref().filter(|tls| **tls != Tls::default()),
                bearer_token: engine.bearer_token.as_ref(),
                metrics_path: &engine.metrics_path,
                health_path: &engine.health_path,
                max_concurrency: match engine.learns_concurrency {
                    true => AUTO,
                    false => Amount::Number(engine.max_concurrency.into()),
                },
                slow_start: engine.slow_start,
                kv_tokens: engine.kv_tokens.map(|kv_tokens| match kv_tokens {
                    KvTokens::Auto => AUTO,
                    KvTokens::Tokens(tokens) => Amount::Number(tokens),
                }),
            },
            models,
            aliases: &routing.aliases,
            environment: match spec.environment {
                Environment::Production => "production",
                Environment::Staging => "staging",
                Environment::Dev => "dev",
                Environment::Batch => "batch",
            },
            replicas: Bounds { min: spec.replicas.min.0, max: spec.replicas.max.0 },
            allow_scale_to_zero: spec.allow_scale_to_zero,
            objective: objective.map(|objective| Objective {
                ttft: write_duration(objective.ttft),
                percent: objective.percent,
            }),
            cold_start: ColdStart {
                expected: write_duration(spec.cold_start.expected),
                deadline: write_duration(spec.cold_start.deadline),
            },
            policy: PolicyLine::of(&spec.policy),
            behavior: behavior_line(&spec.behavior),
            signals,
            floors: spec.floors.iter().map(FloorLine::of).collect(),
            queue: Queue {
                max_requests: queue.max_requests,
                max_bytes: write_bytes(queue.max_bytes),
                timeout: write_duration(queue.timeout),
                cold_start_timeout: write_duration(queue.cold_start_timeout),
                tenants: (queue.tenants != Tenants::default()).then_some(&queue.tenants),
            },
            routing: RoutingLine::of(routing),
            max_signal_age: write_duration(spec.max_signal_age),
            drain_deadline: write_duration(spec.drain_deadline),
            max_changes_per_minute: spec.max_changes_per_minute,
            mode: match spec.mode {
                Mode::Act => "Act",
                Mode::Shadow => "Shadow",
            },
            pause: spec.pause.map(|pause| Pause {
                replicas: pause.replicas.0,
                until: jiff::Timestamp::from_millisecond(pause.until.as_millis())
                    .map_or_else(|_| pause.until.to_string(), |until| until.to_string()),
            }),
        };
        Self { api_version: API_VERSION, kind: KIND, metadata, spec }
    }
}

fn target_line(target: &Target) -> TargetLine<'_> {
    match target {
        Target::Processes(processes) => TargetLine::Processes {
            command: &processes.command,
            port: processes.port,
            env: &processes.env,
            working_dir: processes.working_dir.as_deref(),
            termination_grace_period: write_duration(processes.termination_grace_period),
        },
        Target::Kubernetes(target) => TargetLine::Kubernetes {
            api_version: &target.api_version,
            kind: &target.kind,
            name: &target.name,
            port: target.port,
            replicas_path: target.replicas_path.as_deref(),
            selector: &target.selector,
        },
        Target::AwsAutoScalingGroup(group) => TargetLine::AwsAutoScalingGroup {
            name: &group.name,
            region: group.region.as_deref(),
            address: &group.address,
            role_arn: group.role_arn.as_deref(),
            interruption_queue: group.interruption_queue.as_deref(),
        },
        Target::Webhook(target) => TargetLine::Webhook(WebhookLine::of(target)),
        Target::Exec(target) => TargetLine::Exec(ExecLine::of(target)),
    }
}

fn behavior_line(behavior: &Behavior) -> BehaviorLine {
    BehaviorLine { scale_up: rules(&behavior.scale_up), scale_down: rules(&behavior.scale_down) }
}

fn rules(rules: &ScalingRules) -> Rules {
    Rules {
        stabilization_window_seconds: rules.stabilization_window.as_secs(),
        select_policy: match rules.select_policy {
            SelectPolicy::Max => "Max",
            SelectPolicy::Min => "Min",
            SelectPolicy::Disabled => "Disabled",
        },
        policies: rules
            .policies
            .iter()
            .map(|limit| RateLimit {
                r#type: match limit.unit {
                    RateUnit::Pods => "Pods",
                    RateUnit::Percent => "Percent",
                },
                value: limit.value,
                period_seconds: limit.period.as_secs(),
            })
            .collect(),
    }
}
