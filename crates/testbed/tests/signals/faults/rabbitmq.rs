//! RabbitMQ, by its management API and by AMQP.

use std::{sync::Arc, time::Duration};

use forewarm_control::{Clock, ports::SignalSource as Source};
use forewarm_manifest::{
    SignalSource,
    signal::{Credential, RabbitMqMode, RabbitMqOperation, RabbitMqProtocol, RabbitMqSignal, Tls},
};
use forewarm_testbed::{
    Proxy, Server,
    rabbitmq::{PASSWORD, RabbitMq, USER},
};

use super::{Words, described};
use crate::{password::Password, started};

const QUEUE: &str = "requests";

/// How it is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Management,
    Amqp,
}

pub(super) struct World {
    way: Way,
    server: RabbitMq,
    proxy: Proxy,
    source: SignalSource,
    password: Password,
}

impl World {
    pub(super) async fn start(way: Way) -> Option<Self> {
        let server = started(RabbitMq::start().await)?;
        server.create_queue("/", QUEUE, "classic").await.unwrap();
        let (scheme, behind) = match way {
            Way::Management => ("http", server.management),
            Way::Amqp => ("amqp", server.amqp),
        };
        let proxy = Proxy::start(behind).await.unwrap();
        let password = Password::new(PASSWORD);
        let source = SignalSource::RabbitMq(RabbitMqSignal {
            host: Credential::Plain(format!("{scheme}://{}", proxy.address())),
            protocol: RabbitMqProtocol::Auto,
            queue_name: QUEUE.into(),
            vhost_name: None,
            mode: RabbitMqMode::QueueLength,
            exclude_unacknowledged: false,
            use_regex: false,
            operation: RabbitMqOperation::Sum,
            basic: Some(password.of(USER)),
            tls: Tls::default(),
            timeout: None,
        });
        Some(Self { way, server, proxy, source, password })
    }
}

impl super::World for World {
    fn name(&self) -> &'static str {
        match self.way {
            Way::Management => "rabbitmq (management)",
            Way::Amqp => "rabbitmq (AMQP)",
        }
    }

    fn source(&self, clock: Clock, timeout: Duration) -> Arc<dyn Source> {
        described(&self.source, clock, timeout)
    }

    fn server(&mut self) -> &mut Server {
        &mut self.server.server
    }

    fn network(&self) -> &Proxy {
        &self.proxy
    }

    async fn start_again(&mut self) {
        self.server.restart().await.unwrap();
    }

    async fn load(&mut self, messages: usize) {
        // A queue whose broker was away may not answer before it has a leader again.
        let anew = async || {
            self.server.purge("/", QUEUE).await?;
            self.server.publish("/", QUEUE, messages).await
        };
        while let Err(error) = anew().await {
            eprintln!("{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn refuse(&mut self) {
        self.password.spoil(&self.proxy).await;
    }

    async fn accept(&mut self) {
        self.password.restore(&self.proxy).await;
    }

    async fn remove(&mut self) {
        self.server.delete_queue("/", QUEUE).await.unwrap();
    }

    async fn put_back(&mut self) {
        self.server.create_queue("/", QUEUE, "classic").await.unwrap();
    }

    fn words(&self) -> Words {
        let (unreachable, refused) = match self.way {
            Way::Management => ("no answer:", "the server refuses this `username` and `password`"),
            Way::Amqp => ("no connection to RabbitMQ", "RabbitMQ refuses this `username` and `password`"),
        };
        Words { unreachable, refused, absent: "there is no queue `requests` in vhost `/`" }
    }
}
