//! SQS, as ElasticMQ speaks it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use aws_sdk_sqs::{Client, types::SendMessageBatchRequestEntry};
use forewarm_aws::Account;
use forewarm_control::{Clock, ports::SignalSource as Source};
use forewarm_manifest::{
    SignalSource,
    signal::{AwsPlace, SqsSignal},
};
use forewarm_testbed::{Cloud, ElasticMq, Proxy, Server, assets};
use tempfile::TempDir;

use super::{
    Fault, Words,
    account::{described, sdk},
};
use crate::started;

const QUEUE: &str = "requests";
/// Messages that SQS takes at once.
const BATCH: usize = 10;

pub(super) struct World {
    server: ElasticMq,
    behind: SocketAddr,
    proxy: Proxy,
    /// Answers instead of the server, when nobody may ask.
    cloud: Cloud,
    account: Account,
    source: SignalSource,
    client: Client,
    url: String,
    _folder: TempDir,
}

impl World {
    pub(super) async fn start() -> Option<Self> {
        let assets = started(assets("elasticmq").map_err(Into::into))?;
        let folder = tempfile::tempdir().unwrap();
        let server = ElasticMq::start(&assets, folder.path(), &[QUEUE]).await.unwrap();
        let behind = server.address.strip_prefix("http://").unwrap().parse().unwrap();
        let proxy = Proxy::start(behind).await.unwrap();
        let cloud = Cloud::start(&server.address).await.unwrap();
        cloud.faults(|faults| faults.denied = true);
        let account = Account::with(sdk(&format!("http://{}", proxy.address())).await).unwrap();
        let source = SignalSource::AwsSqsQueue(SqsSignal {
            queue_url: server.queue(QUEUE),
            scale_on_in_flight: true,
            scale_on_delayed: false,
            place: AwsPlace::default(),
        });
        let client = Client::new(&sdk(&server.address).await);
        let url = server.queue(QUEUE);
        Some(Self { server, behind, proxy, cloud, account, source, client, url, _folder: folder })
    }
}

impl super::World for World {
    fn name(&self) -> &'static str {
        "awsSqsQueue"
    }

    fn source(&self, clock: Clock, timeout: Duration) -> Arc<dyn Source> {
        described(&self.source, &self.account, clock, timeout)
    }

    fn server(&mut self) -> &mut Server {
        &mut self.server.server
    }

    fn network(&self) -> &Proxy {
        &self.proxy
    }

    async fn start_again(&mut self) {
        self.server.restart().await.unwrap();
    }

    async fn load(&mut self, messages: usize) {
        self.client.purge_queue().queue_url(&self.url).send().await.unwrap();
        let entry = |index: usize| {
            let entry = SendMessageBatchRequestEntry::builder().id(index.to_string());
            entry.message_body("a request").build().unwrap()
        };
        for first in (0..messages).step_by(BATCH) {
            let entries = (first..messages.min(first + BATCH)).map(entry).collect();
            let batch = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries));
            assert!(batch.send().await.unwrap().failed().is_empty());
        }
    }

    async fn refuse(&mut self) {
        self.proxy.lead_to(self.cloud.address());
    }

    async fn accept(&mut self) {
        self.proxy.lead_to(self.behind);
    }

    async fn remove(&mut self) {
        self.client.delete_queue().queue_url(&self.url).send().await.unwrap();
    }

    async fn put_back(&mut self) {
        self.client.create_queue().queue_name(QUEUE).send().await.unwrap();
    }

    fn text(&self, fault: Fault) -> &'static str {
        if fault == Fault::Refused { "not allowed any more" } else { fault.text() }
    }

    fn words(&self) -> Words {
        Words {
            unreachable: "sqs:GetQueueAttributes has no answer",
            refused: "sqs:GetQueueAttributes is refused: AccessDenied",
            absent: "sqs:GetQueueAttributes is refused: QueueDoesNotExist",
        }
    }
}
