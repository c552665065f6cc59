//! Signals from AWS: what waits in a queue, and any metric of CloudWatch.

mod cloudwatch;
mod sqs;

use std::{sync::Arc, time::Duration};

use forewarm_control::{
    Clock,
    ports::{FleetReplica, SignalSource},
};
use forewarm_core::{Missing, Reading, Signal};
use forewarm_manifest::signal;
use forewarm_signals::OtherSources;
use futures_util::future::{BoxFuture, FutureExt};

use crate::{
    Account,
    accounts::{Accounts, Place},
};

/// Makes the sources of AWS' kinds of signals, which share accounts.
#[derive(Debug, Default)]
pub struct AwsSources(Accounts);

impl AwsSources {
    /// Sources that ask this account where they name neither region nor role.
    pub fn with(account: Account) -> Self {
        Self(Accounts::with(account))
    }
}

impl OtherSources for AwsSources {
    fn source(
        &self,
        described: &signal::SignalSource,
        timeout: Duration,
        clock: Clock,
    ) -> Option<Arc<dyn SignalSource>> {
        let (place, asked) = match described {
            signal::SignalSource::AwsSqsQueue(queue) => (&queue.place, Asked::Queue(queue.clone())),
            signal::SignalSource::AwsCloudWatch(metric) => (&metric.place, Asked::Metric(metric.clone())),
            signal::SignalSource::Engine { .. }
            | signal::SignalSource::Prometheus(_)
            | signal::SignalSource::Kafka(_)
            | signal::SignalSource::RabbitMq(_)
            | signal::SignalSource::MetricsApi(_) => return None,
        };
        let place = (place.aws_region.clone(), place.aws_role_arn.clone());
        Some(Arc::new(AwsSource { accounts: self.0.clone(), place, asked, timeout, speed: clock.speed() }))
    }
}

/// What is asked.
#[derive(Debug)]
enum Asked {
    Queue(signal::SqsSignal),
    Metric(signal::CloudWatchSignal),
}

/// One signal of AWS. A call is made once: who polls tries again, and wants to know why.
#[derive(Debug)]
struct AwsSource {
    accounts: Accounts,
    place: Place,
    asked: Asked,
    timeout: Duration,
    speed: f64,
}

impl AwsSource {
    async fn ask(&self) -> Result<Signal, Missing> {
        let account = self.accounts.account(&self.place).await;
        let account = account.map_err(|error| Missing::Failed(error.to_string()))?;
        let (total, age) = match &self.asked {
            Asked::Queue(queue) => (sqs::depth(&account.sqs, queue).await?, Duration::ZERO),
            Asked::Metric(metric) => cloudwatch::newest(&account.cloudwatch, metric).await?,
        };
        let reading = Reading::Value { total, per_replica: [].into() };
        Ok(Signal { reading, age: age.mul_f64(self.speed) })
    }
}

impl SignalSource for AwsSource {
    fn read<'a>(&'a self, _replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move {
            match tokio::time::timeout(self.timeout, self.ask()).await {
                Ok(answer) => answer.unwrap_or_else(Signal::missing),
                Err(_) => {
                    let why = format!("no answer from AWS within {} s", self.timeout.as_secs_f64());
                    Signal::missing(Missing::Failed(why))
                }
            }
        }
        .boxed()
    }
}
