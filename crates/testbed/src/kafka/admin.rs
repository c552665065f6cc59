//! What a test does to a broker: topics, messages, commits.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
        FindCoordinatorRequest, GroupId, MetadataRequest, OffsetCommitRequest, ProduceRequest, RequestHeader,
        ResponseHeader, TopicName,
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::CreatableTopic,
        delete_topics_request::DeleteTopicState,
        metadata_request::MetadataRequestTopic,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::{Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer},
    records::{
        Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Record,
        RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::TestbedError;

/// How long the broker may take for a request.
const TIMEOUT_MS: i32 = 10_000;

/// The broker has not heard yet that it leads the partition.
const NOT_LEADER: i16 = 6;
/// It has not read yet what groups committed before it started, or does not know yet that this is its part.
const STARTS: [i16; 3] = [14, 15, 16];

/// One connection to the broker.
pub struct Admin {
    stream: TcpStream,
}

impl Admin {
    pub(super) async fn connect(at: SocketAddr) -> Result<Self, TestbedError> {
        Ok(Self { stream: TcpStream::connect(at).await? })
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When the broker refuses, or there is one.
    pub async fn create_topic(&mut self, topic: &str, partitions: i32) -> Result<(), TestbedError> {
        let created = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![created]).with_timeout_ms(TIMEOUT_MS);
        let answer = self.call(ApiKey::CreateTopics, 5, &request).await?;
        answer.topics.iter().try_for_each(|topic| check("create the topic", topic.error_code))?;
        self.until_led(topic, partitions).await
    }

    /// Gives a topic more partitions.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn grow_topic(&mut self, topic: &str, partitions: i32) -> Result<(), TestbedError> {
        let grown = CreatePartitionsTopic::default()
            .with_name(name(topic))
            .with_count(partitions)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![grown]).with_timeout_ms(TIMEOUT_MS);
        let answer = self.call(ApiKey::CreatePartitions, 2, &request).await?;
        answer.results.iter().try_for_each(|topic| check("add partitions", topic.error_code))?;
        self.until_led(topic, partitions).await
    }

    /// Waits until every partition can be written to: a new one is not at once.
    async fn until_led(&mut self, topic: &str, partitions: i32) -> Result<(), TestbedError> {
        let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        loop {
            let answer = self.call(ApiKey::Metadata, 9, &request).await?;
            let led = answer.topics.iter().flat_map(|topic| &topic.partitions);
            if led.filter(|partition| partition.leader_id >= BrokerId(0)).count() as i32 >= partitions {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn delete_topic(&mut self, topic: &str) -> Result<(), TestbedError> {
        let topic = DeleteTopicState::default().with_name(Some(name(topic)));
        let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
        let answer = self.call(ApiKey::DeleteTopics, 6, &request).await?;
        answer.responses.iter().try_for_each(|topic| check("delete the topic", topic.error_code))
    }

    /// Writes messages to one partition.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn produce(&mut self, topic: &str, partition: i32, count: usize) -> Result<(), TestbedError> {
        self.write(topic, partition, vec![Bytes::from_static(b"a request"); count]).await
    }

    /// Writes these messages to one partition.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn write(
        &mut self,
        topic: &str,
        partition: i32,
        messages: Vec<Bytes>,
    ) -> Result<(), TestbedError> {
        // What is older than a week is deleted at the broker's first look.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or_default();
        let records = messages.into_iter().enumerate().map(|message| record(message, now));
        let records: Vec<Record> = records.collect();
        let mut batch = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut batch, &records, &options).map_err(wire)?;
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.freeze()));
        let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
        let request =
            ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS).with_topic_data(vec![topic]);
        loop {
            let answer = self.call(ApiKey::Produce, 9, &request).await?;
            let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
            let code = partitions.map(|partition| partition.error_code).find(|code| *code != 0);
            match code {
                None => return Ok(()),
                Some(NOT_LEADER) => tokio::time::sleep(Duration::from_millis(20)).await,
                Some(code) => return check("write", code),
            }
        }
    }

    /// Commits an offset for a group without members.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn commit(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), TestbedError> {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset);
        let topic =
            OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        loop {
            let answer = self.call(ApiKey::OffsetCommit, 8, &request).await?;
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            match partitions.map(|partition| partition.error_code).find(|code| *code != 0) {
                None => return Ok(()),
                Some(code) if STARTS.contains(&code) => tokio::time::sleep(Duration::from_millis(20)).await,
                Some(code) => return check("commit", code),
            }
        }
    }

    /// Whether groups can be asked for: the topic of their offsets is made when first needed.
    pub(super) async fn coordinator_is_known(&mut self) -> Result<(), TestbedError> {
        let request = FindCoordinatorRequest::default()
            .with_coordinator_keys(vec![StrBytes::from_static_str("nobody")]);
        let answer = self.call(ApiKey::FindCoordinator, 4, &request).await?;
        let known = answer.coordinators.iter().all(|found| found.node_id != BrokerId(-1));
        if known { Ok(()) } else { Err(TestbedError::Answer("no coordinator yet".to_owned())) }
    }

    pub(super) async fn call<R: Request>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &R,
    ) -> Result<R::Response, TestbedError> {
        let header =
            RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(version);
        let mut body = BytesMut::new();
        encode_request_header_into_buffer(&mut body, &header).map_err(wire)?;
        request.encode(&mut body, version).map_err(wire)?;
        let mut frame = BytesMut::new();
        frame.put_u32(u32::try_from(body.len()).map_err(wire)?);
        frame.extend_from_slice(&body);
        self.stream.write_all(&frame).await?;
        let length = self.stream.read_u32().await?;
        let mut answer = vec![0; length as usize];
        self.stream.read_exact(&mut answer).await?;
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).map_err(wire)?;
        R::Response::decode(&mut answer, version).map_err(wire)
    }
}

pub(super) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

pub(super) fn check(what: &str, code: i16) -> Result<(), TestbedError> {
    if code == 0 { Ok(()) } else { Err(TestbedError::Answer(format!("cannot {what}: Kafka error {code}"))) }
}

pub(super) fn wire(error: impl std::fmt::Display) -> TestbedError {
    TestbedError::Answer(format!("not Kafka's protocol: {error}"))
}

fn record((number, message): (usize, Bytes), timestamp: i64) -> Record {
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: number as i64,
        sequence: number as i32,
        timestamp,
        key: None,
        value: Some(message),
        headers: Default::default(),
    }
}
