//! From what a manifest says to what can be read. Who asks the same server shares its connections, and who asks
//! the same question shares its answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use forewarm_control::{
    Clock,
    ports::{FleetReplica, SignalSource},
};
use forewarm_core::{Missing, Reading, Signal};
use forewarm_manifest::signal::{self, Credential};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use crate::{
    http::Clients,
    kafka::{Clusters, KafkaSource},
    metrics_api::MetricsApiSource,
    prometheus::PrometheusSource,
    rabbitmq::{Connections, RabbitMqSource},
};

/// A failure is not passed on for longer than this: whoever tries again wants to know.
const FAILURE_COUNTS: Duration = Duration::from_millis(50);

/// Everything that can be read from outside, other than the engines.
pub struct Sources {
    clock: Clock,
    others: Vec<Box<dyn OtherSources>>,
    clients: Clients,
    clusters: Clusters,
    connections: Connections,
    shared: Mutex<BTreeMap<signal::SignalSource, Weak<Shared>>>,
}

/// Kinds of sources that another crate reads.
pub trait OtherSources: Send + Sync {
    /// The source, each reading of which may take `timeout` on the wall; `None` for kinds that are not its own.
    fn source(
        &self,
        described: &signal::SignalSource,
        timeout: Duration,
        clock: Clock,
    ) -> Option<Arc<dyn SignalSource>>;
}

/// A source that cannot be read as it is described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(String);

impl SourceError {
    /// In these words.
    pub fn new(why: &dyn std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl Sources {
    /// No source yet. One of these serves a whole process.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            others: Vec::new(),
            clients: Clients::default(),
            clusters: Clusters::default(),
            connections: Connections::default(),
            shared: Mutex::default(),
        }
    }

    /// The same, and kinds that another crate reads.
    #[must_use]
    pub fn with(mut self, others: impl OtherSources + 'static) -> Self {
        self.others.push(Box::new(others));
        self
    }

    /// The source of a signal, each reading of which may take `timeout` on the wall; `None` for the engines' own,
    /// which are asked together. An answer that is younger than `fresh` (modelled) is not asked for again.
    ///
    /// # Errors
    /// When an address, a file or a variable of the environment is not what the source needs.
    pub fn source(
        &self,
        described: &signal::SignalSource,
        timeout: Duration,
        fresh: Duration,
    ) -> Result<Option<Arc<dyn SignalSource>>, SourceError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = shared.get(described).and_then(Weak::upgrade) {
            return Ok(Some(source));
        }
        let (clients, clock) = (&self.clients, self.clock);
        let other = self.others.iter().find_map(|others| others.source(described, timeout, clock));
        let source: Arc<dyn SignalSource> = match other {
            Some(source) => source,
            None => match described.clone() {
                signal::SignalSource::Engine { .. } => return Ok(None),
                signal::SignalSource::Prometheus(query) => {
                    let source = PrometheusSource::with(clients, query, timeout, clock);
                    Arc::new(source.map_err(|error| SourceError(error.to_string()))?)
                }
                signal::SignalSource::Kafka(lag) => {
                    Arc::new(KafkaSource::new(&self.clusters, lag, timeout).map_err(SourceError)?)
                }
                signal::SignalSource::RabbitMq(queue) => Arc::new(
                    RabbitMqSource::new(clients, &self.connections, queue, timeout).map_err(SourceError)?,
                ),
                signal::SignalSource::MetricsApi(api) => {
                    Arc::new(MetricsApiSource::new(clients, api, timeout).map_err(SourceError)?)
                }
                signal::SignalSource::AwsSqsQueue(_) | signal::SignalSource::AwsCloudWatch(_) => {
                    let why = "signals of AWS are read by `forewarm run`, `forewarm kube controller` and `forewarm signal test` only";
                    return Err(SourceError(why.to_owned()));
                }
            },
        };
        let source =
            Arc::new(Shared { source, clock, fresh: clock.wall(fresh), last: AsyncMutex::default() });
        shared.retain(|_, source| source.strong_count() > 0);
        shared.insert(described.clone(), Arc::downgrade(&source));
        Ok(Some(source))
    }
}

/// One answer for all who ask the same at about the same time.
struct Shared {
    source: Arc<dyn SignalSource>,
    clock: Clock,
    fresh: Duration,
    last: AsyncMutex<Option<(Instant, Signal)>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl SignalSource for Shared {
    fn read<'a>(&'a self, replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move {
            let mut last = self.last.lock().await;
            if let Some((at, signal)) = &*last {
                let is_failure = matches!(signal.reading, Reading::Missing(Missing::Failed(_)));
                let counts = if is_failure { FAILURE_COUNTS.min(self.fresh) } else { self.fresh };
                if at.elapsed() < counts {
                    let age = signal.age + at.elapsed().mul_f64(self.clock.speed());
                    return Signal { reading: signal.reading.clone(), age };
                }
            }
            let signal = self.source.read(replicas).await;
            *last = Some((Instant::now(), signal.clone()));
            signal
        }
        .boxed()
    }
}

/// What is asked, and of whom, in a line without secrets.
pub fn describe(source: &signal::SignalSource) -> String {
    match source {
        signal::SignalSource::Engine { metric } => format!("`{metric}` of the engines' own metrics"),
        signal::SignalSource::Prometheus(query) => {
            format!("the query `{}` of Prometheus at {}", query.query, query.server_address)
        }
        signal::SignalSource::Kafka(lag) => {
            let topic =
                lag.topic.as_ref().map_or("all its topics".to_owned(), |topic| format!("topic `{topic}`"));
            let servers = lag.bootstrap_servers.join(", ");
            let threshold = lag.lag_threshold;
            let most = match (lag.limit_to_partitions_with_lag, lag.allow_idle_consumers) {
                (true, _) => format!(", at most {threshold} for each partition that is behind"),
                (false, false) => format!(", at most {threshold} for each partition"),
                (false, true) => String::new(),
            };
            let group = &lag.consumer_group;
            format!("the lag of consumer group `{group}` in {topic} of Kafka at {servers}{most}")
        }
        signal::SignalSource::RabbitMq(queue) => {
            // AMQP tells of no others.
            let is_ready = queue.exclude_unacknowledged || queue.speaks_amqp(None);
            let what = match (queue.mode, is_ready) {
                (signal::RabbitMqMode::MessageRate, _) => "messages published a second in",
                (signal::RabbitMqMode::QueueLength, true) => "messages ready in",
                (signal::RabbitMqMode::QueueLength, false) => "messages in",
            };
            let host = match &queue.host {
                Credential::Plain(host) => host.clone(),
                Credential::Env { from_env } => format!("the address in ${from_env}"),
                Credential::File { from_file } => format!("the address in {}", from_file.display()),
            };
            // Without the setting, the address may name one.
            let vhost = queue.vhost_name.as_ref().map(|vhost| format!("vhost `{vhost}` of "));
            let vhost = vhost.unwrap_or_default();
            format!("{what} queue `{}` of {vhost}RabbitMQ at {host}", queue.queue_name)
        }
        signal::SignalSource::MetricsApi(api) => {
            format!("`{}` in the JSON at {}", api.value_location, api.url)
        }
        signal::SignalSource::AwsSqsQueue(queue) => {
            let in_flight = if queue.scale_on_in_flight { " and in flight" } else { "" };
            let delayed = if queue.scale_on_delayed { " and delayed" } else { "" };
            format!("messages visible{in_flight}{delayed} in the queue of SQS at {}", queue.queue_url)
        }
        signal::SignalSource::AwsCloudWatch(metric) => match &metric.query {
            signal::CloudWatchQuery::Expression { expression } => format!("`{expression}` of CloudWatch"),
            signal::CloudWatchQuery::Metric { namespace, metric_name, metric_stat, .. } => {
                format!("{metric_stat} of `{metric_name}` in `{namespace}` of CloudWatch")
            }
        },
    }
}
