//! What Prometheus answers to `/api/v1/query_range`, as observations.

use std::collections::{BTreeMap, BTreeSet};

use forewarm_core::{Observation, Phase, Reading, Replica, ReplicaId, Signal, SignalName, Timestamp};
use serde::Deserialize;

/// Labels that name a replica, the first that a series has.
const REPLICA_LABELS: [&str; 2] = ["pod", "instance"];

/// A text that is no answer to a range query.
#[derive(Debug, thiserror::Error)]
#[error("{file_name}: {message}")]
pub struct RangeError {
    file_name: String,
    message: String,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

/// What the series of one moment say.
#[derive(Default)]
struct Moment {
    signals: BTreeMap<SignalName, (f64, BTreeMap<ReplicaId, f64>)>,
    replicas: BTreeSet<ReplicaId>,
}

/// Range exports put together by time.
#[derive(Default)]
pub struct RangeExport {
    moments: BTreeMap<i64, Moment>,
}

impl RangeExport {
    /// Whether a text is one at first sight: a JSON object that has a status.
    pub fn is_one(text: &str) -> bool {
        text.trim_start().starts_with('{') && serde_json::from_str::<Answer>(text).is_ok()
    }

    /// Adds the series of a file. A metric is a signal of its name, or of that which `names` has for it; the
    /// series of a metric are added up, and those with a label `pod` or `instance` are the replicas' shares.
    ///
    /// # Errors
    /// When the text is no successful answer with a matrix, a value is no number, or a series has no name
    /// and `names` has none for `""`.
    pub fn add(
        &mut self,
        file_name: &str,
        text: &str,
        names: &BTreeMap<String, String>,
    ) -> Result<(), RangeError> {
        let error = |message: String| RangeError { file_name: file_name.into(), message };
        let answer: Answer = serde_json::from_str(text).map_err(|failed| error(failed.to_string()))?;
        let data = match answer {
            Answer { status, data: Some(data), .. } if status == "success" => data,
            Answer { status, error: why, .. } => {
                let why = why.unwrap_or_else(|| "no data".into());
                return Err(error(format!("the query's status is {status}: {why}")));
            }
        };
        if data.result_type != "matrix" {
            let kind = data.result_type;
            return Err(error(format!(
                "data.resultType is {kind}, wanted matrix: the answer of /api/v1/query_range"
            )));
        }
        for (index, series) in data.result.into_iter().enumerate() {
            let metric = series.metric.get("__name__").map_or("", String::as_str);
            let name = match names.get(metric) {
                Some(name) => name.as_str(),
                None if metric.is_empty() => {
                    let why = "has no `__name__`: give the signal's name with `--signal NAME`";
                    return Err(error(format!("data.result[{index}] {why}")));
                }
                None => metric,
            };
            let replica = REPLICA_LABELS.iter().find_map(|label| series.metric.get(*label));
            for (seconds, text) in series.values {
                let value: f64 = text.parse().map_err(|_| {
                    error(format!("data.result[{index}] at {seconds}: `{text}` is no number"))
                })?;
                // A gap is written as NaN by some queries; it is a gap here, too.
                if value.is_finite() {
                    self.put(Timestamp::from_seconds(seconds), name, replica, value);
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, at: Timestamp, name: &str, replica: Option<&String>, value: f64) {
        let moment = self.moments.entry(at.as_millis()).or_default();
        let (total, shares) = moment.signals.entry(SignalName::from(name)).or_default();
        *total += value;
        if let Some(replica) = replica {
            let id = ReplicaId::from(replica.as_str());
            *shares.entry(id.clone()).or_default() += value;
            moment.replicas.insert(id);
        }
    }

    /// The observations, in time. A replica is one that has a sample, and counts as ready.
    pub fn observations(self) -> Vec<Observation> {
        let observation = |(millis, moment): (i64, Moment)| Observation {
            at: Timestamp::from_millis(millis),
            replicas: moment
                .replicas
                .into_iter()
                .map(|id| Replica { id, ..Replica::new("", Phase::Ready) })
                .collect(),
            signals: moment
                .signals
                .into_iter()
                .map(|(name, (total, per_replica))| {
                    let reading = Reading::Value { total, per_replica };
                    (name, Signal { reading, ..Signal::value(total) })
                })
                .collect(),
            ..Observation::default()
        };
        self.moments.into_iter().map(observation).collect()
    }
}
