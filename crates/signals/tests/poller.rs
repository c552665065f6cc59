//! The poller in virtual time: a source that dies grows old, and is never zero.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use forewarm_control::{
    Clock,
    ports::{FleetReplica, SignalSet, SignalSource},
};
use forewarm_core::{Missing, Phase, Reading, Signal, SignalName};
use forewarm_signals::{PollOptions, Poller, SignalBatch};
use futures_util::future::{BoxFuture, FutureExt};

#[derive(Debug)]
struct Source {
    /// `None` hangs.
    answer: Mutex<Option<Signal>>,
    asked: AtomicU32,
    fleet: AtomicU32,
}

impl SignalSource for Source {
    fn read<'a>(&'a self, replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.fleet.store(replicas.len() as u32, Ordering::Relaxed);
            let answer = self.answer.lock().expect("not poisoned").clone();
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

impl Source {
    fn new(answer: Signal) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(Some(answer)),
            asked: AtomicU32::new(0),
            fleet: AtomicU32::new(0),
        })
    }

    fn now(&self, answer: Option<Signal>) {
        *self.answer.lock().expect("not poisoned") = answer;
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

fn start(source: &Arc<Source>, speed: f64) -> Poller {
    let batch: (SignalName, Arc<dyn SignalSource>) =
        ("rps".into(), Arc::clone(source) as Arc<dyn SignalSource>);
    Poller::spawn(batch, PollOptions::default(), Clock::start(speed))
}

fn failed() -> Signal {
    Signal::missing(Missing::Failed("connection refused".to_owned()))
}

fn is_value(signal: &Signal, value: f64) -> bool {
    matches!(signal.reading, Reading::Value { total, .. } if total == value)
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_known_before_the_first_reading() {
    let poller = start(&Source::new(Signal::value(3.0)), 1.0);
    let signal = poller.signal("rps").expect("a signal");
    assert_eq!(signal, Signal::missing(Missing::Failed("not read yet".to_owned())));
    assert_eq!(poller.signal("other"), None);
    pass(15).await;
    assert!(is_value(&poller.signal("rps").expect("a signal"), 3.0));
}

#[tokio::test(start_paused = true)]
async fn a_dead_source_grows_old_and_then_says_why() {
    let source = Source::new(Signal::value(3.0));
    let poller = start(&source, 1.0);
    pass(15).await;
    source.now(Some(failed()));
    pass(40).await;
    let old = poller.signal("rps").expect("a signal");
    assert!(is_value(&old, 3.0) && old.age >= Duration::from_secs(25), "{old:?}");
    pass(60).await;
    let dead = poller.signal("rps").expect("a signal");
    let Reading::Missing(Missing::Failed(reason)) = dead.reading else { panic!("{dead:?}") };
    assert!(reason.contains("connection refused; the last value is"), "{reason}");
    source.now(Some(Signal::value(0.0)));
    pass(16).await;
    assert!(is_value(&poller.signal("rps").expect("a signal"), 0.0), "a zero that was read is a zero");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_cut_off_and_asked_again() {
    let source = Source::new(Signal::value(3.0));
    source.now(None);
    let poller = start(&source, 1.0);
    pass(120).await;
    let signal = poller.signal("rps").expect("a signal");
    let Reading::Missing(Missing::Failed(reason)) = signal.reading else { panic!("{signal:?}") };
    assert!(reason.contains("no answer within 10 s"), "{reason}");
    assert!(source.asked() > 3);
    source.now(Some(Signal::value(4.0)));
    pass(30).await;
    assert!(is_value(&poller.signal("rps").expect("a signal"), 4.0));
}

#[tokio::test(start_paused = true)]
async fn retries_are_few() {
    let source = Source::new(failed());
    let _poller = start(&source, 1.0);
    pass(150).await;
    // In 150 s there are 10 to 11 turns of 15 s, and two retries shorten every third wait.
    assert!((11..=33).contains(&source.asked()), "{}", source.asked());
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_value_counts_at_once() {
    let source = Source::new(Signal::value(3.0));
    let poller = start(&source, 1.0);
    pass(15).await;
    source.now(Some(Signal::missing(Missing::Absent)));
    pass(15).await;
    assert_eq!(poller.signal("rps").expect("a signal").reading, Reading::Missing(Missing::Absent));
}

#[tokio::test(start_paused = true)]
async fn time_runs_at_the_clocks_speed() {
    let source = Source::new(Signal::value(3.0));
    let poller = start(&source, 60.0);
    pass(1).await;
    let asked = source.asked();
    assert!((2..=5).contains(&asked), "a modelled minute has four turns, not {asked}");
    source.now(None);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let age = poller.signal("rps").expect("a signal").age;
    assert!(age >= Duration::from_secs(15), "half a second is half a modelled minute: {age:?}");
}

#[tokio::test(start_paused = true)]
async fn only_a_different_reading_is_a_change() {
    let source = Source::new(Signal::value(3.0));
    let poller = start(&source, 1.0);
    poller.changed().await;
    poller.latest();
    let quiet = tokio::time::timeout(Duration::from_secs(60), poller.changed()).await;
    assert!(quiet.is_err(), "the same value again is no news");
    source.now(Some(Signal::value(4.0)));
    poller.changed().await;
    let latest = poller.latest();
    assert_eq!(latest.len(), 1);
    assert!(is_value(&latest[0].1, 4.0));
}

/// A source that asks the replicas.
struct OfTheFleet(Arc<Source>);

impl SignalBatch for OfTheFleet {
    fn names(&self) -> Vec<SignalName> {
        vec!["rps".into()]
    }

    fn follows_the_fleet(&self) -> bool {
        true
    }

    fn read_all<'a>(&'a self, replicas: &'a [FleetReplica]) -> BoxFuture<'a, Vec<(SignalName, Signal)>> {
        async move { vec![("rps".into(), self.0.read(replicas).await)] }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_is_asked_at_once_and_the_same_fleet_is_no_reason() {
    let source = Source::new(Signal::value(3.0));
    let poller = Poller::spawn(OfTheFleet(Arc::clone(&source)), PollOptions::default(), Clock::start(1.0));
    pass(15).await;
    let replica =
        FleetReplica { address: Some("127.0.0.1:1".to_owned()), ..FleetReplica::new("a", Phase::Ready) };
    let asked = source.asked();
    for _ in 0..10 {
        poller.replicas(std::slice::from_ref(&replica));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(source.asked(), asked + 1);
    assert_eq!(source.fleet.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_it_ends_its_task() {
    let source = Source::new(Signal::value(3.0));
    let poller = start(&source, 1.0);
    pass(15).await;
    drop(poller);
    pass(1).await;
    let asked = source.asked();
    pass(60).await;
    assert_eq!(source.asked(), asked);
    assert_eq!(Arc::strong_count(&source), 1, "the task has let go of its source");
}
