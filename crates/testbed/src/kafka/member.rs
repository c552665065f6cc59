//! A member of a consumer group that takes one message at a time, and commits each.
//!
//! It speaks the group protocol of Kafka 4 (KIP-848), in which the broker says who has which partitions. A partition that
//! goes to another is given up between two messages, so that nobody else has it while one of its messages is worked on.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        ApiKey, BrokerId, ConsumerGroupHeartbeatRequest, FetchRequest, GroupId, OffsetCommitRequest,
        OffsetFetchRequest, TopicName,
        consumer_group_heartbeat_request::TopicPartitions,
        consumer_group_heartbeat_response::Assignment,
        fetch_request::{FetchPartition, FetchTopic},
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
    },
    protocol::StrBytes,
    records::RecordBatchDecoder,
};

use super::{
    Admin,
    admin::{check, name, wire},
};
use crate::TestbedError;

/// A member that joins, and one that leaves.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;
/// How long the broker waits for a partition to be given up.
const REBALANCE_TIMEOUT_MS: i32 = 120_000;
/// How long the broker waits for a message.
const WAIT: Duration = Duration::from_millis(300);
const PARTITION_BYTES: i32 = 1 << 16;
/// The broker has forgotten the member, or knows it in another epoch.
const UNKNOWN_MEMBER: i16 = 25;
const FENCED_EPOCH: i16 = 110;

/// A message of a partition.
#[derive(Clone, Debug)]
pub struct Message {
    /// What was written.
    pub value: Bytes,
    partition: i32,
    offset: i64,
}

/// A member of a group. Its connection may break; who it is stays.
pub struct Member {
    at: SocketAddr,
    group: GroupId,
    topic: TopicName,
    id: StrBytes,
    epoch: i32,
    connection: Option<Admin>,
    /// What the broker gives it, where that is not what it has.
    assigned: Option<Assignment>,
    /// The topic as the broker names it, and the next offset of each partition that it has.
    owned: Option<TopicPartitions>,
    next: BTreeMap<i32, i64>,
}

impl Member {
    /// Someone who has not joined yet.
    pub fn new(at: SocketAddr, group: &str, topic: &str, id: &str) -> Self {
        Self {
            at,
            group: GroupId(StrBytes::from_string(group.to_owned())),
            topic: name(topic),
            id: StrBytes::from_string(id.to_owned()),
            epoch: JOINS,
            connection: None,
            assigned: None,
            owned: None,
            next: BTreeMap::new(),
        }
    }

    /// The next message, if one comes soon.
    ///
    /// # Errors
    /// When the broker is gone or refuses. The connection is made anew at the next call.
    pub async fn next(&mut self) -> Result<Option<Message>, TestbedError> {
        let taken = self.try_next().await;
        self.unless_failed(taken)
    }

    /// Whether the broker still counts on this member; it also tells the broker that it is there.
    ///
    /// # Errors
    /// When the broker is gone, or has given its partitions to others.
    pub async fn is_member(&mut self) -> Result<bool, TestbedError> {
        let known = self.heartbeat(self.epoch).await;
        self.unless_failed(known)
    }

    /// Says that a message is done.
    ///
    /// # Errors
    /// When the broker is gone or refuses: somebody will get the message again.
    pub async fn commit(&mut self, message: &Message) -> Result<(), TestbedError> {
        let committed = self.try_commit(message).await;
        self.unless_failed(committed)
    }

    /// Gives its partitions to others.
    ///
    /// # Errors
    /// When the broker is gone.
    pub async fn leave(mut self) -> Result<(), TestbedError> {
        self.heartbeat(LEAVES).await.map(drop)
    }

    /// What has failed half way must not be gone on with.
    fn unless_failed<T>(&mut self, result: Result<T, TestbedError>) -> Result<T, TestbedError> {
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    async fn connection(&mut self) -> Result<&mut Admin, TestbedError> {
        let open = match self.connection.take() {
            Some(open) => open,
            None => Admin::connect(self.at).await?,
        };
        Ok(self.connection.insert(open))
    }

    async fn try_next(&mut self) -> Result<Option<Message>, TestbedError> {
        if !self.heartbeat(self.epoch).await? {
            return Ok(None);
        }
        if let Some(assigned) = self.assigned.take() {
            self.adopt(assigned).await?;
        }
        self.fetch().await
    }

    /// Whether the broker knows this member; who it does not know joins anew.
    async fn heartbeat(&mut self, epoch: i32) -> Result<bool, TestbedError> {
        let joins = epoch == JOINS;
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_member_id(self.id.clone())
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(if joins { REBALANCE_TIMEOUT_MS } else { -1 })
            .with_subscribed_topic_names(joins.then(|| vec![self.topic.clone()]))
            .with_topic_partitions(Some(self.owned.clone().into_iter().collect()));
        let answer = self.connection().await?.call(ApiKey::ConsumerGroupHeartbeat, 1, &request).await?;
        if matches!(answer.error_code, UNKNOWN_MEMBER | FENCED_EPOCH) {
            (self.epoch, self.assigned, self.owned) = (JOINS, None, None);
            self.next.clear();
            return Ok(false);
        }
        check("be a member", answer.error_code)?;
        self.epoch = answer.member_epoch;
        if answer.assignment.is_some() {
            self.assigned = answer.assignment;
        }
        Ok(true)
    }

    /// Gives up what others get, and begins where others have committed.
    async fn adopt(&mut self, assigned: Assignment) -> Result<(), TestbedError> {
        let topic = assigned.topic_partitions.into_iter().next();
        let partitions = topic.as_ref().map_or_else(Vec::new, |topic| topic.partitions.clone());
        self.owned = topic.map(|topic| {
            TopicPartitions::default().with_topic_id(topic.topic_id).with_partitions(topic.partitions)
        });
        self.next.retain(|partition, _| partitions.contains(partition));
        let new: Vec<i32> =
            partitions.into_iter().filter(|partition| !self.next.contains_key(partition)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let topic =
            OffsetFetchRequestTopics::default().with_name(self.topic.clone()).with_partition_indexes(new);
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(self.group.clone())
            .with_member_id(Some(self.id.clone()))
            .with_member_epoch(self.epoch)
            .with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        let answer = self.connection().await?.call(ApiKey::OffsetFetch, 9, &request).await?;
        for group in answer.groups {
            check("read what was committed", group.error_code)?;
            for partition in group.topics.into_iter().flat_map(|topic| topic.partitions) {
                check("read what was committed", partition.error_code)?;
                self.next.insert(partition.partition_index, partition.committed_offset.max(0));
            }
        }
        Ok(())
    }

    async fn fetch(&mut self) -> Result<Option<Message>, TestbedError> {
        if self.next.is_empty() {
            tokio::time::sleep(WAIT).await;
            return Ok(None);
        }
        let partitions = self.next.iter().map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(PARTITION_BYTES)
        });
        let topic =
            FetchTopic::default().with_topic(self.topic.clone()).with_partitions(partitions.collect());
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(WAIT.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(i32::MAX)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.connection().await?.call(ApiKey::Fetch, 12, &request).await?;
        check("fetch", answer.error_code)?;
        for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            check("fetch", partition.error_code)?;
            let next = self.next.get(&partition.partition_index).copied().unwrap_or_default();
            let mut records = partition.records.unwrap_or_default();
            for set in RecordBatchDecoder::decode_all(&mut records).map_err(wire)? {
                // A batch comes whole, also when its first messages are done.
                if let Some(record) = set.records.into_iter().find(|record| record.offset >= next) {
                    let value = record.value.unwrap_or_default();
                    let partition = partition.partition_index;
                    return Ok(Some(Message { value, partition, offset: record.offset }));
                }
            }
        }
        Ok(None)
    }

    async fn try_commit(&mut self, message: &Message) -> Result<(), TestbedError> {
        let next = message.offset + 1;
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(message.partition)
            .with_committed_offset(next);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(self.topic.clone())
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group.clone())
            .with_member_id(self.id.clone())
            .with_generation_id_or_member_epoch(self.epoch)
            .with_topics(vec![topic]);
        let answer = self.connection().await?.call(ApiKey::OffsetCommit, 9, &request).await?;
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.into_iter().try_for_each(|partition| check("commit", partition.error_code))?;
        self.next.insert(message.partition, next);
        Ok(())
    }
}
