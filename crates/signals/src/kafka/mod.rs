//! How far a consumer group is behind, asked of the brokers over Kafka's own protocol.
//!
//! Each reading asks anew which partitions there are and who leads them: partitions come and go. What each version
//! of the protocol has is negotiated with each broker.

mod cluster;
mod connection;
mod lag;
mod sasl;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forewarm_control::ports::{FleetReplica, SignalSource};
use forewarm_core::{Missing, Signal};
use forewarm_manifest::signal::{KafkaSignal, OffsetReset, Sasl, Tls};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use rustls::ClientConfig;

pub(crate) use self::cluster::Cluster;
use self::lag::{Group, Id, Offsets, Partition};
use crate::tls::{client_config, explained};

/// `ListOffsets`: the offset that the next message gets.
const NEXT: i64 = -1;
/// `ListOffsets`: that of the first message that is still there.
const FIRST: i64 = -2;

/// Who asks, and over what.
pub(crate) struct Security {
    tls: Option<(Arc<ClientConfig>, Tls)>,
    sasl: Option<Sasl>,
}

/// The clusters of all sources: those that ask the same brokers in the same way share connections.
#[derive(Debug, Default)]
pub(crate) struct Clusters(Mutex<BTreeMap<Who, Arc<Cluster>>>);

type Who = (Vec<String>, Option<Sasl>, Option<Tls>);

impl Clusters {
    fn cluster(&self, signal: &KafkaSignal) -> Result<Arc<Cluster>, String> {
        let mut bootstrap = signal.bootstrap_servers.clone();
        bootstrap.sort();
        let who = (bootstrap, signal.sasl.clone(), signal.tls.clone());
        let mut clusters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = clusters.get(&who) {
            return Ok(Arc::clone(cluster));
        }
        let config = |tls: &Tls| client_config(tls).map(|config| (Arc::new(config), tls.clone()));
        let tls = signal.tls.as_ref().map(config).transpose()?;
        let security = Security { tls, sasl: signal.sasl.clone() };
        let cluster = Arc::new(Cluster::new(signal.bootstrap_servers.clone(), security));
        clusters.insert(who, Arc::clone(&cluster));
        Ok(cluster)
    }
}

/// Asks how far one group is behind.
#[derive(Debug)]
pub(crate) struct KafkaSource {
    cluster: Arc<Cluster>,
    signal: KafkaSignal,
    timeout: Duration,
    stuck: Mutex<BTreeMap<Id, i64>>,
}

impl KafkaSource {
    pub(crate) fn new(clusters: &Clusters, signal: KafkaSignal, timeout: Duration) -> Result<Self, String> {
        Ok(Self { cluster: clusters.cluster(&signal)?, signal, timeout, stuck: Mutex::default() })
    }

    async fn ask(&self) -> Result<Signal, String> {
        let (cluster, signal) = (&self.cluster, &self.signal);
        let group = &signal.consumer_group;
        let (leaders, committed) = match &signal.topic {
            Some(topic) => {
                let leaders = cluster.leaders(std::slice::from_ref(topic)).await?;
                let asked = by_topic(leaders.keys());
                let committed = cluster.committed(group, Some(&asked)).await?;
                (leaders, committed)
            }
            None => {
                // Who the brokers are is learned on the way to nothing.
                cluster.leaders(&[]).await?;
                let committed = cluster.committed(group, None).await?;
                let topics: Vec<String> = by_topic(committed.keys()).into_keys().collect();
                (cluster.leaders(&topics).await?, committed)
            }
        };
        let leaders: BTreeMap<_, _> =
            leaders.into_iter().filter(|((_, index), _)| self.counts(*index)).collect();
        let mut state = Group::Known;
        if leaders.keys().all(|id| committed.get(id).copied().flatten().is_none())
            && !cluster.knows(group).await?
        {
            state = Group::Unknown;
        }
        let mut partitions: Vec<Partition> = leaders
            .keys()
            .map(|id| Partition {
                id: id.clone(),
                committed: committed.get(id).copied().flatten(),
                offsets: Err("it was not asked for".to_owned()),
            })
            .collect();
        self.offsets(&leaders, &mut partitions).await;
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(lag::total(signal, &partitions, state, &mut stuck))
    }

    fn counts(&self, index: i32) -> bool {
        let ranges = &self.signal.partition_limitation;
        ranges.is_empty() || ranges.iter().any(|range| (range.first..=range.last).contains(&index))
    }

    /// Asks each leader for the offsets of its partitions, all at once.
    async fn offsets(&self, leaders: &BTreeMap<Id, Result<i32, String>>, partitions: &mut [Partition]) {
        let mut by_leader: BTreeMap<i32, Vec<&Id>> = BTreeMap::new();
        for (id, leader) in leaders {
            if let Ok(leader) = leader {
                by_leader.entry(*leader).or_default().push(id);
            }
        }
        let counts_from_first = self.signal.offset_reset_policy == Some(OffsetReset::Earliest);
        let without_commit: BTreeMap<&Id, bool> =
            partitions.iter().map(|partition| (&partition.id, partition.committed.is_none())).collect();
        let answers = join_all(by_leader.iter().map(|(leader, ids)| {
            let without_commit = &without_commit;
            async move {
                let next = self.cluster.offsets(*leader, &by_topic(ids.iter().copied()), NEXT).await;
                let uncommitted: Vec<&Id> = ids.iter().copied().filter(|id| without_commit[id]).collect();
                let first = if counts_from_first && !uncommitted.is_empty() {
                    self.cluster.offsets(*leader, &by_topic(uncommitted), FIRST).await
                } else {
                    Ok(BTreeMap::new())
                };
                (ids.clone(), next, first)
            }
        }))
        .await;
        let mut found: BTreeMap<Id, Result<Offsets, String>> = BTreeMap::new();
        for (ids, next, first) in answers {
            for id in ids {
                let of = |answer: &Result<BTreeMap<Id, Result<i64, String>>, String>| match answer {
                    Ok(offsets) => offsets.get(id).cloned().transpose(),
                    Err(error) => Err(error.clone()),
                };
                let offsets = of(&next).and_then(|next| {
                    let next = next.ok_or_else(|| "the broker left it out".to_owned())?;
                    Ok(Offsets { first: of(&first)?.unwrap_or(0), next })
                });
                found.insert(id.clone(), offsets);
            }
        }
        drop(without_commit);
        for partition in partitions {
            if let Some(offsets) = found.remove(&partition.id) {
                partition.offsets = offsets;
            } else if let Some(Err(error)) = leaders.get(&partition.id) {
                partition.offsets = Err(error.clone());
            }
        }
    }
}

fn by_topic<'a>(ids: impl IntoIterator<Item = &'a Id>) -> BTreeMap<String, Vec<i32>> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, index) in ids {
        topics.entry(topic.clone()).or_default().push(*index);
    }
    topics
}

impl SignalSource for KafkaSource {
    fn read<'a>(&'a self, _replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move {
            match tokio::time::timeout(self.timeout, self.ask()).await {
                Ok(Ok(signal)) => signal,
                Ok(Err(error)) => {
                    let tls = self.signal.tls.as_ref();
                    let why = tls.map_or(error.clone(), |tls| explained(error, tls));
                    Signal::missing(Missing::Failed(why))
                }
                Err(_) => Signal::missing(Missing::Failed(format!(
                    "no answer from Kafka within {} s",
                    self.timeout.as_secs_f64()
                ))),
            }
        }
        .boxed()
    }
}
