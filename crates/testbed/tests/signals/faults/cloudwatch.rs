//! CloudWatch, as moto speaks it, and somebody who publishes what waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use forewarm_aws::Account;
use forewarm_control::{Clock, ports::SignalSource as Source};
use forewarm_manifest::{
    SignalSource,
    signal::{AwsPlace, CloudWatchQuery, CloudWatchSignal},
};
use forewarm_testbed::{Cloud, Moto, Proxy, Server, assets};
use tempfile::TempDir;
use tokio::task::AbortHandle;

use super::{
    Fault, Words,
    account::{described, sdk},
};
use crate::started;

const NAMESPACE: &str = "Custom/LLMMetrics";
const METRIC: &str = "LLMQueueDepth";
/// How often what waits is published.
const EVERY: Duration = Duration::from_millis(300);
/// Nothing is published.
const NOBODY: usize = usize::MAX;

pub(super) struct World {
    server: Moto,
    cloud: Arc<Cloud>,
    proxy: Proxy,
    account: Account,
    source: SignalSource,
    waiting: Arc<AtomicUsize>,
    publisher: AbortHandle,
    _folder: TempDir,
}

impl World {
    pub(super) async fn start() -> Option<Self> {
        let assets = started(assets("moto").map_err(Into::into))?;
        let folder = tempfile::tempdir().unwrap();
        let server = Moto::start(&assets, folder.path()).await.unwrap();
        let cloud = Arc::new(Cloud::start(&server.address).await.unwrap());
        let proxy = Proxy::start(cloud.address()).await.unwrap();
        let account = Account::with(sdk(&format!("http://{}", proxy.address())).await).unwrap();
        let source = SignalSource::AwsCloudWatch(CloudWatchSignal {
            query: CloudWatchQuery::Metric {
                namespace: NAMESPACE.into(),
                metric_name: METRIC.into(),
                dimension_name: String::new(),
                dimension_value: String::new(),
                metric_stat: "Average".into(),
            },
            period: Duration::from_secs(1),
            collection: Duration::from_secs(5),
            end_offset: Duration::ZERO,
            place: AwsPlace::default(),
        });
        let waiting = Arc::new(AtomicUsize::new(NOBODY));
        let publisher = tokio::spawn(publish(Arc::clone(&cloud), Arc::clone(&waiting))).abort_handle();
        Some(Self { server, cloud, proxy, account, source, waiting, publisher, _folder: folder })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

/// Says again and again how many wait, whether anybody hears it or not.
async fn publish(cloud: Arc<Cloud>, waiting: Arc<AtomicUsize>) {
    loop {
        let value = waiting.load(Ordering::Relaxed);
        if value != NOBODY {
            let value = value.to_string();
            let parameters = [
                ("Namespace", NAMESPACE),
                ("MetricData.member.1.MetricName", METRIC),
                ("MetricData.member.1.Value", &value),
            ];
            let put = cloud.ask("monitoring", "PutMetricData", &parameters);
            // A server that hangs must not keep the next from being published once it is back.
            drop(tokio::time::timeout(Duration::from_secs(1), put).await);
        }
        tokio::time::sleep(EVERY).await;
    }
}

impl super::World for World {
    fn name(&self) -> &'static str {
        "awsCloudwatch"
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
        self.waiting.store(messages, Ordering::Relaxed);
    }

    async fn refuse(&mut self) {
        self.cloud.faults(|faults| faults.denied = true);
    }

    async fn accept(&mut self) {
        self.cloud.faults(|faults| faults.denied = false);
    }

    async fn remove(&mut self) {
        self.waiting.store(NOBODY, Ordering::Relaxed);
    }

    async fn put_back(&mut self) {}

    fn text(&self, fault: Fault) -> &'static str {
        match fault {
            Fault::Refused => "not allowed any more",
            Fault::Absent => "nobody publishes",
            Fault::Killed | Fault::Paused | Fault::Cut | Fault::BlackHole | Fault::Restarted => fault.text(),
        }
    }

    fn words(&self) -> Words {
        Words {
            unreachable: "cloudwatch:GetMetricData has no answer",
            refused: "cloudwatch:GetMetricData is refused: AccessDenied",
            absent: "the source has no such value",
        }
    }
}
