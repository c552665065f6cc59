//! One page of metrics as canonical numbers: every series of a name added up, none overwriting another.

use std::collections::BTreeMap;

use super::{EngineKind, EngineMetric};
use crate::text::{Format, ParseError, Problem, Sample, Samples};

/// Most models that are told apart on one page; a page is not trusted to be small.
pub const MAX_MODELS: usize = 100;
/// The model that those beyond [`MAX_MODELS`] are added up under.
pub const OTHER_MODELS: &str = "_other";

/// Why a page says nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadingError {
    /// A line of a metric that counts is broken.
    #[error("a metric that counts is broken: {0}")]
    Line(ParseError),
    /// Not one line looks like a metric.
    #[error("there are no metrics on the page: {0}")]
    NotMetrics(ParseError),
}

/// The canonical metrics of one model on one page. What the page does not have is `None`, never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineMetrics {
    values: [Option<f64>; EngineMetric::ALL.len()],
}

impl EngineMetrics {
    /// The metric's value, `None` when the page has no such series.
    pub fn get(&self, metric: EngineMetric) -> Option<f64> {
        self.values[metric.index()]
    }

    fn add(&mut self, metric: EngineMetric, value: f64) {
        let slot = &mut self.values[metric.index()];
        *slot = Some(slot.map_or(value, |sum| join(metric, sum, value)));
    }
}

/// A share of a cache cannot be added to another's: the fullest says how near the limit is.
fn join(metric: EngineMetric, left: f64, right: f64) -> f64 {
    match metric {
        EngineMetric::KvUsage if left.is_nan() || right.is_nan() => f64::NAN,
        EngineMetric::KvUsage => left.max(right),
        EngineMetric::Waiting
        | EngineMetric::Running
        | EngineMetric::KvTokens
        | EngineMetric::PromptTokensTotal
        | EngineMetric::GenerationTokensTotal
        | EngineMetric::RequestsFinishedTotal
        | EngineMetric::RejectionsTotal
        | EngineMetric::PreemptionsTotal
        | EngineMetric::TtftSecondsSum
        | EngineMetric::TtftSecondsCount => left + right,
    }
}

/// What one engine's page says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineReading {
    total: EngineMetrics,
    by_model: BTreeMap<String, EngineMetrics>,
}

impl EngineReading {
    /// Reads a page of `kind`'s metrics. Lines of other metrics are skipped, broken or not.
    ///
    /// # Errors
    /// [`ReadingError`] when a line that counts is broken, or when nothing on the page is a metric.
    pub fn parse(kind: EngineKind, page: &[u8], format: Format) -> Result<Self, ReadingError> {
        let series = kind.series();
        let mut best: [Option<usize>; EngineMetric::ALL.len()] = [None; EngineMetric::ALL.len()];
        let mut found: Vec<(usize, Sample<'_>)> = Vec::new();
        let mut any_name = false;
        let mut first_bad = None;
        let samples = Samples::of(page, format, |name| {
            any_name = true;
            series.iter().any(|series| series.name == name)
        });
        for sample in samples {
            let sample = match sample {
                Ok(sample) => sample,
                Err(error) if error.problem == Problem::Name => {
                    first_bad.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(ReadingError::Line(error)),
            };
            for (rank, series) in series.iter().enumerate() {
                let fits = |(label, value): (&str, &str)| {
                    sample.labels.get(label).is_some_and(|found| found == value)
                };
                if series.name == sample.name && series.only.is_none_or(fits) {
                    let Some(value) = series.value(&sample) else { continue };
                    let sample = Sample { value, ..sample };
                    let slot = &mut best[series.metric.index()];
                    *slot = Some(slot.map_or(rank, |best| best.min(rank)));
                    found.push((rank, sample));
                }
            }
        }
        if let (false, Some(error)) = (any_name, first_bad) {
            return Err(ReadingError::NotMetrics(error));
        }
        let mut reading = Self::default();
        for (rank, sample) in found {
            let metric = series[rank].metric;
            if best[metric.index()] == Some(rank) {
                let model = kind.model_label().and_then(|label| sample.labels.get(label)).unwrap_or_default();
                reading.total.add(metric, sample.value);
                reading.model(&model).add(metric, sample.value);
            }
        }
        Ok(reading)
    }

    /// All models together.
    pub fn total(&self) -> &EngineMetrics {
        &self.total
    }

    /// Each model by its name; the empty name where the engine does not say.
    pub fn by_model(&self) -> &BTreeMap<String, EngineMetrics> {
        &self.by_model
    }

    fn model(&mut self, name: &str) -> &mut EngineMetrics {
        let name = match self.by_model.contains_key(name) || self.by_model.len() < MAX_MODELS {
            true => name,
            false => OTHER_MODELS,
        };
        self.by_model.entry(name.to_owned()).or_default()
    }
}
