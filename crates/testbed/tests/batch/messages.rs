//! Messages with numbers, published so that the broker has them on disk.

use forewarm_testbed::rabbitmq::{PASSWORD, RabbitMq, USER};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::FieldTable,
};

pub(crate) const QUEUE: &str = "work";
/// Kept on disk.
const PERSISTENT: u8 = 2;

/// Who publishes.
pub(crate) struct Messages {
    channel: Channel,
    _connection: Connection,
}

/// Where a broker speaks AMQP, with who asks.
pub(crate) fn address(rabbit: &RabbitMq) -> String {
    format!("amqp://{USER}:{}@{}/%2f", PASSWORD.replace(' ', "%20"), rabbit.amqp)
}

impl Messages {
    pub(crate) async fn connect(rabbit: &RabbitMq) -> Self {
        let connection =
            Connection::connect(&address(rabbit), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { channel, _connection: connection }
    }

    /// Publishes `count` more after the first `published`; returns how many there are then.
    pub(crate) async fn publish(&self, published: u32, count: u32) -> u32 {
        for number in published..published + count {
            let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let payload = number.to_string();
            let sent =
                self.channel.basic_publish("".into(), QUEUE.into(), options, payload.as_bytes(), properties);
            assert!(sent.await.unwrap().await.unwrap().is_ack(), "the broker has it");
        }
        published + count
    }
}

/// What a consumer asks for.
pub(crate) fn no_arguments() -> FieldTable {
    FieldTable::default()
}
