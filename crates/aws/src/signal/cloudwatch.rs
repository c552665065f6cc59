//! The newest point of a metric of CloudWatch.

use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::{
    Client, Config,
    config::retry::RetryConfig,
    primitives::DateTime,
    types::{Dimension, Metric, MetricDataQuery, MetricStat, StatusCode},
};
use forewarm_core::Missing;
use forewarm_manifest::signal::{CloudWatchQuery, CloudWatchSignal};

use crate::CallError;

/// The id of the one query.
const ID: &str = "q";

fn query(metric: &CloudWatchSignal) -> MetricDataQuery {
    let seconds = i32::try_from(metric.period.as_secs()).unwrap_or(i32::MAX);
    let query = MetricDataQuery::builder().id(ID).return_data(true);
    match &metric.query {
        CloudWatchQuery::Expression { expression } => query.expression(expression).period(seconds).build(),
        CloudWatchQuery::Metric { namespace, metric_name, metric_stat, .. } => {
            let dimension = |(name, value)| Dimension::builder().name(name).value(value).build();
            let dimensions = metric.query.dimensions().into_iter().map(dimension).collect();
            let of = Metric::builder().namespace(namespace).metric_name(metric_name);
            let of = of.set_dimensions(Some(dimensions)).build();
            let statistic = MetricStat::builder().metric(of).period(seconds).stat(metric_stat).build();
            query.metric_stat(statistic).build()
        }
    }
}

/// The newest point and its age; none is no 0.
pub(super) async fn newest(client: &Client, metric: &CloudWatchSignal) -> Result<(f64, Duration), Missing> {
    const ACTION: &str = "cloudwatch:GetMetricData";
    let now = SystemTime::now();
    // The end is excluded, and whole seconds are what CloudWatch knows.
    let end = now - metric.end_offset + Duration::from_secs(1);
    let call = client.get_metric_data().metric_data_queries(query(metric));
    let call = call.start_time(DateTime::from(end - metric.collection)).end_time(DateTime::from(end));
    let once = Config::builder().retry_config(RetryConfig::disabled());
    let answer = call.customize().config_override(once).send().await;
    let answer = answer.map_err(|error| Missing::Failed(CallError::of(ACTION, &error).to_string()))?;
    let mut results = answer.metric_data_results().iter();
    let result = results.next().ok_or(Missing::Absent)?;
    if results.next().is_some() {
        let why = "the expression gives several series, and one is needed: add them up";
        return Err(Missing::Failed(why.to_owned()));
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
    // A point bears the time of its period's begin, and is of its end.
    let age = SystemTime::try_from(*at).ok().and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
    Ok((*value, age.saturating_sub(metric.period)))
}
