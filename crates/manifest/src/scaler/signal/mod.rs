//! `signals`: what is read from outside, and from where. The names of settings are those of KEDA's triggers.
//!
//! One file for each kind of source. A new kind is a variant of [`SignalSource`], its file, and a line in `KINDS`.

mod access;
mod aws;
mod kafka;
mod location;
mod metrics_api;
mod prometheus;
mod rabbitmq;

use std::collections::BTreeMap;

use forewarm_core::{
    KedaPolicy, Replicas,
    calendar::Floor,
    peers::keda::{Annotations, Trigger, generated_hpa},
};
use serde::Serialize;

pub(super) use self::access::where_it_is;
pub use self::{
    access::{Basic, Credential, HttpAccess, Tls},
    aws::{AwsPlace, CloudWatchQuery, CloudWatchSignal, SqsSignal},
    kafka::{KafkaSignal, OffsetReset, PartitionRange, Sasl, SaslMechanism},
    location::{InvalidLocation, ValueLocation},
    metrics_api::{ApiKey, ApiKeyPlace, MetricsApiSignal},
    prometheus::PrometheusSignal,
    rabbitmq::{RabbitMqMode, RabbitMqOperation, RabbitMqProtocol, RabbitMqSignal},
};
use super::read::refuse_floor;
use crate::{
    cursor::{Cursor, Fields, join},
    problem::{Collector, Problems},
    yaml::{Entry, Node, Scalar, Span, Value},
};

/// A signal with a name that policies refer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedSignal {
    /// The name.
    pub name: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub source: SignalSource,
}

/// Where a signal comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SignalSource {
    /// The engines' own metrics, under the name that all engines share.
    Engine {
        /// Such as `waiting` or `running`.
        metric: String,
    },
    /// The answer of a Prometheus server, or of what speaks its API.
    Prometheus(PrometheusSignal),
    /// How far a consumer group is behind.
    Kafka(KafkaSignal),
    /// What waits in a queue, or how fast it is filled.
    #[serde(rename = "rabbitmq")]
    RabbitMq(RabbitMqSignal),
    /// A number in somebody's JSON.
    MetricsApi(MetricsApiSignal),
    /// What waits in a queue of SQS.
    AwsSqsQueue(SqsSignal),
    /// A metric of CloudWatch.
    #[serde(rename = "awsCloudwatch")]
    AwsCloudWatch(CloudWatchSignal),
}

/// The kinds by name, as manifests write them.
const KINDS: &[&str] =
    &["engine", "prometheus", "kafka", "rabbitmq", "metricsApi", "awsSqsQueue", "awsCloudwatch"];

impl SignalSource {
    /// The kind, as manifests write it.
    pub fn kind(&self) -> &'static str {
        match self {
            SignalSource::Engine { .. } => "engine",
            SignalSource::Prometheus(_) => "prometheus",
            SignalSource::Kafka(_) => "kafka",
            SignalSource::RabbitMq(_) => "rabbitmq",
            SignalSource::MetricsApi(_) => "metricsApi",
            SignalSource::AwsSqsQueue(_) => "awsSqsQueue",
            SignalSource::AwsCloudWatch(_) => "awsCloudwatch",
        }
    }

    fn read(kind: &str, at: &Cursor<'_>) -> Option<Self> {
        match kind {
            "engine" => {
                let fields = at.fields()?;
                let metric = fields
                    .require("metric", "a metric's name, such as waiting")
                    .and_then(|metric| metric.text());
                fields.finish();
                Some(SignalSource::Engine { metric: metric? })
            }
            "prometheus" => prometheus::read(at).map(SignalSource::Prometheus),
            "kafka" => kafka::read(at).map(SignalSource::Kafka),
            "rabbitmq" => rabbitmq::read(at).map(SignalSource::RabbitMq),
            "awsSqsQueue" => aws::read_sqs(at).map(SignalSource::AwsSqsQueue),
            "awsCloudwatch" => aws::read_cloudwatch(at).map(SignalSource::AwsCloudWatch),
            _ => metrics_api::read(at).map(SignalSource::MetricsApi),
        }
    }
}

/// The signals of a scaler.
pub(super) fn read(at: &Cursor<'_>) -> Vec<NamedSignal> {
    let mut seen = Vec::new();
    let mut signals = Vec::new();
    for item in at.items() {
        let Some(signal) = signal(&item) else { continue };
        if seen.contains(&signal.name) {
            item.problem(format!("a second signal `{}`", signal.name), "each name once");
        }
        seen.push(signal.name.clone());
        signals.push(signal);
    }
    signals
}

fn signal(at: &Cursor<'_>) -> Option<NamedSignal> {
    let fields = at.fields()?;
    let name = fields.require("name", "the name that policies use").and_then(|name| name.text());
    if let Some(cron) = fields.get("cron") {
        cron.problem("a schedule as a signal", "the same under `spec.floors`: a schedule is not measured");
        return None;
    }
    let chosen = fields.exactly_one(KINDS);
    fields.finish();
    let (kind, at) = chosen?;
    Some(NamedSignal { name: name?, source: SignalSource::read(kind, &at)? })
}

/// The signals that a ScaledObject's triggers stand for, under their own
/// names or those of the metrics that KEDA makes of them.
/// Triggers that say nothing of a server, or whose value is a signal of their name already, stand for none.
/// `variable` is what the environment has under a name.
///
/// # Errors
/// What is wrong with the triggers' metadata.
pub fn trigger_signals(
    policy: &KedaPolicy,
    named: &[NamedSignal],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<NamedSignal>, Problems> {
    let out = Collector::default();
    let mut signals = Vec::new();
    // Whether the triggers have targets was checked when the policy was read.
    let metrics = generated_hpa("", &policy.object, &Annotations::default()).ok();
    for (index, trigger) in policy.object.triggers.iter().enumerate() {
        let is_named = |name: &String| named.iter().any(|signal| &signal.name == name);
        if trigger.name.as_ref().is_some_and(is_named) {
            continue;
        }
        let (kind, server) = match trigger.r#type.as_str() {
            "prometheus" => ("prometheus", "serverAddress"),
            "kafka" | "apache-kafka" => ("kafka", "bootstrapServers"),
            "rabbitmq" => ("rabbitmq", "host"),
            "metrics-api" => ("metricsApi", "url"),
            "aws-sqs-queue" => ("awsSqsQueue", "queueURL"),
            "aws-cloudwatch" if trigger.metadata.contains_key("expression") => {
                ("awsCloudwatch", "expression")
            }
            "aws-cloudwatch" => ("awsCloudwatch", "namespace"),
            "cron" => {
                check_cron(trigger, index, &out);
                continue;
            }
            _ => continue,
        };
        let path = format!("spec.policy.keda.triggers[{index}].metadata");
        let node = metadata(&with_variables(&trigger.metadata, variable, &path, &out));
        let has_server = trigger.metadata.keys().any(|key| key.starts_with(server));
        if !has_server {
            // A server whose setting is misspelt looks like none.
            let problems = Collector::default();
            SignalSource::read(kind, &Cursor::new(&node, path, &problems));
            out.add_unknown_fields(problems);
            continue;
        }
        let prefix = format!("s{index}-");
        let generated = || {
            metrics.iter().flat_map(|hpa| &hpa.metrics).find_map(|metric| {
                let name = &metric.external.as_ref()?.metric.name;
                name.starts_with(&prefix).then(|| name.clone())
            })
        };
        let at = Cursor::new(&node, path, &out);
        let name = trigger.name.clone().or_else(generated);
        if let (Some(name), Some(mut source)) = (name, SignalSource::read(kind, &at)) {
            if let SignalSource::Prometheus(query) = &mut source {
                // What a trigger makes of no value is decided where its value is used, and said there.
                query.ignore_null_values = false;
            }
            signals.push(NamedSignal { name, source });
        }
    }
    out.finish("policy.keda", signals)
}

/// A schedule that is none would be found out when its time comes.
fn check_cron(trigger: &Trigger, index: usize, out: &Collector) {
    let node = metadata(&trigger.metadata);
    let at = Cursor::new(&node, format!("spec.policy.keda.triggers[{index}].metadata"), out);
    if let Some(fields) = at.fields() {
        decided_elsewhere(&fields, &["timezone", "start", "end", "desiredReplicas"]);
        fields.finish();
    }
    let setting = |name: &str| trigger.metadata.get(name).map_or("", String::as_str);
    let Ok(replicas) = setting("desiredReplicas").parse() else {
        return at.problem_at("desiredReplicas", "a whole number");
    };
    if let Err(error) = Floor::new(setting("timezone"), setting("start"), setting("end"), Replicas(replicas))
    {
        refuse_floor(&at, error);
    }
}

/// Metadata in which what stands in a variable is said itself. Secrets, and addresses with one in them, are not said: they
/// stay where they are.
fn with_variables(
    metadata: &BTreeMap<String, String>,
    variable: &dyn Fn(&str) -> Option<String>,
    path: &str,
    out: &Collector,
) -> BTreeMap<String, String> {
    const SAID: [&str; 4] = ["bootstrapServers", "consumerGroup", "topic", "queueURL"];
    let setting = |(key, text): (&String, &String)| {
        let Some(name) = key.strip_suffix("FromEnv").filter(|name| SAID.contains(name)) else {
            return (key.clone(), text.clone());
        };
        let value = variable(text).unwrap_or_else(|| {
            let wanted = format!("a variable that is set where forewarm runs, or `{name}` itself");
            out.add(&join(path, key), Span::default(), format!("\"{text}\""), wanted);
            String::new()
        });
        (name.to_owned(), value)
    };
    metadata.iter().map(setting).collect()
}

/// A trigger's metadata as if it stood in a file.
fn metadata(settings: &BTreeMap<String, String>) -> Node {
    let node = |value| Node { span: Span::default(), value };
    let entry = |(key, text): (&String, &String)| Entry {
        key: key.clone(),
        key_span: Span::default(),
        value: node(Value::Scalar(Scalar { text: text.clone(), plain: false })),
    };
    node(Value::Map(settings.iter().map(entry).collect()))
}

/// Settings that decide when a trigger stands alone, and that the policy decides where a signal has a name.
fn decided_elsewhere(fields: &Fields<'_>, names: &[&'static str]) {
    for name in names {
        fields.get(name);
    }
}

/// The setting: `None` when it is wrong, `Some(None)` when it is absent or empty, as KEDA reads it.
fn given<'a, T>(
    fields: &Fields<'a>,
    name: &'static str,
    read: impl FnOnce(&Cursor<'a>) -> Option<T>,
) -> Option<Option<T>> {
    match fields.get(name) {
        Some(at) if at.node.text() != Some("") => read(&at).map(Some),
        Some(_) | None => Some(None),
    }
}

/// `true` or `false`, in quotes or not.
fn flag(fields: &Fields<'_>, name: &'static str) -> Option<bool> {
    let read = given(fields, name, |at| match at.node.text() {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => {
            at.wanted("true or false");
            None
        }
    });
    read.map(Option::unwrap_or_default)
}

/// `Name=value,Other=value`, or a mapping.
fn pairs(at: &Cursor<'_>) -> Option<BTreeMap<String, String>> {
    let Some(text) = at.node.text() else {
        at.fields()?;
        let entry = |entry: &Entry| Some((entry.key.clone(), entry.value.text()?.to_owned()));
        let read: Option<_> = at.node.entries().iter().map(entry).collect();
        if read.is_none() {
            at.wanted("a mapping of text to text");
        }
        return read;
    };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    let read: Option<_> = text.split(',').map(pair).collect();
    if read.is_none() {
        // Headers may hold secrets: what stands there is not shown.
        at.problem("something else", "pairs such as `X-Tenant=llm,X-Team=chat`");
    }
    read
}
