//! Jobs on a real broker: as many are started as their strategy says.

use std::{collections::BTreeSet, sync::Arc};

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

/// A strategy, and what it does about messages that are not counted any more once a job has them.
struct Case {
    strategy: &'static str,
    /// Jobs that the first messages start.
    first: u32,
    /// Jobs that the messages start that come, and are left, while those run.
    more: u32,
    /// Messages that never start a job.
    left: u32,
}

const CASES: [Case; 5] = [
    Case { strategy: "strategy: default", first: 4, more: 0, left: 0 },
    Case { strategy: "strategy: accurate", first: 4, more: 2, left: 0 },
    Case { strategy: "strategy: eager", first: 4, more: 2, left: 0 },
    Case {
        strategy: "strategy: custom, customScalingQueueLengthDeduction: 0, customScalingRunningJobPercentage: '0.34'",
        first: 4,
        more: 1,
        left: 0,
    },
    // What is deducted stays in the queue for good, as it does with KEDA; and so this case is the last.
    Case {
        strategy: "strategy: custom, customScalingQueueLengthDeduction: 1, customScalingRunningJobPercentage: '0'",
        first: 3,
        more: 2,
        left: 1,
    },
];

#[tokio::test]
async fn jobs_are_started_as_their_strategy_says() {
    let mut broker = match RabbitMqBroker::start().await {
        Ok(broker) => broker,
        Err(TestbedError::NotFetched(error)) => return eprintln!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    };
    for case in CASES {
        eprintln!("{}", case.strategy);
        jobs(&mut broker, case).await;
    }
}

async fn jobs(broker: &mut RabbitMqBroker, case: Case) {
    let Case { strategy, first: taken, more, left } = case;
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
    let second = stage.decision("more are counted", counted(FIRST - taken + MORE)).await;
    assert_eq!(second.placement.start, more, "{strategy}: {}", second.summary());
    within("these have theirs", account.until(|| account.taken() as u32 == taken + more)).await;

    // Each is done once in the end, and no job is left.
    account.open_gate();
    counts.add_permits(1000);
    let all = FIRST + MORE - left;
    within("all is done", account.until(|| account.done().len() as u32 >= all)).await;
    stage.until("no job is left", |seen| seen.decision.to == Replicas(0) && seen.replicas.is_empty()).await;
    let done: BTreeSet<u32> = account.done().into_iter().map(|done| done.message).collect();
    assert_eq!((account.done().len(), done.len()), (all as usize, all as usize), "{strategy}");
    stage.stop().await;
}
