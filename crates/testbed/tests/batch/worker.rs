//! A worker as batch work commonly has it: one message at a time, acknowledged when it is done. `SIGTERM`: finish it, end.

use std::{path::PathBuf, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    account::note,
    messages::{QUEUE, no_arguments},
};

/// Where the broker is; its presence makes this program a worker.
pub(crate) const BROKER: &str = "TEST_BROKER";
/// Where it writes what it does.
pub(crate) const ACCOUNT: &str = "TEST_ACCOUNT";
/// How long a message takes: some of them in the five seconds that the broker counts its queues in.
const WORK: Duration = Duration::from_millis(2500);
/// Before a broker that is gone is called again.
const CALL_AGAIN: Duration = Duration::from_millis(200);
const TAG: &str = "worker";

#[tokio::test]
#[ignore = "plays the worker for the other tests"]
async fn work() {
    let Ok(broker) = std::env::var(BROKER) else { return };
    let account = PathBuf::from(std::env::var(ACCOUNT).unwrap());
    let mut told = signal(SignalKind::terminate()).unwrap();
    loop {
        tokio::select! {
            served = serve(&broker, &account, &mut told) => match served {
                Ok(()) => return,
                Err(error) => eprintln!("the broker is gone: {error}"),
            }
        }
        tokio::select! {
            _ = told.recv() => return,
            () = tokio::time::sleep(CALL_AGAIN) => {}
        }
    }
}

/// Works until it is told to take no more.
async fn serve(broker: &str, account: &std::path::Path, told: &mut Signal) -> Result<(), lapin::Error> {
    let connection = Connection::connect(broker, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut messages = channel.basic_consume(QUEUE.into(), TAG.into(), options, no_arguments()).await?;
    loop {
        let message = tokio::select! {
            biased;
            _ = told.recv() => break,
            message = messages.next() => match message {
                Some(message) => message?,
                None => break,
            },
        };
        let number: u32 = std::str::from_utf8(&message.data).unwrap().parse().unwrap();
        let mut last = false;
        let done = tokio::time::sleep(WORK);
        tokio::pin!(done);
        loop {
            tokio::select! {
                () = &mut done => break,
                _ = told.recv(), if !last => {
                    last = true;
                    note(account, "told", &number.to_string());
                }
            }
        }
        // Not done when it cannot be acknowledged: the broker gives it to another.
        if !connection.status().connected() {
            continue;
        }
        let again = if message.redelivered { "again" } else { "first" };
        note(account, "done", &format!("{number} {again}"));
        message.ack(BasicAckOptions::default()).await?;
        if last {
            break;
        }
    }
    channel.basic_cancel(TAG.into(), BasicCancelOptions::default()).await?;
    connection.close(200, "done".into()).await
}
