//! The servers of the testbed start, do what a test asks, and start again with what they had.

use forewarm_testbed::{Page, TestbedError, kafka::Kafka, prometheus, rabbitmq::RabbitMq};

/// The server, or a word about why not.
fn started<T>(server: Result<T, TestbedError>) -> Option<T> {
    match server {
        Ok(server) => Some(server),
        Err(TestbedError::NotFetched(error)) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn kafka_keeps_its_messages_over_a_restart() {
    let Some(mut kafka) = started(Kafka::start().await) else { return };
    let mut admin = kafka.admin().await.unwrap();
    admin.create_topic("requests", 2).await.unwrap();
    admin.produce("requests", 1, 3).await.unwrap();
    admin.commit("workers", "requests", 1, 1).await.unwrap();
    kafka.server.kill();
    kafka.restart().await.unwrap();
    let mut admin = kafka.admin().await.unwrap();
    assert!(admin.create_topic("requests", 2).await.is_err(), "it is there already");
    admin.grow_topic("requests", 3).await.unwrap();
}

#[tokio::test]
async fn rabbitmq_keeps_its_queues_over_a_restart() {
    let Some(mut rabbit) = started(RabbitMq::start().await) else { return };
    rabbit.create_vhost("llm").await.unwrap();
    rabbit.create_queue("llm", "requests", "quorum").await.unwrap();
    rabbit.publish("llm", "requests", 2).await.unwrap();
    rabbit.server.kill();
    rabbit.restart().await.unwrap();
    assert_eq!(rabbit.queue("llm", "requests").await.unwrap()["name"], "requests");
}

#[tokio::test]
async fn prometheus_starts_and_starts_again() {
    let page = Page::start("llm_queue_depth 7\n").await.unwrap();
    let Some(mut server) =
        started(prometheus::Prometheus::start(prometheus::Access::Open, &[page.address()]).await)
    else {
        return;
    };
    server.restart().await.unwrap();
}
