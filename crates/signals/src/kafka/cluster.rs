//! A cluster's brokers: one connection to each, made when it is needed and shared by all who ask.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kafka_protocol::{
    ResponseError,
    error::ParseResponseErrorCode,
    messages::{
        FindCoordinatorRequest, GroupId, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
        MetadataResponse, OffsetFetchRequest, TopicName,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    },
    protocol::{Request, StrBytes},
};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::{Security, connection::Connection, lag::Id};

/// After a failed attempt nobody tries again for so long: a thousand signals must not knock in turn.
const QUIET: Duration = Duration::from_millis(500);

type Slot = Arc<AsyncMutex<State>>;

#[derive(Default)]
enum State {
    #[default]
    New,
    Open(Arc<Connection>),
    Failed(String, Instant),
}

/// What everybody knows of a cluster.
#[derive(Default)]
struct Known {
    slots: BTreeMap<String, Slot>,
    /// The brokers by their own account; empty before anybody was asked.
    brokers: BTreeMap<i32, String>,
    coordinators: BTreeMap<String, String>,
}

/// The partitions of topics and who leads them.
pub(super) type Leaders = BTreeMap<Id, Result<i32, String>>;

/// A cluster as one kind of client sees it.
pub(crate) struct Cluster {
    bootstrap: Vec<String>,
    security: Security,
    known: Mutex<Known>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

impl Cluster {
    pub(super) fn new(bootstrap: Vec<String>, security: Security) -> Self {
        Self { bootstrap, security, known: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connection(&self, address: &str) -> Result<Arc<Connection>, String> {
        let slot = Arc::clone(self.lock().slots.entry(address.to_owned()).or_default());
        let mut state = slot.lock().await;
        match &*state {
            State::Open(connection) if connection.closed().is_none() => return Ok(Arc::clone(connection)),
            State::Failed(why, at) if at.elapsed() < QUIET => return Err(why.clone()),
            State::New | State::Open(_) | State::Failed(..) => {}
        }
        match Connection::open(address, &self.security).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *state = State::Open(Arc::clone(&connection));
                Ok(connection)
            }
            Err(why) => {
                *state = State::Failed(why.clone(), Instant::now());
                Err(why)
            }
        }
    }

    async fn ask<R: Request>(
        &self,
        address: &str,
        request: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, String> {
        let connection = self.connection(address).await?;
        let version = connection.version::<R>()?;
        let answer = connection.send(version, &request(version)).await;
        answer.map_err(|error| format!("{address}: {error}"))
    }

    /// Topics, and who leads their partitions. Any broker will do.
    pub(super) async fn leaders(&self, topics: &[String]) -> Result<Leaders, String> {
        let brokers: Vec<String> = self.lock().brokers.values().cloned().collect();
        let mut first_error = None;
        for address in brokers.iter().chain(&self.bootstrap) {
            let request = |_| {
                let topics =
                    topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic))));
                MetadataRequest::default()
                    .with_topics(Some(topics.collect()))
                    .with_allow_auto_topic_creation(false)
            };
            match self.ask(address, request).await {
                Ok(answer) => {
                    self.learn(&answer);
                    return leaders(&answer);
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| "there is no broker to ask".to_owned()))
    }

    /// Takes the brokers' own addresses from now on, and drops the connections to others.
    fn learn(&self, answer: &MetadataResponse) {
        let address = |host: &StrBytes, port| format!("{}:{port}", host.as_str());
        let brokers: BTreeMap<_, _> = answer
            .brokers
            .iter()
            .map(|broker| (broker.node_id.0, address(&broker.host, broker.port)))
            .collect();
        let mut known = self.lock();
        if known.brokers != brokers {
            known.slots.retain(|address, _| brokers.values().any(|broker| broker == address));
            known.coordinators.clear();
            known.brokers = brokers;
        }
    }

    async fn coordinator(&self, group: &str) -> Result<String, String> {
        if let Some(address) = self.lock().coordinators.get(group) {
            return Ok(address.clone());
        }
        let any = self.lock().brokers.values().next().cloned().ok_or("there is no broker to ask")?;
        let key = StrBytes::from_string(group.to_owned());
        let request = |version| {
            // The newer version asks for several.
            if version >= 4 {
                FindCoordinatorRequest::default().with_coordinator_keys(vec![key])
            } else {
                FindCoordinatorRequest::default().with_key(key)
            }
        };
        let answer = self.ask(&any, request).await?;
        let (code, host, port) = match answer.coordinators.first() {
            Some(found) => (found.error_code, &found.host, found.port),
            None => (answer.error_code, &answer.host, answer.port),
        };
        check(code, &format!("the coordinator of group `{group}`"))?;
        let address = format!("{}:{port}", host.as_str());
        self.lock().coordinators.insert(group.to_owned(), address.clone());
        Ok(address)
    }

    /// What the group committed in these topics, or in any.
    pub(super) async fn committed(
        &self,
        group: &str,
        partitions: Option<&BTreeMap<String, Vec<i32>>>,
    ) -> Result<BTreeMap<Id, Option<i64>>, String> {
        let coordinator = self.coordinator(group).await?;
        let id = GroupId(StrBytes::from_string(group.to_owned()));
        let request = |version| {
            let of_topic = |(topic, partitions): (&String, &Vec<i32>)| (name(topic), partitions.clone());
            if version >= 8 {
                let topics = partitions.map(|topics| {
                    let topics = topics.iter().map(of_topic).map(|(name, partitions)| {
                        OffsetFetchRequestTopics::default().with_name(name).with_partition_indexes(partitions)
                    });
                    topics.collect()
                });
                let group = OffsetFetchRequestGroup::default().with_group_id(id).with_topics(topics);
                OffsetFetchRequest::default().with_groups(vec![group])
            } else {
                let topics = partitions.map(|topics| {
                    let topics = topics.iter().map(of_topic).map(|(name, partitions)| {
                        OffsetFetchRequestTopic::default().with_name(name).with_partition_indexes(partitions)
                    });
                    topics.collect()
                });
                OffsetFetchRequest::default().with_group_id(id).with_topics(topics)
            }
        };
        let answer = self.ask(&coordinator, request).await?;
        let code = answer.groups.first().map_or(answer.error_code, |group| group.error_code);
        if let Err(error) = check(code, &format!("group `{group}`")) {
            // Another broker may have become its coordinator.
            self.lock().coordinators.remove(group);
            return Err(error);
        }
        let mut committed = BTreeMap::new();
        let mut add = |topic: &TopicName, index, offset, code| {
            check(code, &format!("what group `{group}` committed"))?;
            committed.insert((topic.0.to_string(), index), Some(offset).filter(|offset| *offset >= 0));
            Ok::<_, String>(())
        };
        for topic in answer.groups.iter().flat_map(|group| &group.topics) {
            for partition in &topic.partitions {
                add(
                    &topic.name,
                    partition.partition_index,
                    partition.committed_offset,
                    partition.error_code,
                )?;
            }
        }
        for topic in &answer.topics {
            for partition in &topic.partitions {
                add(
                    &topic.name,
                    partition.partition_index,
                    partition.committed_offset,
                    partition.error_code,
                )?;
            }
        }
        Ok(committed)
    }

    /// Whether the group has members, or ever had.
    pub(super) async fn knows(&self, group: &str) -> Result<bool, String> {
        let coordinator = self.coordinator(group).await?;
        let answer = self.ask(&coordinator, |_| ListGroupsRequest::default()).await?;
        check(answer.error_code, "the list of groups")?;
        Ok(answer.groups.iter().any(|listed| listed.group_id.0.as_str() == group))
    }

    /// An offset of each partition that a broker leads: the first with `timestamp` -2, the next with -1.
    pub(super) async fn offsets(
        &self,
        broker: i32,
        partitions: &BTreeMap<String, Vec<i32>>,
        timestamp: i64,
    ) -> Result<BTreeMap<Id, Result<i64, String>>, String> {
        let address = self.lock().brokers.get(&broker).cloned();
        let address = address.ok_or_else(|| format!("broker {broker} is not there"))?;
        let request = |_| {
            let topics = partitions.iter().map(|(topic, partitions)| {
                let partition = |index: &i32| {
                    ListOffsetsPartition::default().with_partition_index(*index).with_timestamp(timestamp)
                };
                let partitions = partitions.iter().map(partition).collect();
                ListOffsetsTopic::default().with_name(name(topic)).with_partitions(partitions)
            });
            ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(topics.collect())
        };
        let answer = self.ask(&address, request).await?;
        let mut offsets = BTreeMap::new();
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let place = format!("partition {index} of topic `{}`", topic.name.0);
                let offset = check(partition.error_code, &place).map(|()| partition.offset);
                offsets.insert((topic.name.0.to_string(), index), offset);
            }
        }
        Ok(offsets)
    }
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn leaders(answer: &MetadataResponse) -> Result<Leaders, String> {
    let mut leaders = BTreeMap::new();
    for topic in &answer.topics {
        let name = topic.name.as_ref().map_or("", |name| name.0.as_str());
        check(topic.error_code, &format!("topic `{name}`"))?;
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let place = format!("partition {index} of topic `{name}`");
            let leader = check(partition.error_code, &place).map(|()| partition.leader_id.0);
            leaders.insert((name.to_owned(), index), leader);
        }
    }
    Ok(leaders)
}

/// Errors that people can do something about.
const KNOWN: &[(ResponseError, &str)] = &[
    (ResponseError::UnknownTopicOrPartition, "the cluster has none"),
    (ResponseError::TopicAuthorizationFailed, "this user may not describe the topic"),
    (ResponseError::GroupAuthorizationFailed, "this user may not describe the group"),
    (ResponseError::ClusterAuthorizationFailed, "this user may not list groups"),
    (ResponseError::LeaderNotAvailable, "it has no leader now"),
    (ResponseError::NotCoordinator, "its coordinator is elsewhere"),
    (ResponseError::CoordinatorNotAvailable, "its coordinator is not there yet"),
];

/// An error of the protocol in words.
fn check(code: i16, what: &str) -> Result<(), String> {
    let Some(error) = code.err() else { return Ok(()) };
    let known = KNOWN.iter().find(|(known, _)| *known == error);
    Err(match known {
        Some((_, why)) => format!("{what}: {why}"),
        None => format!("{what}: {error} ({code})"),
    })
}
