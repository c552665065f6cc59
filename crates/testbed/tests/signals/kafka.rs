//! Lag of a real Kafka's groups.

use std::{sync::Arc, time::Duration};

use forewarm_control::Clock;
use forewarm_core::Signal;
use forewarm_manifest::{
    SignalSource,
    signal::{KafkaSignal, OffsetReset, PartitionRange, Sasl, SaslMechanism, Tls},
};
use forewarm_signals::Sources;
use forewarm_testbed::kafka::{Kafka, PASSWORD, USER};
use futures_util::future::join_all;

use crate::{failure, read, started, total, who};

/// Longer than any answer takes.
const LONG: Duration = Duration::from_secs(30);

/// A group's lag, asked in the clear.
fn lag(kafka: &Kafka, group: &str, topic: Option<&str>) -> KafkaSignal {
    KafkaSignal {
        bootstrap_servers: vec![kafka.direct.to_string()],
        consumer_group: group.into(),
        topic: topic.map(str::to_owned),
        lag_threshold: 10,
        offset_reset_policy: None,
        scale_to_zero_on_invalid_offset: false,
        exclude_persistent_lag: false,
        allow_idle_consumers: true,
        limit_to_partitions_with_lag: false,
        partition_limitation: Vec::new(),
        sasl: None,
        tls: None,
    }
}

async fn ask(signal: KafkaSignal) -> Signal {
    read(&SignalSource::Kafka(signal)).await
}

#[tokio::test]
async fn the_lag_of_a_group_is_what_kafka_s_own_tools_say() {
    let Some(kafka) = started(Kafka::start().await) else { return };
    let mut admin = kafka.admin().await.unwrap();
    admin.create_topic("requests", 3).await.unwrap();
    for (partition, written, committed) in [(0, 10, Some(10)), (1, 60, Some(10)), (2, 80, None)] {
        admin.produce("requests", partition, written).await.unwrap();
        if let Some(offset) = committed {
            admin.commit("workers", "requests", partition, offset).await.unwrap();
        }
    }
    let base = || lag(&kafka, "workers", Some("requests"));
    assert_eq!(total(&ask(base()).await), 51.0, "what was never committed counts as one");
    let earliest = KafkaSignal { offset_reset_policy: Some(OffsetReset::Earliest), ..base() };
    assert_eq!(total(&ask(earliest.clone()).await), 130.0, "or all of it, where the group begins there");
    let some = vec![PartitionRange { first: 1, last: 1 }];
    assert_eq!(total(&ask(KafkaSignal { partition_limitation: some, ..base() }).await), 50.0);
    let busy = KafkaSignal { allow_idle_consumers: false, ..earliest };
    assert_eq!(total(&ask(busy).await), 30.0, "three partitions occupy three consumers");

    // Partitions come, and topics.
    admin.grow_topic("requests", 4).await.unwrap();
    admin.produce("requests", 3, 5).await.unwrap();
    admin.commit("workers", "requests", 3, 2).await.unwrap();
    assert_eq!(total(&ask(base()).await), 54.0);
    admin.create_topic("others", 1).await.unwrap();
    admin.produce("others", 0, 7).await.unwrap();
    admin.commit("workers", "others", 0, 0).await.unwrap();
    assert_eq!(total(&ask(lag(&kafka, "workers", None)).await), 61.0, "all that the group committed");

    // A name that is none is a problem, and never 0.
    let why = failure(&ask(lag(&kafka, "wrokers", Some("requests"))).await);
    assert!(why.contains("knows no consumer group `wrokers`"), "{why}");
    let to_zero =
        KafkaSignal { scale_to_zero_on_invalid_offset: true, ..lag(&kafka, "wrokers", Some("requests")) };
    assert!(failure(&ask(to_zero).await).contains("`wrokers`"));
    let why = failure(&ask(lag(&kafka, "wrokers", None)).await);
    assert!(why.contains("`wrokers`"), "{why}");
    let why = failure(&ask(lag(&kafka, "workers", Some("reqeusts"))).await);
    assert_eq!(why, "topic `reqeusts`: the cluster has none");
    admin.delete_topic("others").await.unwrap();
    assert!(failure(&ask(lag(&kafka, "workers", Some("others"))).await).contains("the cluster has none"));

    who_asks(&kafka).await;
}

/// PLAIN and both SCRAMs over TLS, and what is refused.
async fn who_asks(kafka: &Kafka) {
    let folder = tempfile::tempdir().unwrap();
    let ca = Tls { ca_file: Some(kafka.certificates.ca.clone()), ..Tls::default() };
    let guarded = |mechanism, password: &str| {
        let basic = who(folder.path(), USER, password);
        KafkaSignal {
            bootstrap_servers: vec![kafka.proxy.address().to_string()],
            sasl: Some(Sasl { mechanism, username: basic.username, password: basic.password }),
            tls: Some(ca.clone()),
            ..lag(kafka, "workers", Some("requests"))
        }
    };
    for mechanism in [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512] {
        assert_eq!(total(&ask(guarded(mechanism, PASSWORD)).await), 54.0, "{mechanism:?}");
        let why = failure(&ask(guarded(mechanism, "wrong")).await);
        assert!(why.contains("refuses this `username` and `password`") && !why.contains("wrong"), "{why}");
    }
    let stranger = KafkaSignal { tls: Some(Tls::default()), ..guarded(SaslMechanism::Plain, PASSWORD) };
    let why = failure(&ask(stranger).await);
    assert!(why.contains("certificate"), "{why}");
    let any = Tls { accepts_any: true, ..Tls::default() };
    let any = KafkaSignal { tls: Some(any), ..guarded(SaslMechanism::Plain, PASSWORD) };
    assert_eq!(total(&ask(any).await), 54.0);

    // All who ask the same broker share one connection, and who asks the same question shares its answer.
    let sources = Sources::new(Clock::start(1.0));
    let before = kafka.proxy.accepted();
    let source = |number: usize| {
        let signal = KafkaSignal {
            consumer_group: format!("group-{}", number % 20),
            offset_reset_policy: Some(OffsetReset::Latest),
            ..guarded(SaslMechanism::ScramSha512, PASSWORD)
        };
        sources.source(&SignalSource::Kafka(signal), LONG, Duration::from_secs(1)).unwrap().unwrap()
    };
    let all: Vec<_> = (0..40).map(source).collect();
    assert!(Arc::ptr_eq(&all[0], &all[20]), "the same question");
    let answers = join_all(all.iter().map(|source| source.read(&[]))).await;
    assert!(answers.iter().all(|answer| total(answer) == 4.0), "one for each partition: {answers:?}");
    assert_eq!(kafka.proxy.accepted() - before, 1);
}
