//! The depth of an SQS queue.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_sqs::{Client, types::QueueAttributeName};
use forewarm_control::ports::{FleetReplica, SignalSource};
use forewarm_core::{Missing, Reading, Signal};
use futures_util::future::{BoxFuture, FutureExt};

use crate::{Account, CallError};

/// Which messages of which queue count. SQS knows about them within a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqsQueue {
    /// Its URL.
    pub url: String,
    /// Whether messages count that somebody works on.
    pub in_flight: bool,
    /// Whether messages count that are not to be seen yet.
    pub delayed: bool,
}

/// Asks SQS for the depth of a queue.
#[derive(Debug)]
pub struct SqsSource {
    client: Client,
    queue: SqsQueue,
    timeout: Duration,
}

impl SqsSource {
    /// A source that has not asked yet; an answer may take `timeout`.
    pub fn new(account: &Account, queue: SqsQueue, timeout: Duration) -> Self {
        Self { client: Client::new(account.sdk()), queue, timeout }
    }

    async fn ask(&self) -> Result<f64, Missing> {
        const ACTION: &str = "sqs:GetQueueAttributes";
        let mut names = vec![QueueAttributeName::ApproximateNumberOfMessages];
        if self.queue.in_flight {
            names.push(QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
        }
        if self.queue.delayed {
            names.push(QueueAttributeName::ApproximateNumberOfMessagesDelayed);
        }
        let call = self.client.get_queue_attributes().queue_url(&self.queue.url);
        let answer = call.set_attribute_names(Some(names.clone())).send().await;
        let answer = answer.map_err(|error| Missing::Failed(CallError::of(ACTION, &error).to_string()))?;
        let attributes = answer.attributes().ok_or(Missing::Absent)?;
        let mut messages = 0.0;
        for name in names {
            let text = attributes.get(&name).ok_or_else(|| {
                Missing::Failed(format!("SQS says nothing of {} of {}", name.as_str(), self.queue.url))
            })?;
            let count: u64 = text.parse().map_err(|_| {
                Missing::Failed(format!("SQS says {text:?} of {}, which is no number", name.as_str()))
            })?;
            messages += count as f64;
        }
        Ok(messages)
    }
}

impl SignalSource for SqsSource {
    fn read<'a>(&'a self, _replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move {
            match tokio::time::timeout(self.timeout, self.ask()).await {
                Ok(Ok(total)) => {
                    let reading = Reading::Value { total, per_replica: BTreeMap::new() };
                    Signal { reading, age: Duration::ZERO }
                }
                Ok(Err(missing)) => Signal::missing(missing),
                Err(_) => Signal::missing(Missing::Failed(format!(
                    "no answer from SQS within {} s",
                    self.timeout.as_secs_f64()
                ))),
            }
        }
        .boxed()
    }
}
