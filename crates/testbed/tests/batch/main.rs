//! Batch work on real brokers: workers come and go with the queue, and every message is done once.
//!
//! This program is also the worker: the fleet starts it again with [`worker::work`] as its only test.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

mod account;
mod broker;
mod jobs;
mod stage;
mod worker;

use std::{collections::BTreeSet, time::Duration};

use account::Account;
use broker::{Broker, KafkaBroker, RabbitMqBroker, SqsBroker};
use forewarm_core::{Missing, Reading, Replicas};
use forewarm_testbed::TestbedError;
use stage::{Rules, Stage};

/// Only something broken takes longer; the machine may be busy.
const SAFETY_NET: Duration = Duration::from_secs(240);

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(SAFETY_NET, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

/// The messages that were done, in the order of their numbers.
fn all(account: &Account) -> BTreeSet<u32> {
    account.done().into_iter().map(|done| done.message).collect()
}

#[tokio::test]
async fn on_rabbitmq_no_message_is_lost_or_done_twice() {
    workers_come_and_go::<RabbitMqBroker>().await;
}

#[tokio::test]
async fn on_kafka_no_message_is_lost_or_done_twice() {
    workers_come_and_go::<KafkaBroker>().await;
}

#[tokio::test]
async fn on_sqs_no_message_is_lost_or_done_twice() {
    workers_come_and_go::<SqsBroker>().await;
}

async fn workers_come_and_go<B: Broker>() {
    let mut broker = match B::start().await {
        Ok(broker) => broker,
        Err(TestbedError::NotFetched(error)) => return eprintln!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    };
    let account = Account::open();
    let mut stage = Stage::start(&broker, &account, Rules::workers).await;
    stage.until("an empty queue needs nobody", |seen| seen.decision.to == Replicas(0)).await;

    // Two bursts: from zero to the most, down while workers are busy, to zero, and again.
    let mut published = 0;
    for burst in 0..2 {
        broker.publish(published..published + 42).await;
        published += 42;
        within("the burst is done", account.until(|| all(&account).len() as u32 == published)).await;
        stage
            .until("nobody is left", |seen| seen.decision.to == Replicas(0) && seen.replicas.is_empty())
            .await;
        assert!(stage.most() >= 4, "burst {burst}: {} workers at most", stage.most());
    }
    let done = account.done();
    assert_eq!(done.len() as u32, published, "each message is done once");
    assert_eq!(all(&account), (0..published).collect(), "no message is lost");
    let busy = account.told_while_busy();
    assert!(busy > 0, "no worker was told to go while it had a message, so nothing was shown");

    // The broker dies with messages at workers and in the queue.
    let before = published;
    broker.publish(published..published + 30).await;
    published += 30;
    within("some are done", account.until(|| all(&account).len() as u32 >= before + 5)).await;
    broker.kill();
    let blind = stage
        .until("it says that the queue cannot be read", |seen| {
            let waiting = seen.observation.signals.get("waiting").map(|signal| &signal.reading);
            matches!(waiting, Some(Reading::Missing(Missing::Failed(_))))
        })
        .await;
    assert!(blind.decision.to > Replicas(0), "what cannot be seen takes nothing away");
    assert!(blind.decision.steps.iter().any(|step| step.reason.label() == "held_on_missing"));
    let while_blind = stage.taken_away();
    broker.restart().await;
    within("all is done", account.until(|| all(&account).len() as u32 == published)).await;
    assert_eq!(stage.taken_away_while_blind(), 0, "nobody was told to go while nobody could see the queue");
    stage.until("nobody is left", |seen| seen.decision.to == Replicas(0) && seen.replicas.is_empty()).await;
    assert!(stage.taken_away() > while_blind, "by itself, once the broker is back");

    // What the broker had given out when it died, it gave out again; that is all that was done twice.
    assert_eq!(all(&account), (0..published).collect(), "no message is lost");
    for twice in account.done_again() {
        assert!(
            twice.redelivered && twice.message >= before,
            "done twice, and not because of the broker: {twice:?}"
        );
    }
    eprintln!(
        "{published} messages, {} done twice because the broker died, {} workers told to go while busy",
        account.done_again().len(),
        account.told_while_busy()
    );
    stage.stop().await;
}
