//! A worker as batch work commonly has it: one message at a time, acknowledged when it is done. `SIGTERM`: finish it, end.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    account::{GATE, note, noted},
    broker::{Consumer, Gone, KafkaConsumer, Message, RabbitMqConsumer, SqsConsumer},
};

/// Where the broker is; its presence makes this program a worker.
pub(crate) const BROKER: &str = "TEST_BROKER";
/// Where it writes what it does.
pub(crate) const ACCOUNT: &str = "TEST_ACCOUNT";
/// How long a message takes: some of them in the five seconds that RabbitMQ counts its queues in.
const WORK: Duration = Duration::from_millis(2500);
/// How often a job looks for a message.
const LOOKS: u32 = 10;
/// Before a broker that is gone is called again.
const CALL_AGAIN: Duration = Duration::from_millis(200);

#[tokio::test]
#[ignore = "plays the worker for the other tests"]
async fn work() {
    let Ok(broker) = std::env::var(BROKER) else { return };
    let account = PathBuf::from(std::env::var(ACCOUNT).unwrap());
    let (kind, address) = broker.split_once(' ').unwrap();
    match kind {
        "rabbitmq" => serve(RabbitMqConsumer::new(address), &account).await,
        "kafka" => serve(KafkaConsumer::new(address), &account).await,
        _ => serve(SqsConsumer::new(address).await, &account).await,
    }
}

/// Does one message as a job does, once it may, and ends. There may be none left for it.
#[tokio::test]
#[ignore = "plays the job for another test"]
async fn job() {
    let Ok(broker) = std::env::var(BROKER) else { return };
    let account = PathBuf::from(std::env::var(ACCOUNT).unwrap());
    let mut consumer = RabbitMqConsumer::new(broker.split_once(' ').unwrap().1);
    for _ in 0..LOOKS {
        let Ok(found) = consumer.next().await else { panic!("the broker is gone") };
        let Some(message) = found else { continue };
        let number = message.number.to_string();
        note(&account, "taken", &number);
        while !account.join(GATE).exists() {
            tokio::time::sleep(CALL_AGAIN).await;
        }
        note(&account, "done", &format!("{number} {}", if message.redelivered { "again" } else { "first" }));
        let acknowledged = consumer.acknowledge(message.token).await;
        assert!(acknowledged.is_ok() && consumer.leave().await.is_ok());
        return;
    }
}

/// Works until it is told to take no more.
async fn serve<C: Consumer>(mut consumer: C, account: &Path) {
    let mut told = told();
    while !*told.borrow_and_update() {
        match consumer.next().await {
            Ok(None) => {}
            Ok(Some(message)) => {
                if let Err(Gone(why)) = one(&mut consumer, message, &mut told, account).await {
                    eprintln!("the broker gives it to another: {why}");
                }
            }
            Err(Gone(why)) => {
                eprintln!("the broker is gone: {why}");
                tokio::time::sleep(CALL_AGAIN).await;
            }
        }
    }
    if let Err(Gone(why)) = consumer.leave().await {
        eprintln!("the broker does not hear that it goes: {why}");
    }
}

/// Whether it was told to take no more.
fn told() -> watch::Receiver<bool> {
    let (say, told) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::spawn(async move {
        terminate.recv().await;
        say.send_replace(true);
    });
    told
}

/// Does one message, and no less when it is told to go meanwhile.
async fn one<C: Consumer>(
    consumer: &mut C,
    message: Message<C::Token>,
    told: &mut watch::Receiver<bool>,
    account: &Path,
) -> Result<(), Gone> {
    let number = message.number.to_string();
    let done = tokio::time::sleep(WORK);
    tokio::pin!(done);
    loop {
        tokio::select! {
            () = &mut done => break,
            Ok(()) = told.changed() => {
                note(account, "told", &number);
                consumer.keep(&message.token).await?;
            }
        }
    }
    // Not done when it cannot be acknowledged: the broker gives it to another.
    consumer.keep(&message.token).await?;
    let again = message.redelivered || noted(account, "unanswered", &number);
    note(account, "done", &format!("{number} {}", if again { "again" } else { "first" }));
    let acknowledged = consumer.acknowledge(message.token).await;
    if acknowledged.is_err() {
        note(account, "unanswered", &number);
    }
    acknowledged
}
