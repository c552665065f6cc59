//! Announcements that instances are going to end: from EventBridge, through a queue of SQS.

use std::{sync::Arc, time::Duration};

use aws_sdk_sqs::Client;
use serde::Deserialize;
use tokio::{sync::broadcast, task::JoinHandle, time::sleep};

use crate::{Account, CallError};

/// How long a question waits for a message: the longest that SQS allows, and the cheapest.
const WAIT_SECONDS: i32 = 20;
/// Time that a question may take with its wait.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Messages in one answer.
const AT_ONCE: i32 = 10;
/// Wait after a question that failed.
const PAUSE: Duration = Duration::from_secs(10);
/// Announcements that a slow fleet may be behind.
const KEPT: usize = 256;
/// Time from the warning of a spot interruption until the instance is taken.
const WARNING: Duration = Duration::from_secs(120);

/// An instance is going to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// Its id.
    pub(crate) instance: String,
    /// What was announced.
    pub(crate) how: String,
    /// When it will be so.
    pub(crate) end: End,
}

/// When an instance ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// It ends already.
    Now,
    /// Then.
    At(jiff::Timestamp),
    /// That is likely, and has no date.
    Likely,
}

/// One queue, which one reader empties for all fleets.
#[derive(Debug)]
pub struct InterruptionQueue {
    sender: broadcast::Sender<Announcement>,
    task: JoinHandle<()>,
}

impl InterruptionQueue {
    /// Starts to read. Messages are deleted once they are read: the queue must be forewarm's own.
    pub fn start(account: &Account, url: &str) -> Arc<Self> {
        let (sender, _) = broadcast::channel(KEPT);
        let task = tokio::spawn(read(account.sqs.clone(), url.to_owned(), sender.clone()));
        Arc::new(Self { sender, task })
    }

    /// What is announced from now on.
    pub(crate) fn announcements(&self) -> broadcast::Receiver<Announcement> {
        self.sender.subscribe()
    }
}

impl Drop for InterruptionQueue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(client: Client, url: String, sender: broadcast::Sender<Announcement>) {
    loop {
        if let Err(error) = read_once(&client, &url, &sender).await {
            tracing::warn!(queue = url, %error, "cannot read the interruption queue");
            sleep(PAUSE).await;
        }
    }
}

async fn read_once(
    client: &Client,
    url: &str,
    sender: &broadcast::Sender<Announcement>,
) -> Result<(), CallError> {
    let call = client.receive_message().queue_url(url).max_number_of_messages(AT_ONCE);
    let timeouts = aws_config::timeout::TimeoutConfig::builder()
        .operation_attempt_timeout(TIMEOUT)
        .operation_timeout(TIMEOUT)
        .build();
    let longer = aws_sdk_sqs::config::Builder::new().timeout_config(timeouts);
    let answer = call.wait_time_seconds(WAIT_SECONDS).customize().config_override(longer).send().await;
    let answer = answer.map_err(|error| CallError::of("sqs:ReceiveMessage", &error))?;
    for message in answer.messages() {
        if let Some(announcement) = message.body().and_then(announcement) {
            // Without a fleet nobody needs to know.
            drop(sender.send(announcement));
        }
        if let Some(receipt) = message.receipt_handle() {
            let deleted = client.delete_message().queue_url(url).receipt_handle(receipt).send().await;
            deleted.map_err(|error| CallError::of("sqs:DeleteMessage", &error))?;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "detail-type")]
    kind: String,
    /// When it happened.
    time: Option<jiff::Timestamp>,
    #[serde(default)]
    detail: Detail,
}

#[derive(Default, Deserialize)]
struct Detail {
    #[serde(rename = "instance-id")]
    instance: Option<String>,
    state: Option<String>,
}

/// What an event of EventBridge announces.
fn announcement(body: &str) -> Option<Announcement> {
    let Event { kind, time, detail } = serde_json::from_str(body).ok()?;
    let (how, end) = match kind.as_str() {
        "EC2 Spot Instance Interruption Warning" => {
            let warned = time.unwrap_or_else(jiff::Timestamp::now);
            let end = warned.checked_add(WARNING).map_or(End::Now, End::At);
            ("spot interruption: two minutes' warning".to_owned(), end)
        }
        "EC2 Instance Rebalance Recommendation" => {
            ("rebalance recommendation: a spot interruption is likely".to_owned(), End::Likely)
        }
        "EC2 Instance State-change Notification" => {
            let state = detail.state.filter(|state| state != "pending" && state != "running")?;
            (format!("the instance is {state}"), End::Now)
        }
        _ => return None,
    };
    Some(Announcement { instance: detail.instance?, how, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_announce_an_end_are_understood_and_others_left_out() {
        let event = |kind: &str, detail: &str| {
            let body = format!(
                r#"{{"version":"0","detail-type":"{kind}","source":"aws.ec2","time":"2026-11-25T10:00:00Z","detail":{detail}}}"#
            );
            announcement(&body).map(|announcement| (announcement.instance, announcement.end))
        };
        let id = r#"{"instance-id":"i-1","instance-action":"terminate"}"#;
        let then = "2026-11-25T10:02:00Z".parse().expect("a time");
        let ours = |end| Some(("i-1".to_owned(), end));
        assert_eq!(event("EC2 Spot Instance Interruption Warning", id), ours(End::At(then)));
        assert_eq!(event("EC2 Instance Rebalance Recommendation", id), ours(End::Likely));
        let state = |state: &str| format!(r#"{{"instance-id":"i-1","state":"{state}"}}"#);
        assert_eq!(event("EC2 Instance State-change Notification", &state("shutting-down")), ours(End::Now));
        assert_eq!(event("EC2 Instance State-change Notification", &state("running")), None);
        assert_eq!(event("EC2 Spot Instance Interruption Warning", "{}"), None);
        assert_eq!(event("Scheduled Event", id), None);
        assert_eq!(announcement("no JSON"), None);
    }
}
