//! Queues of a real RabbitMQ.

use forewarm_manifest::{
    SignalSource,
    signal::{Basic, Credential, RabbitMqMode, RabbitMqOperation, RabbitMqProtocol, RabbitMqSignal, Tls},
};
use forewarm_testbed::rabbitmq::{PASSWORD, RabbitMq, USER};

use crate::{failure, read, started, total, until, who};

fn queue(host: String, basic: &Basic, name: &str) -> RabbitMqSignal {
    RabbitMqSignal {
        host: Credential::Plain(host),
        protocol: RabbitMqProtocol::Auto,
        queue_name: name.into(),
        vhost_name: Some("llm/chat".into()),
        mode: RabbitMqMode::QueueLength,
        exclude_unacknowledged: false,
        use_regex: false,
        operation: RabbitMqOperation::Sum,
        basic: Some(basic.clone()),
        tls: Tls::default(),
        timeout: None,
    }
}

#[tokio::test]
async fn the_depth_of_a_queue_by_both_ways() {
    let Some(rabbit) = started(RabbitMq::start().await) else { return };
    let folder = tempfile::tempdir().unwrap();
    let basic = who(folder.path(), USER, PASSWORD);
    rabbit.create_vhost("llm/chat").await.unwrap();
    for (name, r#type, messages) in [("requests", "quorum", 7), ("requests-2", "classic", 3)] {
        rabbit.create_queue("llm/chat", name, r#type).await.unwrap();
        rabbit.publish("llm/chat", name, messages).await.unwrap();
    }
    let http = format!("http://{}", rabbit.management);
    let amqp = format!("amqp://{}", rabbit.amqp);
    let managed = |name: &str| queue(http.clone(), &basic, name);
    let declared = |name: &str| SignalSource::RabbitMq(queue(amqp.clone(), &basic, name));

    // Both kinds of queue, by both ways.
    for (name, messages) in [("requests", 7.0), ("requests-2", 3.0)] {
        until(&SignalSource::RabbitMq(managed(name)), messages).await;
        assert_eq!(total(&read(&declared(name)).await), messages);
    }
    let several = |operation| {
        let all = RabbitMqSignal { use_regex: true, operation, ..managed("^requests") };
        SignalSource::RabbitMq(all)
    };
    assert_eq!(total(&read(&several(RabbitMqOperation::Sum)).await), 10.0);
    assert_eq!(total(&read(&several(RabbitMqOperation::Max)).await), 7.0);
    assert_eq!(total(&read(&several(RabbitMqOperation::Avg)).await), 5.0);

    // What a consumer holds is not ready any more, and counts unless it is said not to.
    let uri = format!("amqp://{USER}:{}@{}/llm%2Fchat", PASSWORD.replace(' ', "%20"), rabbit.amqp);
    let consumer = lapin::Connection::connect(&uri, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = consumer.create_channel().await.unwrap();
    let held =
        channel.basic_get("requests".into(), lapin::options::BasicGetOptions::default()).await.unwrap();
    assert!(held.is_some());
    let ready = RabbitMqSignal { exclude_unacknowledged: true, ..managed("requests") };
    until(&SignalSource::RabbitMq(ready), 6.0).await;
    until(&SignalSource::RabbitMq(managed("requests")), 7.0).await;
    assert_eq!(total(&read(&declared("requests")).await), 6.0, "AMQP only tells what is ready");
    drop(held);

    // How fast it is filled: something while it is, and 0 later.
    let rate = RabbitMqSignal { mode: RabbitMqMode::MessageRate, ..managed("requests") };
    let rate = SignalSource::RabbitMq(rate);
    rabbit.publish("llm/chat", "requests", 20).await.unwrap();
    let seen = async { while total(&read(&rate).await) == 0.0 {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), seen).await.unwrap();
    until(&rate, 0.0).await;

    // What is not there, and who may not ask.
    let nothing = "there is no queue `reqeusts` in vhost `llm/chat`";
    assert_eq!(failure(&read(&SignalSource::RabbitMq(managed("reqeusts"))).await), nothing);
    assert_eq!(failure(&read(&declared("reqeusts")).await), nothing);
    let none = RabbitMqSignal { use_regex: true, ..managed("^nothing") };
    assert_eq!(failure(&read(&SignalSource::RabbitMq(none)).await), "no queue's name fits `^nothing`");
    let wrong = who(folder.path(), USER, "wrong");
    for host in [&http, &amqp] {
        let why = failure(&read(&SignalSource::RabbitMq(queue(host.clone(), &wrong, "requests"))).await);
        assert!(why.contains("refuses this `username` and `password`") && !why.contains("wrong"), "{why}");
    }
}
