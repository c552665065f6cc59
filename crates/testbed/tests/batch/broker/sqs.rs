//! SQS, as ElasticMQ speaks it. A message that is not deleted within its visibility timeout is given to another.

use std::{ops::Range, path::Path};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_credential_types::Credentials;
use aws_sdk_sqs::{Client, types::MessageSystemAttributeName};
use forewarm_aws::{Account, AwsSources};
use forewarm_control::Clock;
use forewarm_signals::Sources;
use forewarm_testbed::{ElasticMq, TestbedError, assets};
use tempfile::TempDir;

use super::{Broker, Consumer, Gone, Message, number};

const QUEUE: &str = "work";
/// A message is worked on for much less.
const VISIBILITY_SECONDS: i32 = 20;
/// How long a worker waits for a message before it looks whether it is told to go.
const WAIT_SECONDS: i32 = 1;

pub(crate) struct SqsBroker {
    server: ElasticMq,
    _folder: TempDir,
}

/// Who asks the server at `endpoint`; each call is made once.
async fn sdk(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "a test");
    let loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new("us-east-1"));
    let loader = loader.retry_config(RetryConfig::disabled());
    loader.endpoint_url(endpoint).credentials_provider(credentials).load().await
}

impl Broker for SqsBroker {
    async fn start() -> Result<Self, TestbedError> {
        let assets = assets("elasticmq")?;
        let folder = tempfile::tempdir()?;
        let server = ElasticMq::start(&assets, folder.path(), &[QUEUE]).await?;
        Ok(Self { server, _folder: folder })
    }

    async fn publish(&mut self, numbers: Range<u32>) {
        let client = Client::new(&sdk(&self.server.address).await);
        for number in numbers {
            let message = client.send_message().queue_url(self.server.queue(QUEUE));
            message.message_body(number.to_string()).send().await.unwrap();
        }
    }

    fn kill(&mut self) {
        self.server.server.kill();
    }

    async fn restart(&mut self) {
        self.server.restart().await.unwrap();
    }

    fn signal(&self, _: &Path) -> String {
        format!("awsSqsQueue: {{queueURL: '{}'}}", self.server.queue(QUEUE))
    }

    async fn sources(&self, clock: Clock) -> Sources {
        let account = Account::with(sdk(&self.server.address).await).unwrap();
        Sources::new(clock).with(AwsSources::with(account))
    }

    fn policy(&self) -> String {
        format!(", visibilityTimeout: {VISIBILITY_SECONDS}s")
    }

    fn address(&self) -> String {
        format!("sqs {} {}", self.server.address, self.server.queue(QUEUE))
    }
}

/// One worker.
pub(crate) struct SqsConsumer {
    client: Client,
    url: String,
}

impl SqsConsumer {
    pub(crate) async fn new(address: &str) -> Self {
        let (endpoint, url) = address.split_once(' ').unwrap();
        Self { client: Client::new(&sdk(endpoint).await), url: url.to_owned() }
    }
}

impl Consumer for SqsConsumer {
    /// The receipt.
    type Token = String;

    async fn next(&mut self) -> Result<Option<Message<String>>, Gone> {
        let asked = self.client.receive_message().queue_url(&self.url).max_number_of_messages(1);
        let asked = asked.visibility_timeout(VISIBILITY_SECONDS).wait_time_seconds(WAIT_SECONDS);
        let answer = asked
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await?;
        let Some(message) = answer.messages().first() else { return Ok(None) };
        let count = message.attributes().and_then(|attributes| {
            attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount)?.parse::<u32>().ok()
        });
        let number = number(message.body().unwrap_or_default().as_bytes());
        let token = message.receipt_handle().unwrap_or_default().to_owned();
        Ok(Some(Message { number, redelivered: count.unwrap() > 1, token }))
    }

    /// It is this worker's for another visibility timeout.
    async fn keep(&mut self, receipt: &String) -> Result<(), Gone> {
        let kept = self.client.change_message_visibility().queue_url(&self.url).receipt_handle(receipt);
        Ok(kept.visibility_timeout(VISIBILITY_SECONDS).send().await.map(drop)?)
    }

    async fn acknowledge(&mut self, receipt: String) -> Result<(), Gone> {
        let done = self.client.delete_message().queue_url(&self.url).receipt_handle(receipt);
        Ok(done.send().await.map(drop)?)
    }

    async fn leave(self) -> Result<(), Gone> {
        Ok(())
    }
}
