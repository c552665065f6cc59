//! The management API: depth with and without what is unacknowledged, and rates.

use std::time::Duration;

use forewarm_manifest::signal::{HttpAccess, RabbitMqMode, RabbitMqOperation, RabbitMqSignal};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::Address;
use crate::http::{AskError, Asker, Clients};

/// Largest answer that is read: some thousand queues.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// The most that the API gives in one answer.
const PAGE_SIZE: usize = 500;

/// One queue, or all whose names fit.
#[derive(Debug)]
pub(crate) struct Queues {
    asker: Asker,
    url: Url,
    signal: RabbitMqSignal,
}

/// What the API says of a queue, if it says it.
#[derive(Debug, Deserialize)]
struct Queue {
    #[serde(default)]
    name: String,
    messages: Option<f64>,
    messages_ready: Option<f64>,
    message_stats: Option<Stats>,
}

#[derive(Debug, Deserialize)]
struct Stats {
    publish_details: Option<Rate>,
}

#[derive(Debug, Deserialize)]
struct Rate {
    rate: f64,
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Queue>,
    page_count: u32,
}

impl Queues {
    pub(super) fn new(
        clients: &Clients,
        address: Address,
        signal: RabbitMqSignal,
        timeout: Duration,
    ) -> Result<Self, String> {
        let Address { mut url, vhost, who } = address;
        let mut segments = url.path_segments_mut().map_err(|()| "`host` is no address".to_owned())?;
        segments.pop_if_empty().extend(["api", "queues", &vhost]);
        if !signal.use_regex {
            segments.push(&signal.queue_name);
        }
        drop(segments);
        let access = HttpAccess { basic: Some(who), tls: signal.tls.clone(), ..HttpAccess::default() };
        Ok(Self { asker: clients.asker(&url, &access, timeout)?, url, signal })
    }

    pub(super) async fn ask(&self) -> Result<f64, String> {
        let queues = if self.signal.use_regex { self.several().await? } else { vec![self.one().await?] };
        let values: Vec<f64> =
            queues.iter().map(|queue| value(queue, &self.signal)).collect::<Result<_, _>>()?;
        let fitting = &self.signal.queue_name;
        let several = values.iter().copied().reduce(|left, right| match self.signal.operation {
            RabbitMqOperation::Sum | RabbitMqOperation::Avg => left + right,
            RabbitMqOperation::Max => left.max(right),
        });
        let value = several.ok_or_else(|| format!("no queue's name fits `{fitting}`"))?;
        Ok(match self.signal.operation {
            RabbitMqOperation::Avg => value / values.len() as f64,
            RabbitMqOperation::Sum | RabbitMqOperation::Max => value,
        })
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: Url) -> Result<T, String> {
        let asked = self.asker.get(url, None, MAX_BODY_BYTES).await;
        // A right password may lack the tag or the vhost.
        let (status, body) = asked.map_err(|error| match &error {
            AskError::Refused { body, .. } => format!("{error}{}", reason(body)),
            AskError::Failed(_) | AskError::TooLarge { .. } => error.to_string(),
        })?;
        let queue = &self.signal.queue_name;
        if status == StatusCode::NOT_FOUND {
            let vhost = self.signal.vhost_name.as_deref().unwrap_or("/");
            return Err(format!("there is no queue `{queue}` in vhost `{vhost}`"));
        }
        if status == StatusCode::BAD_REQUEST && self.signal.use_regex {
            return Err(format!("RabbitMQ cannot take `{queue}` as a regular expression{}", reason(&body)));
        }
        if !status.is_success() {
            return Err(format!("HTTP {status} from RabbitMQ{}", reason(&body)));
        }
        serde_json::from_slice(&body).map_err(|error| format!("the answer is not RabbitMQ's JSON: {error}"))
    }

    async fn one(&self) -> Result<Queue, String> {
        self.get(self.url.clone()).await
    }

    async fn several(&self) -> Result<Vec<Queue>, String> {
        let mut queues = Vec::new();
        for page in 1.. {
            let mut url = self.url.clone();
            url.query_pairs_mut()
                .append_pair("page", &page.to_string())
                .append_pair("page_size", &PAGE_SIZE.to_string())
                .append_pair("use_regex", "true")
                .append_pair("name", &self.signal.queue_name);
            let answer: Page = self.get(url).await?;
            queues.extend(answer.items);
            if page >= answer.page_count {
                break;
            }
        }
        Ok(queues)
    }
}

/// Why the API refuses, to stand behind what it refuses; nothing where it does not say.
fn reason(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        reason: String,
    }
    serde_json::from_slice(body).map_or_else(|_| String::new(), |Refusal { reason }| format!(": {reason}"))
}

/// The number that counts. A queue is there before its statistics are: then there is none, and not 0.
fn value(queue: &Queue, signal: &RabbitMqSignal) -> Result<f64, String> {
    let (value, field) = match signal.mode {
        RabbitMqMode::QueueLength if signal.exclude_unacknowledged => {
            (queue.messages_ready, "messages_ready")
        }
        RabbitMqMode::QueueLength => (queue.messages, "messages"),
        // Nothing was published as yet: the statistics come with the first message.
        RabbitMqMode::MessageRate if queue.messages.is_some() && queue.message_stats.is_none() => {
            (Some(0.0), "")
        }
        RabbitMqMode::MessageRate => {
            let stats = queue.message_stats.as_ref();
            let rate = stats.and_then(|stats| stats.publish_details.as_ref()).map(|details| details.rate);
            // Of a queue that is only read from there is no such rate.
            (rate.or(stats.map(|_| 0.0)), "message_stats")
        }
    };
    value.ok_or_else(|| {
        let name = if queue.name.is_empty() { &signal.queue_name } else { &queue.name };
        format!(
            "RabbitMQ says nothing of `{field}` of queue `{name}` yet: its statistics come some seconds late"
        )
    })
}
