//! Kafka, over TLS and as somebody.

use std::{sync::Arc, time::Duration};

use forewarm_control::{Clock, ports::SignalSource as Source};
use forewarm_manifest::{
    SignalSource,
    signal::{KafkaSignal, OffsetReset, Sasl, SaslMechanism, Tls},
};
use forewarm_testbed::{
    Proxy, Server,
    kafka::{Kafka, PASSWORD, USER},
};

use super::{Words, described};
use crate::{password::Password, started};

const TOPIC: &str = "requests";
const GROUP: &str = "workers";

pub(super) struct World {
    server: Kafka,
    written: i64,
    source: SignalSource,
    password: Password,
}

impl World {
    pub(super) async fn start() -> Option<Self> {
        let server = started(Kafka::start().await)?;
        server.admin().await.unwrap().create_topic(TOPIC, 1).await.unwrap();
        let password = Password::new(PASSWORD);
        let basic = password.of(USER);
        let source = SignalSource::Kafka(KafkaSignal {
            bootstrap_servers: vec![server.proxy.address().to_string()],
            consumer_group: GROUP.into(),
            topic: Some(TOPIC.into()),
            lag_threshold: 10,
            offset_reset_policy: Some(OffsetReset::Latest),
            scale_to_zero_on_invalid_offset: false,
            exclude_persistent_lag: false,
            allow_idle_consumers: true,
            limit_to_partitions_with_lag: false,
            partition_limitation: Vec::new(),
            sasl: Some(Sasl {
                mechanism: SaslMechanism::ScramSha512,
                username: basic.username,
                password: basic.password,
            }),
            tls: Some(Tls { ca_file: Some(server.certificates.ca.clone()), ..Tls::default() }),
        });
        Some(Self { server, written: 0, source, password })
    }
}

impl super::World for World {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn source(&self, clock: Clock, timeout: Duration) -> Arc<dyn Source> {
        described(&self.source, clock, timeout)
    }

    fn server(&mut self) -> &mut Server {
        &mut self.server.server
    }

    fn network(&self) -> &Proxy {
        &self.server.proxy
    }

    async fn start_again(&mut self) {
        self.server.restart().await.unwrap();
    }

    async fn load(&mut self, messages: usize) {
        let mut admin = self.server.admin().await.unwrap();
        admin.produce(TOPIC, 0, messages).await.unwrap();
        self.written += messages as i64;
        admin.commit(GROUP, TOPIC, 0, self.written - messages as i64).await.unwrap();
    }

    async fn refuse(&mut self) {
        self.password.spoil(&self.server.proxy).await;
    }

    async fn accept(&mut self) {
        self.password.restore(&self.server.proxy).await;
    }

    async fn remove(&mut self) {
        self.server.admin().await.unwrap().delete_topic(TOPIC).await.unwrap();
    }

    async fn put_back(&mut self) {
        self.written = 0;
        let mut admin = self.server.admin().await.unwrap();
        // A topic of the name of one that is being deleted can be made once that is done.
        while admin.create_topic(TOPIC, 1).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn words(&self) -> Words {
        Words {
            unreachable: "no connection to",
            refused: "the broker refuses this `username` and `password`",
            absent: "topic `requests`: the cluster has none",
        }
    }
}
