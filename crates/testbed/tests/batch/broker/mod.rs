//! The brokers that work waits at, as the test and its workers use them.

mod kafka;
mod rabbitmq;
mod sqs;

use std::{ops::Range, path::Path};

use forewarm_control::Clock;
use forewarm_signals::Sources;
use forewarm_testbed::TestbedError;

pub(crate) use self::{
    kafka::{KafkaBroker, KafkaConsumer},
    rabbitmq::{RabbitMqBroker, RabbitMqConsumer},
    sqs::{SqsBroker, SqsConsumer},
};

/// A broker with one empty queue.
pub(crate) trait Broker: Sized {
    /// Starts one.
    async fn start() -> Result<Self, TestbedError>;

    /// Publishes messages of these numbers, so that the broker has them on disk.
    async fn publish(&mut self, numbers: Range<u32>);

    /// Kills it.
    fn kill(&mut self);

    /// Starts it again, with what it had.
    async fn restart(&mut self);

    /// The signal that counts the messages to be done and those at workers, in YAML's flow style. A secret that it
    /// names is written to this folder.
    fn signal(&self, folder: &Path) -> String;

    /// Who reads that signal.
    async fn sources(&self, clock: Clock) -> Sources {
        Sources::new(clock)
    }

    /// What the policy is told besides, such as `, visibilityTimeout: 20s`.
    fn policy(&self) -> String {
        String::new()
    }

    /// Where a worker finds it: the kind, a blank, and the rest.
    fn address(&self) -> String;
}

/// The broker is gone, or refuses.
pub(crate) struct Gone(pub(crate) String);

impl<E: std::fmt::Debug> From<E> for Gone {
    fn from(error: E) -> Self {
        Self(format!("{error:?}"))
    }
}

/// A message at a worker.
pub(crate) struct Message<T> {
    pub(crate) number: u32,
    /// Whether the broker says that it has given it to somebody before.
    pub(crate) redelivered: bool,
    pub(crate) token: T,
}

/// Takes messages for a worker, one at a time. What fails is tried again on a new connection.
pub(crate) trait Consumer {
    /// By which the broker knows the message.
    type Token;

    /// The next message, if one comes soon. It is not given up half way: a message might be on its way.
    async fn next(&mut self) -> Result<Option<Message<Self::Token>>, Gone>;

    /// Keeps the message from being given to another for the time that work takes, and says whether that can be had.
    async fn keep(&mut self, token: &Self::Token) -> Result<(), Gone>;

    /// The message is done.
    async fn acknowledge(&mut self, token: Self::Token) -> Result<(), Gone>;

    /// Takes no more.
    async fn leave(self) -> Result<(), Gone>;
}

/// The number in a message.
fn number(text: &[u8]) -> u32 {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}
