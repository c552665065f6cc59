//! The loop against fakes, in virtual time, and against what a crash leaves behind.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use forewarm_control::{
    Clock, Command, Controller, KV_TOKENS, Snapshot, Store, StoreError,
    journal::Record,
    ports::{Fleet, FleetReplica, Gateway, SignalSet},
    replay,
};
use forewarm_core::{
    Bounds, Decision, Environment, Missing, Observation, Pause, Phase, Policy, QueueDepth, Reading, Replica,
    ReplicaId, Replicas, Requests, ScalerSpec, ScalerState, Signal, SignalName, Timestamp, plan,
    pool::{Concurrency, QueueLimits, Tenants},
};
use forewarm_testkit::{FakeFleet, FakeGateway};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

const QUEUE: QueueLimits = QueueLimits {
    max_requests: 100,
    max_bytes: 1 << 20,
    timeout: Duration::from_secs(60),
    cold_start_timeout: Duration::from_secs(900),
    ttft_objective: Some(Duration::from_secs(5)),
    tenants: Tenants { header: None, user: false, weights: BTreeMap::new() },
};

fn spec() -> ScalerSpec {
    let policy = Policy::QueueDepth(QueueDepth { per_replica: Requests::new(5.0).unwrap(), pre_warm: None });
    ScalerSpec {
        environment: Environment::Dev,
        ..ScalerSpec::new("llama3", Bounds::new(0, 8).unwrap(), policy)
    }
}

/// A running controller and what a test needs of it.
struct Running {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    decisions: broadcast::Receiver<Arc<Decision>>,
    commands: mpsc::Sender<Command>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), StoreError>>,
}

impl Running {
    fn start(directory: &Path, spec: ScalerSpec, fleet: &Arc<FakeFleet>, gateway: &Arc<FakeGateway>) -> Self {
        Self::start_with(directory, spec, fleet, gateway, |_| ())
    }

    fn start_with(
        directory: &Path,
        spec: ScalerSpec,
        fleet: &Arc<FakeFleet>,
        gateway: &Arc<FakeGateway>,
        change: impl FnOnce(&mut Controller),
    ) -> Self {
        let (snapshots, snapshots_rx) = watch::channel(None);
        let (decisions, decisions_rx) = broadcast::channel(64);
        let (commands, commands_rx) = mpsc::channel(4);
        let shutdown = CancellationToken::new();
        let mut controller = Controller {
            spec,
            models: vec!["llama3".to_owned()],
            queue: QUEUE,
            routing: Default::default(),
            concurrency: Concurrency::default(),
            kv_tokens: None,
            speaks_tls: false,
            fleet: Arc::clone(fleet) as Arc<dyn Fleet>,
            gateway: Some(Arc::clone(gateway) as Arc<dyn Gateway>),
            signals: Vec::new(),
            store: Arc::new(Store::open(directory).unwrap()),
            clock: Clock::start(1.0),
            snapshots,
            decisions,
        };
        change(&mut controller);
        let task = tokio::spawn(controller.run(commands_rx, shutdown.clone()));
        Self { snapshots: snapshots_rx, decisions: decisions_rx, commands, shutdown, task }
    }

    /// Waits until a snapshot satisfies the predicate.
    async fn until(&mut self, predicate: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let found =
            self.snapshots.wait_for(|snapshot| snapshot.as_ref().is_some_and(|snapshot| predicate(snapshot)));
        Arc::clone(found.await.unwrap().as_ref().unwrap())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends it between two awaits, as `kill -9` does.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_on_an_idle_fleet_is_acted_on_at_once_and_served_when_ready() {
    let directory = tempfile::tempdir().unwrap();
    let (fleet, gateway) = (Arc::new(FakeFleet::default()), Arc::new(FakeGateway::default()));
    let mut running = Running::start(directory.path(), spec(), &fleet, &gateway);
    running.until(|snapshot| snapshot.decision.to == Replicas(0)).await;
    let quiet = tokio::time::Instant::now();
    gateway.set_report(|report| (report.queued, report.arrived_total) = (12, 12));
    let decision = running.decisions.recv().await.unwrap();
    assert_eq!((decision.from, decision.to, decision.placement.start), (Replicas(0), Replicas(3), 3));
    // In virtual time: at once, or after the gap that gathers a storm; not at the next tick of 15 s.
    assert!(quiet.elapsed() <= Duration::from_millis(20), "{:?}", quiet.elapsed());
    assert_eq!(gateway.plans().last().unwrap().ready_in_seconds, Some(240.0));
    assert!(gateway.plans().last().unwrap().endpoints.is_empty());
    fleet.set_phase("r-0", Phase::Ready);
    running.until(|snapshot| snapshot.observation.count(Phase::Ready) == 1).await;
    assert_eq!(gateway.plans().last().unwrap().endpoints[0].address, "r-0.test:8000");
    running.stop().await;
}

/// Says what the first replica's KV cache holds, and nothing of the others'.
struct KvOfTheFirst;

impl SignalSet for KvOfTheFirst {
    fn latest(&self) -> Vec<(SignalName, Signal)> {
        let per_replica = [(ReplicaId::from("r-0"), 24_000.0)].into();
        let reading = Reading::Partial { total: 24_000.0, per_replica, reporting: 1, expected: 2 };
        vec![(SignalName::from(KV_TOKENS), Signal { reading, age: Duration::ZERO })]
    }

    fn replicas(&self, _: &[FleetReplica]) {}

    fn changed(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn the_gateway_is_told_what_a_replica_bears_as_configured_or_as_its_engine_says() {
    let learned = Concurrency { learned: true, slow_start: true };
    for (configured, expected) in [(None, [Some(24_000), None]), (Some(9_000), [Some(9_000), Some(9_000)])] {
        let directory = tempfile::tempdir().unwrap();
        let (fleet, gateway) = (Arc::new(FakeFleet::ready(2)), Arc::new(FakeGateway::default()));
        let mut running = Running::start_with(directory.path(), spec(), &fleet, &gateway, |controller| {
            controller.signals = vec![Arc::new(KvOfTheFirst)];
            (controller.kv_tokens, controller.concurrency) = (configured, learned);
            controller.speaks_tls = configured.is_some();
        });
        running.until(|_| true).await;
        let plan = gateway.plans().pop().unwrap();
        assert_eq!(plan.endpoints.iter().map(|endpoint| endpoint.kv_tokens).collect::<Vec<_>>(), expected);
        assert_eq!(plan.concurrency, learned);
        let over_tls = plan.endpoints.iter().all(|endpoint| endpoint.address.starts_with("https://"));
        assert_eq!(over_tls, configured.is_some(), "{plan:?}");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn scale_down_drains_at_the_gateway_before_the_fleet_stops_anything() {
    let directory = tempfile::tempdir().unwrap();
    let (fleet, gateway) = (Arc::new(FakeFleet::ready(2)), Arc::new(FakeGateway::default()));
    gateway.set_report(|report| {
        report.in_flight = [("r-0".into(), 1), ("r-1".into(), 3)].into();
    });
    let mut running = Running::start(directory.path(), spec(), &fleet, &gateway);
    let drained = running.decisions.recv().await.unwrap();
    assert_eq!(drained.placement.drain, ["r-0".into()], "the one with the least work");
    running.until(|snapshot| snapshot.observation.count(Phase::Draining) == 1).await;
    let endpoints = gateway.plans().last().unwrap().endpoints.clone();
    assert_eq!(endpoints.iter().map(|endpoint| endpoint.draining).collect::<Vec<_>>(), [true, false]);
    assert!(fleet.applied().iter().all(|placement| placement.stop.is_empty()), "a stream is still running");
    gateway.set_report(|report| report.in_flight = [("r-0".into(), 0), ("r-1".into(), 3)].into());
    let stopped = running.decisions.recv().await.unwrap();
    assert_eq!(stopped.placement.stop, ["r-0".into()]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_replica_serves_again_when_the_load_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let (fleet, gateway) = (Arc::new(FakeFleet::ready(2)), Arc::new(FakeGateway::default()));
    gateway.set_report(|report| report.in_flight = [("r-0".into(), 1), ("r-1".into(), 3)].into());
    let mut running = Running::start(directory.path(), spec(), &fleet, &gateway);
    assert_eq!(running.decisions.recv().await.unwrap().placement.drain, ["r-0".into()]);
    running.until(|snapshot| snapshot.observation.count(Phase::Draining) == 1).await;
    gateway.set_report(|report| report.queued = 10);
    let back = running.decisions.recv().await.unwrap();
    assert_eq!((back.to, back.placement.start), (Replicas(2), 0));
    assert_eq!(back.placement.revive, ["r-0".into()]);
    running.until(|snapshot| snapshot.observation.count(Phase::Ready) == 2).await;
    let endpoints = gateway.plans().last().unwrap().endpoints.clone();
    assert!(endpoints.len() == 2 && endpoints.iter().all(|endpoint| !endpoint.draining), "{endpoints:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_gateway_or_fleet_holds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let (fleet, gateway) = (Arc::new(FakeFleet::ready(4)), Arc::new(FakeGateway::default()));
    gateway.set_unreachable(true);
    let mut running = Running::start(directory.path(), spec(), &fleet, &gateway);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let held = running.until(|_| true).await;
    assert_eq!(held.decision.to, Replicas(4));
    assert_eq!(held.decision.steps[0].reason.label(), "held_on_missing");
    gateway.set_unreachable(false);
    fleet.set_unreachable(true);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let held = running.until(|snapshot| snapshot.observation.fleet_error.is_some()).await;
    assert_eq!(held.decision.to, Replicas(4));
    assert!(fleet.applied().is_empty());
    assert!(gateway.plans().iter().all(|plan| plan.endpoints.len() == 4), "the last plan stays");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_gateway_counts_is_a_signal_and_missing_while_it_is_silent() {
    const TOTALS: [&str; 5] =
        ["arrivals_total", "busy_seconds_total", "completed_total", "attained_total", "missed_total"];
    let directory = tempfile::tempdir().unwrap();
    let (fleet, gateway) = (Arc::new(FakeFleet::ready(1)), Arc::new(FakeGateway::default()));
    gateway.set_report(|report| {
        (report.arrived_total, report.completed_total) = (9, 8);
        (report.attained_total, report.missed_total) = (6, 2);
        report.busy_seconds_total = 12.25;
    });
    let mut running = Running::start(directory.path(), spec(), &fleet, &gateway);
    let snapshot = running.until(|_| true).await;
    let found = TOTALS.map(|name| snapshot.observation.signals[name].clone());
    assert_eq!(found, [9.0, 12.25, 8.0, 6.0, 2.0].map(Signal::value));
    assert_eq!(gateway.plans().last().unwrap().queue.ttft_objective, Some(Duration::from_secs(5)));
    gateway.set_unreachable(true);
    let snapshot = running.until(|snapshot| snapshot.report.is_none()).await;
    for name in TOTALS.into_iter().chain(["queued", "in_flight"]) {
        let Reading::Missing(Missing::Failed(why)) = &snapshot.observation.signals[name].reading else {
            panic!("`{name}` is not missing");
        };
        assert!(why.contains("the fake gateway is unreachable"), "{name}: {why}");
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_is_killed_forgets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (fleet, gateway) = (Arc::new(FakeFleet::default()), Arc::new(FakeGateway::default()));
    gateway.set_report(|report| report.queued = 9);
    let mut first = Running::start(directory.path(), spec(), &fleet, &gateway);
    drop(first.decisions.recv().await.unwrap());
    first.kill().await;
    // The queue is gone, but the wish of a moment ago is still in the window.
    gateway.set_report(|report| report.queued = 0);
    let mut second = Running::start(directory.path(), spec(), &fleet, &gateway);
    let snapshot = second.until(|_| true).await;
    assert_eq!((snapshot.decision.from, snapshot.decision.to), (Replicas(2), Replicas(2)));
    assert!(snapshot.decision.steps.iter().any(|step| step.reason.label() == "stabilised"));
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_was_written_but_not_acted_on_is_acted_on_after_the_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (fleet, gateway) = (Arc::new(FakeFleet::default()), Arc::new(FakeGateway::default()));
    gateway.set_report(|report| report.queued = 9);
    let mut first = Running::start(directory.path(), spec(), &fleet, &gateway);
    drop(first.decisions.recv().await.unwrap());
    first.kill().await;
    // The crash came between the journal and the fleet: nothing was started.
    let nothing_started = Arc::new(FakeFleet::default());
    let mut second = Running::start(directory.path(), spec(), &nothing_started, &gateway);
    let decision = second.decisions.recv().await.unwrap();
    assert_eq!((decision.from, decision.to, decision.placement.start), (Replicas(2), Replicas(2), 2));
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_checked_obeyed_and_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (fleet, gateway) = (Arc::new(FakeFleet::ready(1)), Arc::new(FakeGateway::default()));
    let mut running = Running::start(directory.path(), spec(), &fleet, &gateway);
    let now = running.until(|_| true).await.observation.at;
    let pause = |replicas| Pause { replicas: Replicas(replicas), until: now + Duration::from_secs(600) };
    let ask = async |running: &Running, pause: Pause| {
        let (reply, answer) = oneshot::channel();
        running.commands.send(Command::Pause(pause, reply)).await.unwrap();
        answer.await.unwrap()
    };
    let refused = ask(&running, pause(9)).await.unwrap_err();
    assert_eq!(refused.to_string(), "`replicas` is 9: at most 8 are allowed by `spec.replicas.max`");
    ask(&running, pause(3)).await.unwrap();
    running.until(|snapshot| snapshot.decision.to == Replicas(3)).await;
    running.kill().await;
    let mut again = Running::start(directory.path(), spec(), &fleet, &gateway);
    let held = again.until(|_| true).await;
    assert_eq!((held.decision.from, held.decision.to), (Replicas(3), Replicas(3)));
    assert_eq!(held.decision.limit().map(|step| step.reason.label()), Some("paused"));
    again.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_live_journal_replays_to_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (fleet, gateway) = (Arc::new(FakeFleet::ready(1)), Arc::new(FakeGateway::default()));
    let mut running = Running::start(directory.path(), spec(), &fleet, &gateway);
    for step in 0_u64..300 {
        gateway.set_report(|report| {
            report.queued = (step * 7) % 31;
            report.arrived_total += 3;
            report.in_flight = [("r-0".into(), (step % 8) as u32)].into();
        });
        if step % 40 == 20 {
            let coming = fleet.phases().into_iter().find(|(_, phase)| phase.is_coming());
            coming.iter().for_each(|(id, _)| fleet.set_phase(id.as_str(), Phase::Ready));
        }
        tokio::time::sleep(Duration::from_millis(1_237 * (step % 9))).await;
    }
    running.until(|_| true).await;
    running.stop().await;
    let store = Store::open(directory.path()).unwrap();
    let records = store.journal(&"llama3".into()).unwrap();
    assert!(matches!(records[0], Record::Checkpoint { .. }));
    let replayed = replay(&records);
    assert!(replayed.decisions > 200, "{}", replayed.decisions);
    assert!(replayed.mismatches.is_empty(), "{:#?}", replayed.mismatches[0]);
}

#[test]
fn the_journal_is_bounded_by_age_and_what_is_left_replays() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (spec, mut state) = (spec(), ScalerState::default());
    store.checkpoint(&spec, &state).unwrap();
    // Ten minutes apart: a week has 1,008 of them.
    for step in 0..3_500_i64 {
        let observation = Observation {
            at: Timestamp::from_millis(step * 600_000),
            replicas: vec![Replica::new("r-0", Phase::Ready)],
            signals: [("queued".into(), Signal::value((step % 5) as f64 + 1.0))].into(),
            ..Observation::default()
        };
        let decision = plan(&spec, &mut state, &observation);
        assert!(!decision.acts(), "this test does not wait for the disk");
        store.decided(&spec, &state, &observation, &decision).unwrap();
    }
    let records = store.journal(&"llama3".into()).unwrap();
    assert!(matches!(records[0], Record::Checkpoint { .. }));
    let replayed = replay(&records);
    // A week, and at most the two segments that it begins and ends in.
    assert!((1_008..3_010).contains(&replayed.decisions), "{}", replayed.decisions);
    assert!(replayed.mismatches.is_empty(), "{:#?}", replayed.mismatches[0]);
}

#[test]
fn state_that_cannot_be_used_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.redb");
    std::fs::write(&file, b"this is no database").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"this is no database");

    let directory = tempfile::tempdir().unwrap();
    let held = Store::open(directory.path()).unwrap();
    assert!(matches!(Store::open(directory.path()).unwrap_err(), StoreError::InUse(_)));
    drop(held);
    Store::open(directory.path()).unwrap();
}
