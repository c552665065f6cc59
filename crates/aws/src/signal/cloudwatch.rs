//! A metric of CloudWatch.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use aws_sdk_cloudwatch::{
    Client,
    primitives::DateTime,
    types::{Dimension, Metric, MetricDataQuery, MetricStat, StatusCode},
};
use forewarm_control::{
    Clock,
    ports::{FleetReplica, SignalSource},
};
use forewarm_core::{Missing, Reading, Signal};
use futures_util::future::{BoxFuture, FutureExt};

use crate::{Account, CallError};

const ACTION: &str = "cloudwatch:GetMetricData";
/// The id of the one query.
const ID: &str = "q";

/// Which metric, or which expression over metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudWatchMetric {
    /// What is asked.
    pub query: CloudWatchQuery,
    /// One point is over so long.
    pub period: Duration,
    /// How far back the newest point is looked for.
    pub collection: Duration,
    /// Points younger than this are not complete yet, and left out.
    pub end_offset: Duration,
}

/// A metric, or an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudWatchQuery {
    /// One metric.
    Metric {
        /// Such as `Custom/LLMMetrics`.
        namespace: String,
        /// Such as `LLMQueueDepth`.
        name: String,
        /// Names and values.
        dimensions: Vec<(String, String)>,
        /// Such as `Average`.
        statistic: String,
    },
    /// A query of Metrics Insights, or metric math.
    Expression(String),
}

/// Asks CloudWatch for the newest point of a metric.
#[derive(Debug)]
pub struct CloudWatchSource {
    client: Client,
    metric: CloudWatchMetric,
    timeout: Duration,
    speed: f64,
}

impl CloudWatchSource {
    /// A source that has not asked yet; an answer may take `timeout`.
    pub fn new(account: &Account, metric: CloudWatchMetric, timeout: Duration, clock: Clock) -> Self {
        Self { client: Client::new(account.sdk()), metric, timeout, speed: clock.speed() }
    }

    fn query(&self) -> Result<MetricDataQuery, Missing> {
        let seconds = i32::try_from(self.metric.period.as_secs()).unwrap_or(i32::MAX);
        let query = MetricDataQuery::builder().id(ID).return_data(true);
        Ok(match &self.metric.query {
            CloudWatchQuery::Expression(expression) => query.expression(expression).period(seconds).build(),
            CloudWatchQuery::Metric { namespace, name, dimensions, statistic } => {
                let dimension =
                    |(name, value): &(String, String)| Dimension::builder().name(name).value(value).build();
                let metric = Metric::builder()
                    .namespace(namespace)
                    .metric_name(name)
                    .set_dimensions(Some(dimensions.iter().map(dimension).collect()))
                    .build();
                query
                    .metric_stat(MetricStat::builder().metric(metric).period(seconds).stat(statistic).build())
                    .build()
            }
        })
    }

    async fn ask(&self) -> Result<Signal, Missing> {
        let now = SystemTime::now();
        let end = now - self.metric.end_offset;
        let call = self.client.get_metric_data().metric_data_queries(self.query()?);
        let call =
            call.start_time(DateTime::from(end - self.metric.collection)).end_time(DateTime::from(end));
        let answer = call.send().await;
        let answer = answer.map_err(|error| Missing::Failed(CallError::of(ACTION, &error).to_string()))?;
        let mut results = answer.metric_data_results().iter();
        let result = results.next().ok_or(Missing::Absent)?;
        if results.next().is_some() {
            return Err(Missing::Failed(
                "the expression gives several series, and one is needed: add them up".into(),
            ));
        }
        if !matches!(result.status_code(), Some(StatusCode::Complete | StatusCode::PartialData)) {
            let code = result.status_code().map_or("no status", StatusCode::as_str);
            let said: Vec<&str> = result.messages().iter().filter_map(|message| message.value()).collect();
            return Err(Missing::Failed(format!("CloudWatch answers {code}: {}", said.join("; "))));
        }
        let points = result.timestamps().iter().zip(result.values());
        let (at, value) = points.max_by_key(|(at, _)| at.as_nanos()).ok_or(Missing::Absent)?;
        if !value.is_finite() {
            return Err(Missing::Failed(format!("CloudWatch gives {value}")));
        }
        let at = SystemTime::try_from(*at).unwrap_or(now);
        let age = now.duration_since(at).unwrap_or_default();
        // A point bears the time of its period's begin, and is of its end.
        let age = age.saturating_sub(self.metric.period).mul_f64(self.speed);
        Ok(Signal { reading: Reading::Value { total: *value, per_replica: BTreeMap::new() }, age })
    }
}

impl SignalSource for CloudWatchSource {
    fn read<'a>(&'a self, _replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move {
            match tokio::time::timeout(self.timeout, self.ask()).await {
                Ok(answer) => answer.unwrap_or_else(Signal::missing),
                Err(_) => Signal::missing(Missing::Failed(format!(
                    "no answer from CloudWatch within {} s",
                    self.timeout.as_secs_f64()
                ))),
            }
        }
        .boxed()
    }
}
