//! Jobs on a real broker: as many are started as their strategy says.

use std::sync::Arc;

use forewarm_control::Snapshot;
use forewarm_core::{Phase, Reason, Replicas};
use forewarm_processes::Work;
use forewarm_testbed::TestbedError;
use tokio::sync::Semaphore;

use crate::{
    account::Account,
    broker::{Broker, RabbitMqBroker},
    stage::{Rules, Stage},
    within,
};

/// Messages in the queue before any job, and those that come while each of these is at a job.
const FIRST: u32 = 4;
const MORE: u32 = 2;

#[tokio::test]
async fn jobs_are_started_as_their_strategy_says() {
    // Messages that a job has are not counted any more. How many jobs are started at first, and once more have come:
    let cases = [
        ("strategy: default", 4, 0),
        (
            "strategy: custom, customScalingQueueLengthDeduction: 0, customScalingRunningJobPercentage: '0.34'",
            4,
            1,
        ),
        (
            "strategy: custom, customScalingQueueLengthDeduction: 1, customScalingRunningJobPercentage: '0'",
            3,
            2,
        ),
        ("strategy: accurate", 4, 2),
        ("strategy: eager", 4, 2),
    ];
    let mut broker = match RabbitMqBroker::start().await {
        Ok(broker) => broker,
        Err(TestbedError::NotFetched(error)) => return eprintln!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    };
    for (strategy, first, more) in cases {
        eprintln!("{strategy}");
        jobs(&mut broker, strategy, first, more).await;
    }
}

async fn jobs(broker: &mut RabbitMqBroker, strategy: &str, taken: u32, more: u32) {
    let account = Account::open();
    let counts = Arc::new(Semaphore::new(0));
    let rules = |broker: &RabbitMqBroker, folder: &std::path::Path| Rules {
        signal: broker.ready(folder),
        policy: format!("perReplica: 1, scalingStrategy: {{{strategy}}}"),
        max_age: "10m",
        work: Work::Job,
        counts: Some(Arc::clone(&counts)),
    };
    broker.publish(0..FIRST).await;
    let mut stage = Stage::start(broker, &account, rules).await;
    let counted = |found: u32| move |reason: &Reason| matches!(reason, Reason::Jobs { messages, .. } if messages.get() == f64::from(found));
    counts.add_permits(1);
    let first = stage.decision("the first are counted", counted(FIRST)).await;
    assert_eq!(first.placement.start, taken, "{strategy}: {}", first.summary());
    within("each job has its message", account.until(|| account.taken() as u32 == taken)).await;
    // A count from before a job ran would not count.
    let run =
        |seen: &Snapshot| seen.observation.replicas.iter().filter(|job| job.phase == Phase::Ready).count();
    stage.until("each job runs", |seen| run(seen) as u32 == taken).await;
    broker.publish(FIRST..FIRST + MORE).await;
    counts.add_permits(1);
    let left = FIRST - taken + MORE;
    let second = stage.decision("two more are counted", counted(left)).await;
    assert_eq!(second.placement.start, more, "{strategy}: {}", second.summary());
    within("these have theirs", account.until(|| account.taken() as u32 == taken + more)).await;

    // All is done in the end, once, and no job is left.
    account.open_gate();
    counts.add_permits(1000);
    let all = FIRST + MORE;
    within("all is done", account.until(|| account.done().len() as u32 == all)).await;
    stage.until("no job is left", |seen| seen.decision.to == Replicas(0) && seen.replicas.is_empty()).await;
    let mut done: Vec<_> = account.done().into_iter().map(|done| done.message).collect();
    done.sort_unstable();
    assert_eq!(done, (0..all).collect::<Vec<_>>(), "{strategy}");
    stage.stop().await;
}
