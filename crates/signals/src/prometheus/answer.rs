//! What an answer of the query API means.

use std::{collections::BTreeMap, time::Duration};

use forewarm_core::{Missing, Reading, ReplicaId, Signal};
use forewarm_manifest::signal::PrometheusSignal;
use reqwest::StatusCode;
use serde::Deserialize;

/// Why an answer holds no samples.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("Prometheus refused the query: {kind}: {message}")]
    Refused { kind: String, message: String },
    #[error("HTTP {0} from Prometheus")]
    Status(StatusCode),
    #[error("the answer is not Prometheus' JSON: {0}")]
    Json(serde_json::Error),
    #[error("the query gives a {0}; an instant vector or a scalar is needed")]
    Shape(String),
    #[error("the value {0:?} is not a number")]
    Value(String),
}

/// One sample of an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    labels: BTreeMap<String, String>,
    timestamp_seconds: f64,
    value: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: String,
    data: Option<Data>,
    error_type: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
}

/// The samples of an answer, none when the query matches nothing.
pub(super) fn samples(status: StatusCode, body: &[u8]) -> Result<Vec<Sample>, AnswerError> {
    // Prometheus says in JSON what is wrong also under 4xx and 5xx; a proxy in between does not.
    let answer: Answer = serde_json::from_slice(body).map_err(|error| {
        if status.is_success() { AnswerError::Json(error) } else { AnswerError::Status(status) }
    })?;
    if answer.status != "success" {
        let unnamed = || "no reason given".to_owned();
        let kind = answer.error_type.unwrap_or_else(|| status.to_string());
        return Err(AnswerError::Refused { kind, message: answer.error.unwrap_or_else(unnamed) });
    }
    let data = answer.data.filter(|_| status.is_success()).ok_or(AnswerError::Status(status))?;
    match data.result_type.as_str() {
        "scalar" => {
            let (at, value): (f64, String) =
                serde_json::from_value(data.result).map_err(AnswerError::Json)?;
            Ok(vec![sample(BTreeMap::new(), at, value)?])
        }
        "vector" => {
            let series: Vec<Series> = serde_json::from_value(data.result).map_err(AnswerError::Json)?;
            series
                .into_iter()
                .map(|series| {
                    let shape = || AnswerError::Shape("native histogram".to_owned());
                    let (at, value) = series.value.ok_or_else(shape)?;
                    sample(series.metric, at, value)
                })
                .collect()
        }
        other => Err(AnswerError::Shape(other.to_owned())),
    }
}

fn sample(
    labels: BTreeMap<String, String>,
    timestamp_seconds: f64,
    value: String,
) -> Result<Sample, AnswerError> {
    let value = value.parse().map_err(|_| AnswerError::Value(value))?;
    Ok(Sample { labels, timestamp_seconds, value })
}

/// What the samples mean for the query.
pub(super) fn signal(
    samples: Vec<Sample>,
    query: &PrometheusSignal,
    age: impl Fn(f64) -> Duration,
) -> Result<Signal, Missing> {
    let text = &query.query;
    if samples.is_empty() {
        return if query.ignore_null_values { Ok(Signal::value(0.0)) } else { Err(Missing::Absent) };
    }
    if let Some(bad) = samples.iter().find(|sample| !sample.value.is_finite()) {
        return Err(Missing::Failed(format!("query `{text}` gives {}", bad.value)));
    }
    let oldest = samples.iter().map(|sample| age(sample.timestamp_seconds)).max().unwrap_or_default();
    let reading = match &query.per_replica_label {
        Some(label) => by_replica(samples, label, text)?,
        None => match samples.as_slice() {
            [only] => Reading::Value { total: only.value, per_replica: BTreeMap::new() },
            several => {
                return Err(Missing::Failed(format!(
                    "query `{text}` gives {} series, and one is needed: aggregate them with `sum({text})`",
                    several.len()
                )));
            }
        },
    };
    Ok(Signal { reading, age: oldest })
}

/// Each series is the replica's that its label names; several of one replica are added up.
fn by_replica(samples: Vec<Sample>, label: &str, query: &str) -> Result<Reading, Missing> {
    let mut per_replica: BTreeMap<ReplicaId, f64> = BTreeMap::new();
    for sample in samples {
        let Some(replica) = sample.labels.get(label) else {
            return Err(Missing::Failed(format!(
                "query `{query}` gives a series without the label `{label}` that names its replica: aggregate \
                 with `sum by ({label}) (…)`"
            )));
        };
        *per_replica.entry(ReplicaId::from(replica.as_str())).or_default() += sample.value;
    }
    Ok(Reading::Value { total: per_replica.values().sum(), per_replica })
}
