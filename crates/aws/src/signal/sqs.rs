//! The depth of an SQS queue. SQS knows it within a minute.

use aws_sdk_sqs::{Client, Config, config::retry::RetryConfig, types::QueueAttributeName};
use forewarm_core::Missing;
use forewarm_manifest::signal::SqsSignal;

use crate::CallError;

/// How many messages there are, of those that count.
pub(super) async fn depth(client: &Client, queue: &SqsSignal) -> Result<f64, Missing> {
    const ACTION: &str = "sqs:GetQueueAttributes";
    let mut names = vec![QueueAttributeName::ApproximateNumberOfMessages];
    if queue.scale_on_in_flight {
        names.push(QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
    }
    if queue.scale_on_delayed {
        names.push(QueueAttributeName::ApproximateNumberOfMessagesDelayed);
    }
    let call = client.get_queue_attributes().queue_url(&queue.queue_url);
    let call = call.set_attribute_names(Some(names.clone()));
    let once = Config::builder().retry_config(RetryConfig::disabled());
    let answer = call.customize().config_override(once).send().await;
    let answer = answer.map_err(|error| Missing::Failed(CallError::of(ACTION, &error).to_string()))?;
    let attributes = answer.attributes().ok_or(Missing::Absent)?;
    let mut messages = 0.0;
    for name in names {
        let text = attributes.get(&name).ok_or_else(|| {
            Missing::Failed(format!("SQS says nothing of {} of {}", name.as_str(), queue.queue_url))
        })?;
        let count: u64 = text.parse().map_err(|_| {
            Missing::Failed(format!("SQS says {text:?} of {}, which is no number", name.as_str()))
        })?;
        messages += count as f64;
    }
    Ok(messages)
}
