//! Replicas that take their work from a queue: told to take no more by a signal, and left to finish.

use std::{fs, path::Path, time::Duration};

use forewarm_core::Phase;
use forewarm_processes::{ProcessFleetConfig, Work};

use crate::watched::{Watched, dir, script};

fn worker(dir: &Path, work: Work, text: &str) -> ProcessFleetConfig {
    ProcessFleetConfig { work, ..script(dir, text) }
}

/// Takes no more once it is told, finishes what it has when the test says so, and has a process of its own for it.
const FINISHES: &str = "trap 'echo told >> told' TERM
    sh -c 'trap \"echo helper >> told\" TERM; until test -e done; do sleep 0.02; done' &
    until test -e done; do wait; done
    echo finished > finished";

#[tokio::test]
async fn a_worker_that_drains_is_told_once_finishes_what_it_has_and_ends_by_itself() {
    let (dir, place) = (dir(), dir());
    let config = ProcessFleetConfig {
        working_dir: Some(place.path().into()),
        ..worker(dir.path(), Work::Taken, FINISHES)
    };
    let mut fleet = Watched::open(config).unwrap();
    fleet.start(1).await.unwrap();
    fleet.all(1, Phase::Ready).await;
    fleet.drain("r-0").await;
    fleet.drain("r-0").await;
    let told = place.path().join("told");
    while !told.exists() {
        // It is told as soon as its keeper gets to it.
        tokio::task::yield_now().await;
    }
    fleet.all(1, Phase::Draining).await;
    assert!(!place.path().join("finished").exists(), "it is not done yet");
    fs::write(place.path().join("done"), "").unwrap();
    fleet.none().await;
    assert!(place.path().join("finished").exists(), "it was left to finish");
    assert_eq!(fs::read_to_string(told).unwrap(), "told\n", "it alone, and once");
    assert!(fleet.failed.is_empty() && fleet.ended.is_empty(), "it was asked to");
    fleet.close().await;
}

#[tokio::test]
async fn a_worker_that_does_not_end_is_stopped_when_that_is_asked_for() {
    let dir = dir();
    let script = "trap '' TERM; while :; do sleep 0.1; done";
    let grace = Duration::from_millis(200);
    let config = ProcessFleetConfig { termination_grace: grace, ..worker(dir.path(), Work::Taken, script) };
    let mut fleet = Watched::open(config).unwrap();
    fleet.start(1).await.unwrap();
    fleet.all(1, Phase::Ready).await;
    fleet.drain("r-0").await;
    fleet.all(1, Phase::Draining).await;
    fleet.close().await;
}

#[tokio::test]
async fn a_job_that_is_done_has_not_failed_and_one_that_fails_has() {
    struct Case {
        work: Work,
        script: &'static str,
        failed: usize,
        ended: usize,
    }
    let cases = [
        Case { work: Work::Job, script: "exit 0", failed: 0, ended: 0 },
        Case { work: Work::Job, script: "sleep 1.5; exit 0", failed: 0, ended: 0 },
        Case { work: Work::Job, script: "exit 3", failed: 1, ended: 0 },
        Case { work: Work::Job, script: "sleep 1.5; exit 3", failed: 1, ended: 0 },
        Case { work: Work::Taken, script: "sleep 1.5; exit 3", failed: 1, ended: 0 },
        Case { work: Work::Taken, script: "exit 0", failed: 1, ended: 0 },
        Case { work: Work::Taken, script: "sleep 1.5; exit 0", failed: 0, ended: 1 },
    ];
    for Case { work, script, failed, ended } in cases {
        let dir = dir();
        let mut fleet = Watched::open(worker(dir.path(), work, script)).unwrap();
        fleet.start(1).await.unwrap();
        fleet.none().await;
        assert_eq!((fleet.failed.len(), fleet.ended.len()), (failed, ended), "{work:?}: {script}");
        fleet.close().await;
    }
}
