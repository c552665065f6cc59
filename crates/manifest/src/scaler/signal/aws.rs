//! Queues of SQS and metrics of CloudWatch.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{decided_elsewhere, flag, given};
use crate::{
    cursor::{Cursor, Fields},
    quantity::write_duration,
    scaler::target::ROLE,
};

/// Where AWS is asked, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AwsPlace {
    /// The region; `None`: as the environment or the profile says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_region: Option<String>,
    /// The role that is assumed; `None`: the credentials' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_role_arn: Option<String>,
}

/// What waits in a queue of SQS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SqsSignal {
    /// Its URL.
    #[serde(rename = "queueURL")]
    pub queue_url: String,
    /// Whether messages count that somebody works on.
    pub scale_on_in_flight: bool,
    /// Whether messages count that are not to be seen yet.
    pub scale_on_delayed: bool,
    /// Where, and as whom.
    #[serde(flatten)]
    pub place: AwsPlace,
}

/// The newest point of a metric of CloudWatch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudWatchSignal {
    /// What is asked.
    #[serde(flatten)]
    pub query: CloudWatchQuery,
    /// How long a point's time is.
    #[serde(rename = "metricStatPeriod", serialize_with = "span")]
    pub period: Duration,
    /// How far back the newest point is looked for.
    #[serde(rename = "metricCollectionTime", serialize_with = "span")]
    pub collection: Duration,
    /// Points younger than this are left out.
    #[serde(rename = "metricEndTimeOffset", serialize_with = "span")]
    pub end_offset: Duration,
    /// Where, and as whom.
    #[serde(flatten)]
    pub place: AwsPlace,
}

/// One metric, or an expression.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum CloudWatchQuery {
    /// A query of Metrics Insights.
    Expression {
        /// Such as `SELECT AVG(LLMQueueDepth) FROM "Custom/LLMMetrics"`.
        expression: String,
    },
    /// One metric.
    Metric {
        /// Such as `Custom/LLMMetrics`.
        namespace: String,
        /// Such as `LLMQueueDepth`.
        metric_name: String,
        /// Names, divided by `;`.
        #[serde(skip_serializing_if = "String::is_empty")]
        dimension_name: String,
        /// Their values, in the same order.
        #[serde(skip_serializing_if = "String::is_empty")]
        dimension_value: String,
        /// Such as `Average`.
        metric_stat: String,
    },
}

impl CloudWatchQuery {
    /// Names and values of a metric's dimensions.
    pub fn dimensions(&self) -> Vec<(String, String)> {
        match self {
            Self::Expression { .. } => Vec::new(),
            Self::Metric { dimension_name, dimension_value, .. } => {
                let names = dimension_name.split(';').map(str::trim).filter(|name| !name.is_empty());
                names.zip(dimension_value.split(';').map(str::trim)).map(owned).collect()
            }
        }
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// KEDA's defaults.
const PERIOD: Duration = Duration::from_secs(300);
const COLLECTION: Duration = Duration::from_secs(300);
const STATISTIC: &str = "Average";

fn span<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&write_duration(*span))
}

/// Seconds, as KEDA writes them, or a duration.
fn seconds(fields: &Fields<'_>, name: &'static str, default: Duration) -> Option<Duration> {
    let read = given(fields, name, |at| match at.node.text().and_then(|text| text.parse::<u32>().ok()) {
        Some(seconds) => Some(Duration::from_secs(seconds.into())),
        None => at.duration(),
    });
    read.map(|span| span.unwrap_or(default))
}

impl AwsPlace {
    fn read(fields: &Fields<'_>) -> Option<Self> {
        let region = given(fields, "awsRegion", Cursor::text);
        let role = given(fields, "awsRoleArn", |role| role.starting_with("arn:", ROLE));
        // Who forewarm is, is found by the ordinary chain of credentials.
        decided_elsewhere(fields, &["identityOwner"]);
        let nowhere_else = given(fields, "awsEndpoint", |at| {
            at.problem("an endpoint in a manifest", "AWS_ENDPOINT_URL in the environment");
            None::<()>
        });
        nowhere_else?;
        Some(Self { aws_region: region?, aws_role_arn: role? })
    }
}

/// What is wanted of the URL of a queue.
const QUEUE_URL: &str = "the queue's URL, such as https://sqs.us-east-1.amazonaws.com/123456789012/llm";

pub(super) fn read_sqs(at: &Cursor<'_>) -> Option<SqsSignal> {
    let fields = at.fields()?;
    let url = fields.require("queueURL", QUEUE_URL);
    let in_flight = given(&fields, "scaleOnInFlight", |_| flag(&fields, "scaleOnInFlight"));
    let delayed = flag(&fields, "scaleOnDelayed");
    let place = AwsPlace::read(&fields);
    decided_elsewhere(&fields, &["queueLength", "activationQueueLength", "metricName"]);
    fields.finish();
    let (url, text) = url.and_then(|url| Some((url.clone(), url.text()?)))?;
    if !(text.starts_with("https://") || text.starts_with("http://")) {
        url.wanted(QUEUE_URL);
        return None;
    }
    Some(SqsSignal {
        queue_url: text,
        scale_on_in_flight: in_flight?.unwrap_or(true),
        scale_on_delayed: delayed?,
        place: place?,
    })
}

/// Whether CloudWatch has such points.
fn is_period(period: Duration) -> bool {
    let seconds = period.as_secs();
    let fits = matches!(seconds, 1 | 5 | 10 | 20 | 30) || (seconds > 0 && seconds.is_multiple_of(60));
    fits && period.subsec_nanos() == 0
}

/// One of the usual statistics, or an extended one: `p99`, `IQM`, `TM(10%:90%)`.
fn statistic(at: &Cursor<'_>) -> Option<String> {
    const USUAL: [(&str, ()); 5] =
        [(STATISTIC, ()), ("Sum", ()), ("Minimum", ()), ("Maximum", ()), ("SampleCount", ())];
    let text = at.text()?;
    if text != "IQM" && !text.contains(|character: char| character.is_ascii_digit()) {
        at.one_of(&USUAL)?;
    }
    Some(text)
}

pub(super) fn read_cloudwatch(at: &Cursor<'_>) -> Option<CloudWatchSignal> {
    let fields = at.fields()?;
    let expression = given(&fields, "expression", Cursor::text);
    let namespace = given(&fields, "namespace", Cursor::text);
    let metric = fields.get("metricName").map(|metric| metric.text());
    let names = given(&fields, "dimensionName", Cursor::text);
    let values = given(&fields, "dimensionValue", Cursor::text);
    let statistic = given(&fields, "metricStat", statistic);
    let period = seconds(&fields, "metricStatPeriod", PERIOD);
    let collection = seconds(&fields, "metricCollectionTime", COLLECTION);
    let end_offset = seconds(&fields, "metricEndTimeOffset", Duration::ZERO);
    let place = AwsPlace::read(&fields);
    let elsewhere = [
        "targetMetricValue",
        "activationTargetMetricValue",
        "minMetricValue",
        "ignoreNullValues",
        "metricUnit",
    ];
    decided_elsewhere(&fields, &elsewhere);
    fields.finish();
    let expression = expression?;
    let query = if let Some(expression) = expression {
        CloudWatchQuery::Expression { expression }
    } else {
        let (Some(namespace), Some(Some(metric_name))) = (namespace?, metric) else {
            at.problem("neither a metric nor an expression", "`namespace` and `metricName`, or `expression`");
            return None;
        };
        let (dimension_name, dimension_value) = (names?.unwrap_or_default(), values?.unwrap_or_default());
        // CloudWatch takes no dimension without a value.
        let count = |text: &str| text.split(';').filter(|part| !part.trim().is_empty()).count();
        if count(&dimension_name) != count(&dimension_value) {
            at.problem(
                "`dimensionName` and `dimensionValue` of two lengths",
                "a value for each name, divided by `;`",
            );
            return None;
        }
        let metric_stat = statistic?.unwrap_or_else(|| STATISTIC.to_owned());
        CloudWatchQuery::Metric { namespace, metric_name, dimension_name, dimension_value, metric_stat }
    };
    let (period, collection) = (period?, collection?);
    if !is_period(period) {
        let wanted = "1, 5, 10, 20 or 30 seconds, or a multiple of 60";
        at.problem(format!("`metricStatPeriod` of {} s", period.as_secs_f64()), wanted);
        return None;
    }
    if collection < period {
        at.problem(
            format!("points of {} s in a time of {} s", period.as_secs(), collection.as_secs()),
            "`metricCollectionTime` of at least one `metricStatPeriod`",
        );
        return None;
    }
    Some(CloudWatchSignal { query, period, collection, end_offset: end_offset?, place: place? })
}
