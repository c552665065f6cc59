//! Servers that want to see a certificate, and AMQP over TLS.

use forewarm_manifest::{
    SignalSource,
    signal::{
        Credential, HttpAccess, KafkaSignal, MetricsApiSignal, PrometheusSignal, RabbitMqMode,
        RabbitMqOperation, RabbitMqProtocol, RabbitMqSignal, Tls,
    },
};
use forewarm_testbed::{
    Certificates, Page,
    kafka::Kafka,
    prometheus::{Access, Prometheus},
    rabbitmq::{PASSWORD, RabbitMq, USER},
};

use crate::{failure, read, started, total, until, who};

/// What is said when a server gets no certificate to see…
const NAMELESS: &str = "the server wants a certificate of who asks, `certFile` and `keyFile`";
/// …and when it does not trust the one that it sees.
const STRANGER: &str = "the server does not accept the certificate in `certFile`";

/// Shows the certificate of a client.
fn known(certificates: &Certificates) -> Tls {
    Tls {
        cert_file: Some(certificates.client_cert.clone()),
        key_file: Some(certificates.client_key.clone()),
        ..nameless(certificates)
    }
}

/// Shows none.
fn nameless(certificates: &Certificates) -> Tls {
    Tls { ca_file: Some(certificates.ca.clone()), ..Tls::default() }
}

/// Shows one that nobody whom the server trusts has signed.
fn stranger(certificates: &Certificates, other: &Certificates) -> Tls {
    Tls { ca_file: Some(certificates.ca.clone()), ..known(other) }
}

#[tokio::test]
async fn amqp_and_the_management_api_over_tls() {
    let Some(rabbit) = started(RabbitMq::start().await) else { return };
    let folder = tempfile::tempdir().unwrap();
    let basic = who(folder.path(), USER, PASSWORD);
    rabbit.create_vhost("llm").await.unwrap();
    rabbit.create_queue("llm", "requests", "classic").await.unwrap();
    rabbit.publish("llm", "requests", 7).await.unwrap();
    let queue = |host: String, tls: Tls| {
        SignalSource::RabbitMq(RabbitMqSignal {
            host: Credential::Plain(host),
            protocol: RabbitMqProtocol::Auto,
            queue_name: "requests".into(),
            vhost_name: Some("llm".into()),
            mode: RabbitMqMode::QueueLength,
            exclude_unacknowledged: false,
            use_regex: false,
            operation: RabbitMqOperation::Sum,
            basic: Some(basic.clone()),
            tls,
            timeout: None,
        })
    };
    let others = Certificates::make(folder.path()).unwrap();
    let trusted = &rabbit.certificates;
    for host in [format!("amqps://{}", rabbit.amqps), format!("https://{}", rabbit.management_tls)] {
        until(&queue(host.clone(), known(trusted)), 7.0).await;
        let why = failure(&read(&queue(host.clone(), nameless(trusted))).await);
        assert!(why.contains(NAMELESS), "{host}: {why}");
        // Whether what it says comes before it hangs up is a matter of luck.
        failure(&read(&queue(host.clone(), stranger(trusted, &others))).await);
        let why = failure(&read(&queue(host.clone(), known(&others))).await);
        assert!(why.contains("certificate"), "nobody it trusts signed the server's: {host}: {why}");
        let any = Tls { accepts_any: true, ca_file: None, ..known(trusted) };
        assert_eq!(total(&read(&queue(host.clone(), any)).await), 7.0);
        // The name of the certificate counts, whatever the address is.
        let named = |name: &str| Tls { server_name: Some(name.into()), ..known(trusted) };
        assert_eq!(total(&read(&queue(host.clone(), named("localhost"))).await), 7.0);
        let why = failure(&read(&queue(host.clone(), named("elsewhere"))).await);
        assert!(why.contains("`serverName` is the name in the server's certificate"), "{host}: {why}");
    }
}

#[tokio::test]
async fn kafka_asks_who_it_is() {
    let Some(kafka) = started(Kafka::start().await) else { return };
    let mut admin = kafka.admin().await.unwrap();
    admin.create_topic("requests", 1).await.unwrap();
    admin.produce("requests", 0, 9).await.unwrap();
    admin.commit("workers", "requests", 0, 2).await.unwrap();
    let lag = |tls: Tls| {
        SignalSource::Kafka(KafkaSignal {
            bootstrap_servers: vec![kafka.mutual.to_string()],
            consumer_group: "workers".into(),
            topic: Some("requests".into()),
            lag_threshold: 10,
            offset_reset_policy: None,
            scale_to_zero_on_invalid_offset: false,
            exclude_persistent_lag: false,
            allow_idle_consumers: true,
            limit_to_partitions_with_lag: false,
            partition_limitation: Vec::new(),
            sasl: None,
            tls: Some(tls),
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let others = Certificates::make(folder.path()).unwrap();
    assert_eq!(total(&read(&lag(known(&kafka.certificates))).await), 7.0);
    let why = failure(&read(&lag(nameless(&kafka.certificates))).await);
    assert!(why.contains(NAMELESS), "{why}");
    let why = failure(&read(&lag(stranger(&kafka.certificates, &others))).await);
    assert!(why.contains(STRANGER), "{why}");
}

#[tokio::test]
async fn prometheus_and_other_json_ask_who_it_is() {
    let page = Page::start("llm_queue_depth 7\n").await.unwrap();
    let Some(server) = started(Prometheus::start(Access::Certified, &[page.address()]).await) else { return };
    let folder = tempfile::tempdir().unwrap();
    let others = Certificates::make(folder.path()).unwrap();
    let address = format!("https://{}", server.address);
    let with = |tls: Tls| HttpAccess { tls, ..HttpAccess::default() };
    let query = |tls: Tls| {
        let query = PrometheusSignal::new(&address, "sum(llm_queue_depth)");
        SignalSource::Prometheus(PrometheusSignal { access: with(tls), ..query })
    };
    let json = |tls: Tls| {
        SignalSource::MetricsApi(MetricsApiSignal {
            url: format!("{address}/api/v1/query?query=sum(llm_queue_depth)"),
            value_location: "data.result.0.value.1".parse().unwrap(),
            api_key: None,
            access: with(tls),
        })
    };
    until(&query(known(&server.certificates)), 7.0).await;
    assert_eq!(total(&read(&json(known(&server.certificates))).await), 7.0);
    let trusted = &server.certificates;
    for (tls, said) in [(nameless(trusted), NAMELESS), (stranger(trusted, &others), STRANGER)] {
        for source in [query(tls.clone()), json(tls)] {
            let why = failure(&read(&source).await);
            assert!(why.contains(said), "{why}");
        }
    }
}
