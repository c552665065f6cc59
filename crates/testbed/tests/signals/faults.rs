//! Sources times faults, under a controller: what it says, that no replica goes, and that it recovers by itself.
//!
//! The table is what `docs/signals.md` shows between its markers. With `FOREWARM_WRITE_DOCS` set, it is written there.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use forewarm_manifest::{
    SignalSource,
    signal::{
        Credential, HttpAccess, KafkaSignal, MetricsApiSignal, OffsetReset, PrometheusSignal, RabbitMqMode,
        RabbitMqOperation, RabbitMqProtocol, RabbitMqSignal, Sasl, SaslMechanism, Tls,
    },
};
use forewarm_testbed::{
    Page, Proxy,
    kafka::{self, Kafka},
    prometheus::{self, Prometheus},
    rabbitmq::{self, RabbitMq},
};
use tempfile::TempDir;

use crate::{
    stage::{PER_REPLICA, Stage},
    started, who,
};

/// Replicas that the load asks for before the fault, and after.
const BEFORE: u32 = 4;
const AFTER: u32 = 1;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Killed,
    Paused,
    Cut,
    BlackHole,
    Restarted,
    Refused,
    Absent,
}

const FAULTS: [Fault; 7] = [
    Fault::Killed,
    Fault::Paused,
    Fault::Cut,
    Fault::BlackHole,
    Fault::Restarted,
    Fault::Refused,
    Fault::Absent,
];

impl Fault {
    fn text(self) -> &'static str {
        match self {
            Fault::Killed => "killed, started later",
            Fault::Paused => "stopped (`SIGSTOP`), continued",
            Fault::Cut => "network: connections closed",
            Fault::BlackHole => "network: nothing gets through",
            Fault::Restarted => "restarted",
            Fault::Refused => "password changed",
            Fault::Absent => "series, queue or topic gone",
        }
    }
}

/// A source, its server, and the network between them.
enum World {
    Prometheus { server: Prometheus, page: Page },
    Kafka { server: Kafka, written: i64 },
    RabbitMq { server: RabbitMq },
}

struct Subject {
    name: &'static str,
    world: World,
    /// In front of the server; Kafka has its own.
    proxy: Option<Proxy>,
    source: SignalSource,
    folder: TempDir,
    password: &'static str,
}

const SERIES: &str = "llm_queue_depth";
const TOPIC: &str = "requests";
const QUEUE: &str = "requests";

impl Subject {
    async fn prometheus(name: &'static str) -> Option<Self> {
        let page = Page::start("").await.unwrap();
        let server = started(Prometheus::start(prometheus::Access::Guarded, &[page.address()]).await)?;
        let proxy = Proxy::start(server.address).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let access = HttpAccess {
            basic: Some(who(folder.path(), prometheus::USER, prometheus::PASSWORD)),
            tls: Tls { ca_file: Some(server.certificates.ca.clone()), ..Tls::default() },
            ..HttpAccess::default()
        };
        let address = format!("https://{}", proxy.address());
        let source = if name == "metricsApi" {
            SignalSource::MetricsApi(MetricsApiSignal {
                url: format!("{address}/api/v1/query?query={SERIES}"),
                value_location: "data.result.0.value.1".parse().unwrap(),
                api_key: None,
                access,
            })
        } else {
            SignalSource::Prometheus(PrometheusSignal { access, ..PrometheusSignal::new(address, SERIES) })
        };
        let world = World::Prometheus { server, page };
        Some(Self { name, world, proxy: Some(proxy), source, folder, password: prometheus::PASSWORD })
    }

    async fn kafka() -> Option<Self> {
        let server = started(Kafka::start().await)?;
        server.admin().await.unwrap().create_topic(TOPIC, 1).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let basic = who(folder.path(), kafka::USER, kafka::PASSWORD);
        let source = SignalSource::Kafka(KafkaSignal {
            bootstrap_servers: vec![server.proxy.address().to_string()],
            consumer_group: "workers".into(),
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
        let world = World::Kafka { server, written: 0 };
        Some(Self { name: "kafka", world, proxy: None, source, folder, password: kafka::PASSWORD })
    }

    async fn rabbitmq(name: &'static str) -> Option<Self> {
        let server = started(RabbitMq::start().await)?;
        server.create_queue("/", QUEUE, "classic").await.unwrap();
        let (scheme, behind) =
            if name == "rabbitmq (AMQP)" { ("amqp", server.amqp) } else { ("http", server.management) };
        let proxy = Proxy::start(behind).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let source = SignalSource::RabbitMq(RabbitMqSignal {
            host: Credential::Plain(format!("{scheme}://{}", proxy.address())),
            protocol: RabbitMqProtocol::Auto,
            queue_name: QUEUE.into(),
            vhost_name: None,
            mode: RabbitMqMode::QueueLength,
            exclude_unacknowledged: false,
            use_regex: false,
            operation: RabbitMqOperation::Sum,
            basic: Some(who(folder.path(), rabbitmq::USER, rabbitmq::PASSWORD)),
            tls: Tls::default(),
            timeout: None,
        });
        let world = World::RabbitMq { server };
        Some(Self { name, world, proxy: Some(proxy), source, folder, password: rabbitmq::PASSWORD })
    }

    fn network(&self) -> &Proxy {
        match (&self.proxy, &self.world) {
            (Some(proxy), _) => proxy,
            (None, World::Kafka { server, .. }) => &server.proxy,
            (None, _) => panic!("no proxy"),
        }
    }

    fn server(&mut self) -> &mut forewarm_testbed::Server {
        match &mut self.world {
            World::Prometheus { server, .. } => &mut server.server,
            World::Kafka { server, .. } => &mut server.server,
            World::RabbitMq { server } => &mut server.server,
        }
    }

    async fn start_again(&mut self) {
        match &mut self.world {
            World::Prometheus { server, .. } => server.restart().await.unwrap(),
            World::Kafka { server, .. } => server.restart().await.unwrap(),
            World::RabbitMq { server } => server.restart().await.unwrap(),
        }
    }

    /// Makes the load so high that it is worth this many replicas.
    async fn load(&mut self, replicas: u32) {
        let messages = replicas as usize * PER_REPLICA;
        match &mut self.world {
            World::Prometheus { page, .. } => page.show(&format!("{SERIES} {messages}\n")),
            World::Kafka { server, written, .. } => {
                let mut admin = server.admin().await.unwrap();
                admin.produce(TOPIC, 0, messages).await.unwrap();
                *written += messages as i64;
                admin.commit("workers", TOPIC, 0, *written - messages as i64).await.unwrap();
            }
            World::RabbitMq { server } => {
                // A queue whose broker was away may not answer before it has a leader again.
                while let Err(error) = server.purge("/", QUEUE).await {
                    eprintln!("{error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                server.publish("/", QUEUE, messages).await.unwrap();
            }
        }
    }

    fn write_password(&self, password: &str) {
        std::fs::write(self.folder.path().join("password"), password).unwrap();
    }

    /// Whoever has a connection has to make another.
    async fn reconnect(&self) {
        self.network().cut();
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.network().mend();
    }

    async fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::Killed => self.server().kill(),
            Fault::Paused => self.server().pause(),
            Fault::Cut => self.network().cut(),
            Fault::BlackHole => self.network().black_hole(),
            Fault::Restarted => {
                self.server().terminate();
                self.start_again().await;
            }
            Fault::Refused => {
                self.write_password("of yesterday");
                self.reconnect().await;
            }
            Fault::Absent => match &mut self.world {
                World::Prometheus { page, .. } => page.show(""),
                World::Kafka { server, .. } => {
                    server.admin().await.unwrap().delete_topic(TOPIC).await.unwrap()
                }
                World::RabbitMq { server } => server.delete_queue("/", QUEUE).await.unwrap(),
            },
        }
    }

    async fn heal(&mut self, fault: Fault) {
        match fault {
            Fault::Killed => self.start_again().await,
            Fault::Paused => self.server().resume(),
            Fault::Cut | Fault::BlackHole => self.network().mend(),
            Fault::Restarted => {}
            Fault::Refused => {
                self.write_password(self.password);
                self.reconnect().await;
            }
            Fault::Absent => match &mut self.world {
                World::Prometheus { .. } => {}
                World::Kafka { server, written } => {
                    *written = 0;
                    let mut admin = server.admin().await.unwrap();
                    // A topic of the name of one that is being deleted can be made once that is done.
                    while admin.create_topic(TOPIC, 1).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                World::RabbitMq { server } => server.create_queue("/", QUEUE, "classic").await.unwrap(),
            },
        }
    }

    /// Words that the controller must say, where it is blind for long enough to say something.
    fn words(&self, fault: Fault) -> &'static str {
        let kind = self.source.kind();
        match (fault, kind) {
            (Fault::Killed | Fault::Cut, "kafka") => "no connection to",
            (Fault::Killed | Fault::Cut, "rabbitmq") if self.name.contains("AMQP") => {
                "no connection to RabbitMQ"
            }
            (Fault::Killed | Fault::Cut, _) => "error sending request",
            (Fault::Paused | Fault::BlackHole, _) => "no answer",
            (Fault::Restarted, _) => "",
            (Fault::Refused, "kafka") => "the broker refuses this `username` and `password`",
            (Fault::Refused, "rabbitmq") if self.name.contains("AMQP") => {
                "RabbitMQ refuses this `username` and `password`"
            }
            (Fault::Refused, _) => "the server refuses this `username` and `password`",
            (Fault::Absent, "kafka") => "topic `requests`: the cluster has none",
            (Fault::Absent, "rabbitmq") => "there is no queue `requests` in vhost `/`",
            (Fault::Absent, "metricsApi") => "there is nothing at `data.result.0.value.1` in the answer",
            (Fault::Absent, _) => "the source has no such value",
        }
    }

    /// One row for each fault.
    async fn rows(mut self) -> String {
        let mut rows = String::new();
        for fault in FAULTS {
            eprintln!("{}: {}", self.name, fault.text());
            let says = self.suffer(fault).await;
            let (name, fault) = (self.name, fault.text());
            writeln!(rows, "| {name} | {fault} | {says} | {BEFORE} kept | by itself |").unwrap();
        }
        rows
    }

    async fn suffer(&mut self, fault: Fault) -> String {
        let state = tempfile::tempdir().unwrap();
        self.load(BEFORE).await;
        let mut stage = Stage::start(state.path(), &self.source);
        stage.until_wanted(BEFORE).await;
        stage.decided();
        self.inflict(fault).await;
        let words = self.words(fault);
        if !words.is_empty() {
            stage.until_held(words).await;
        }
        let broken = stage.decided();
        assert!(
            broken.iter().all(|decision| decision.to.0 >= BEFORE),
            "{} {fault:?}: {:?}",
            self.name,
            broken.iter().map(|decision| decision.summary()).collect::<Vec<_>>()
        );
        assert_eq!(stage.fleet.phases().len(), BEFORE as usize, "{} {fault:?}", self.name);
        self.heal(fault).await;
        self.load(AFTER).await;
        stage.until_wanted(AFTER).await;
        stage.stop().await;
        if words.is_empty() {
            "nothing, when it is back before the last value is too old".into()
        } else {
            format!("“{words}”")
        }
    }
}

const BEGIN: &str = "<!-- faults: written by the tests -->\n";
const END: &str = "<!-- /faults -->";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_a_source_takes_a_replica_and_each_is_recovered_from() {
    let every = tokio::join!(
        async { Some(Subject::prometheus("prometheus").await?.rows().await) },
        async { Some(Subject::kafka().await?.rows().await) },
        async { Some(Subject::rabbitmq("rabbitmq (management)").await?.rows().await) },
        async { Some(Subject::rabbitmq("rabbitmq (AMQP)").await?.rows().await) },
        async { Some(Subject::prometheus("metricsApi").await?.rows().await) },
    );
    let mut table =
        "| source | fault | the reason says | replicas | recovers |\n|---|---|---|---|---|\n".to_owned();
    for rows in <[_; 5]>::from(every) {
        let Some(rows) = rows else { return };
        table.push_str(&rows);
    }
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/signals.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    if std::env::var_os("FOREWARM_WRITE_DOCS").is_some() {
        std::fs::write(&page, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(shown, table, "docs/signals.md is out of date: FOREWARM_WRITE_DOCS=1 writes it");
    }
}
