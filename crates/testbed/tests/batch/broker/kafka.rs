//! Kafka: a topic of as many partitions as there are workers at most, and a group that commits each message.

use std::{ops::Range, path::Path};

use forewarm_testbed::{
    TestbedError,
    kafka::{self, Kafka, Member},
};

use super::{Broker, Consumer, Gone, Message, number};
use crate::stage::MOST;

const TOPIC: &str = "work";
const GROUP: &str = "workers";

pub(crate) struct KafkaBroker(Kafka);

impl Broker for KafkaBroker {
    async fn start() -> Result<Self, TestbedError> {
        let kafka = Kafka::start().await?;
        kafka.admin().await?.create_topic(TOPIC, MOST as i32).await?;
        Ok(Self(kafka))
    }

    async fn publish(&mut self, numbers: Range<u32>) {
        let mut admin = self.0.admin().await.unwrap();
        for partition in 0..MOST {
            let own = numbers.clone().filter(|number| number % MOST == partition);
            let messages = own.map(|number| number.to_string().into()).collect();
            admin.write(TOPIC, partition as i32, messages).await.unwrap();
        }
    }

    fn kill(&mut self) {
        self.0.server.kill();
    }

    async fn restart(&mut self) {
        self.0.restart().await.unwrap();
    }

    fn signal(&self, _: &Path) -> String {
        format!(
            "kafka: {{bootstrapServers: '{}', consumerGroup: {GROUP}, topic: {TOPIC}, offsetResetPolicy: earliest}}",
            self.0.direct
        )
    }

    fn address(&self) -> String {
        format!("kafka {}", self.0.direct)
    }
}

/// One worker as a member of the group.
pub(crate) struct KafkaConsumer(Member);

impl KafkaConsumer {
    pub(crate) fn new(address: &str) -> Self {
        let id = format!("worker-{}", std::process::id());
        Self(Member::new(address.parse().unwrap(), GROUP, TOPIC, &id))
    }
}

impl Consumer for KafkaConsumer {
    type Token = kafka::Message;

    /// The broker does not know to whom it has given a message.
    async fn next(&mut self) -> Result<Option<Message<kafka::Message>>, Gone> {
        let found = self.0.next().await?;
        Ok(found.map(|found| Message { number: number(&found.value), redelivered: false, token: found }))
    }

    /// It is this worker's for as long as it is a member, and gives the partition up to nobody.
    async fn keep(&mut self, _: &kafka::Message) -> Result<(), Gone> {
        if self.0.is_member().await? { Ok(()) } else { Err(Gone("no member any more".to_owned())) }
    }

    async fn acknowledge(&mut self, message: kafka::Message) -> Result<(), Gone> {
        Ok(self.0.commit(&message).await?)
    }

    async fn leave(self) -> Result<(), Gone> {
        Ok(self.0.leave().await?)
    }
}
