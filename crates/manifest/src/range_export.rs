//! Answers to range queries of Prometheus, as observations.

use std::collections::{BTreeMap, BTreeSet};

use forewarm_core::{Observation, Phase, Reading, Replica, ReplicaId, Signal, SignalName, Timestamp};
use forewarm_workload::{RangeQuery, RangeQueryError};

/// Labels that name a replica, the first that a series has.
const REPLICA_LABELS: [&str; 2] = ["pod", "instance"];

/// A text of which no observations can be made.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// It is no answer to a range query.
    #[error("{file_name}: {source}")]
    NotARangeQuery {
        /// The file.
        file_name: String,
        /// What is wrong.
        source: RangeQueryError,
    },
    /// A series has no name, and none was given.
    #[error(
        "{file_name}: data.result[{series}] has no `__name__`: give the signal's name with `--signal NAME`"
    )]
    NoName {
        /// The file.
        file_name: String,
        /// Which series.
        series: usize,
    },
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
        let answer = RangeQuery::read(text)
            .map_err(|source| RangeError::NotARangeQuery { file_name: file_name.into(), source })?;
        for (index, series) in answer.series.into_iter().enumerate() {
            let metric = series.labels.get("__name__").map_or("", String::as_str);
            let name = match names.get(metric) {
                Some(name) => name.as_str(),
                None if metric.is_empty() => {
                    return Err(RangeError::NoName { file_name: file_name.into(), series: index });
                }
                None => metric,
            };
            let replica = REPLICA_LABELS.iter().find_map(|label| series.labels.get(*label));
            // What is infinite is no measurement, either.
            for &(at, value) in series.samples.iter().filter(|(_, value)| value.is_finite()) {
                self.put(Timestamp::from_seconds(at), name, replica, value);
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
