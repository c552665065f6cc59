//! RabbitMQ: a quorum queue, by AMQP.

use std::{ops::Range, path::Path, time::Duration};

use forewarm_testbed::{
    TestbedError,
    rabbitmq::{PASSWORD, RabbitMq, USER},
};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions,
    },
    types::FieldTable,
};

use super::{Broker, Consumer, Gone, Message, number};

const QUEUE: &str = "work";
const TAG: &str = "worker";
/// Kept on disk.
const PERSISTENT: u8 = 2;
/// How long a worker waits for a message before it looks whether it is told to go.
const SOON: Duration = Duration::from_millis(300);

pub(crate) struct RabbitMqBroker(RabbitMq);

impl Broker for RabbitMqBroker {
    async fn start() -> Result<Self, TestbedError> {
        let rabbit = RabbitMq::start().await?;
        rabbit.create_queue("/", QUEUE, "quorum").await?;
        Ok(Self(rabbit))
    }

    async fn publish(&mut self, numbers: Range<u32>) {
        let connection = Connection::connect(&uri(&self.0), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for number in numbers {
            let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let payload = number.to_string();
            let sent =
                channel.basic_publish("".into(), QUEUE.into(), options, payload.as_bytes(), properties);
            assert!(sent.await.unwrap().await.unwrap().is_ack(), "the broker has it");
        }
    }

    fn kill(&mut self) {
        self.0.server.kill();
    }

    async fn restart(&mut self) {
        self.0.restart().await.unwrap();
    }

    fn signal(&self, folder: &Path) -> String {
        asked(&format!("http://{}", self.0.management), folder)
    }

    fn address(&self) -> String {
        format!("rabbitmq {}", uri(&self.0))
    }
}

impl RabbitMqBroker {
    /// The signal that counts the messages that nobody has, as they are at the moment.
    pub(crate) fn ready(&self, folder: &Path) -> String {
        asked(&format!("amqp://{}", self.0.amqp), folder)
    }
}

fn asked(host: &str, folder: &Path) -> String {
    let password = folder.join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let password = password.display();
    format!(
        "rabbitmq: {{host: '{host}', username: {USER}, passwordFromFile: '{password}', queueName: {QUEUE}}}"
    )
}

/// Where the broker speaks AMQP, with who asks.
fn uri(rabbit: &RabbitMq) -> String {
    format!("amqp://{USER}:{}@{}/%2f", PASSWORD.replace(' ', "%20"), rabbit.amqp)
}

/// One worker's connection.
pub(crate) struct RabbitMqConsumer {
    uri: String,
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    channel: Channel,
    messages: lapin::Consumer,
}

impl RabbitMqConsumer {
    pub(crate) fn new(uri: &str) -> Self {
        Self { uri: uri.to_owned(), open: None }
    }

    async fn open(&mut self) -> Result<&mut Open, Gone> {
        let open = match self.open.take().filter(|open| open.connection.status().connected()) {
            Some(open) => open,
            None => {
                let connection = Connection::connect(&self.uri, ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                channel.basic_qos(1, BasicQosOptions::default()).await?;
                let options = BasicConsumeOptions::default();
                let messages =
                    channel.basic_consume(QUEUE.into(), TAG.into(), options, FieldTable::default()).await?;
                Open { connection, channel, messages }
            }
        };
        Ok(self.open.insert(open))
    }
}

impl Consumer for RabbitMqConsumer {
    type Token = Delivery;

    async fn next(&mut self) -> Result<Option<Message<Delivery>>, Gone> {
        let open = self.open().await?;
        // Nothing is lost by not waiting for longer: it waits here, with the consumer.
        let Ok(found) = tokio::time::timeout(SOON, open.messages.next()).await else { return Ok(None) };
        let Some(found) = found else {
            self.open = None;
            return Ok(None);
        };
        let delivery = found?;
        let number = number(&delivery.data);
        Ok(Some(Message { number, redelivered: delivery.redelivered, token: delivery }))
    }

    /// It is this worker's for as long as the connection lasts.
    async fn keep(&mut self, _: &Delivery) -> Result<(), Gone> {
        match &self.open {
            Some(open) if open.connection.status().connected() => Ok(()),
            _ => Err(Gone("the connection is gone".to_owned())),
        }
    }

    async fn acknowledge(&mut self, delivery: Delivery) -> Result<(), Gone> {
        Ok(delivery.ack(BasicAckOptions::default()).await.map(drop)?)
    }

    async fn leave(self) -> Result<(), Gone> {
        if let Some(open) = self.open {
            open.channel.basic_cancel(TAG.into(), BasicCancelOptions::default()).await?;
            open.connection.close(200, "done".into()).await?;
        }
        Ok(())
    }
}
