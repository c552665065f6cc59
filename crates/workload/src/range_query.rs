//! What Prometheus answers to `/api/v1/query_range`: series of samples.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The answer to a range query.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeQuery {
    /// Its series, in the answer's order.
    pub series: Vec<RangeSeries>,
}

/// One series of a range query.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeSeries {
    /// Its labels, the metric's name as `__name__` among them.
    pub labels: BTreeMap<String, String>,
    /// Unix time in seconds, and the value. Without those that are NaN: that is how some queries write a gap.
    pub samples: Vec<(f64, f64)>,
}

/// Why a text is no answer to a range query.
#[derive(Debug, thiserror::Error)]
pub enum RangeQueryError {
    /// It is something else.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The server could not answer.
    #[error("the query's status is {status}: {why}")]
    Failed {
        /// What is there for `success`.
        status: String,
        /// What the server says.
        why: String,
    },
    /// It is the answer to a query for one moment.
    #[error("data.resultType is {found}, wanted matrix: the answer of /api/v1/query_range")]
    NotAMatrix {
        /// What it is.
        found: String,
    },
    /// A sample's value is no number.
    #[error("data.result[{series}] at {at}: `{found}` is no number")]
    NotANumber {
        /// Its series.
        series: usize,
        /// Its Unix time.
        at: f64,
        /// What is there.
        found: String,
    },
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
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl RangeQuery {
    /// Whether a text is meant as one: a JSON object with a status.
    pub fn is_one(text: &str) -> bool {
        text.trim_start().starts_with('{') && serde_json::from_str::<Answer>(text).is_ok()
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// When the text is no successful answer with a matrix, or a value is no number.
    pub fn read(text: &str) -> Result<Self, RangeQueryError> {
        let data = match serde_json::from_str(text)? {
            Answer { status, data: Some(data), .. } if status == "success" => data,
            Answer { status, error, .. } => {
                let why = error.unwrap_or_else(|| "no data".into());
                return Err(RangeQueryError::Failed { status, why });
            }
        };
        if data.result_type != "matrix" {
            return Err(RangeQueryError::NotAMatrix { found: data.result_type });
        }
        let series = data.result.into_iter().enumerate().map(|(index, series)| {
            let sample = |(at, text): (f64, String)| match text.parse::<f64>() {
                Ok(value) => Ok((at, value)),
                Err(_) => Err(RangeQueryError::NotANumber { series: index, at, found: text }),
            };
            let samples: Vec<(f64, f64)> = series.values.into_iter().map(sample).collect::<Result<_, _>>()?;
            let samples = samples.into_iter().filter(|(_, value)| !value.is_nan()).collect();
            Ok(RangeSeries { labels: series.metric, samples })
        });
        Ok(Self { series: series.collect::<Result<_, RangeQueryError>>()? })
    }
}
