//! Every signal's source against its real server, healthy and broken.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

mod engine;
mod faults;
mod kafka;
mod password;
mod prometheus;
mod rabbitmq;
mod stage;
mod tls;

use std::{path::Path, time::Duration};

use forewarm_control::Clock;
use forewarm_core::{Missing, Reading, Signal};
use forewarm_manifest::{
    SignalSource,
    signal::{Basic, Credential},
};
use forewarm_signals::{SourceError, Sources};
use forewarm_testbed::TestbedError;

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

/// Reads a source once, as if nobody had before.
async fn read(source: &SignalSource) -> Signal {
    try_read(source).await.unwrap()
}

async fn try_read(source: &SignalSource) -> Result<Signal, SourceError> {
    let sources = Sources::new(Clock::start(1.0));
    let source = sources.source(source, Duration::from_secs(10), Duration::ZERO)?.unwrap();
    Ok(source.read(&[]).await)
}

fn total(signal: &Signal) -> f64 {
    match &signal.reading {
        Reading::Value { total, .. } => *total,
        Reading::Partial { .. } | Reading::Missing(_) => panic!("{signal:?}"),
    }
}

fn failure(signal: &Signal) -> String {
    let Reading::Missing(Missing::Failed(why)) = &signal.reading else { panic!("{signal:?}") };
    why.clone()
}

/// Reads until a value is there: statistics come late.
async fn until(source: &SignalSource, wanted: f64) {
    let reached = async {
        while !matches!(read(source).await.reading, Reading::Value { total, .. } if total == wanted) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let late = tokio::time::timeout(Duration::from_secs(60), reached).await.is_err();
    assert!(!late, "{wanted} was never read, but {:?}", read(source).await);
}

/// A name, and a password in a file of the test.
fn who(folder: &Path, username: &str, password: &str) -> Basic {
    let from_file = folder.join("password");
    std::fs::write(&from_file, password).unwrap();
    Basic { username: Credential::Plain(username.to_owned()), password: Credential::File { from_file } }
}
