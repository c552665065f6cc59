//! A controller with a fleet in memory that follows one signal of a real server.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use forewarm_control::{
    Clock, Controller, Snapshot, Store, StoreError,
    ports::{Fleet, SignalSet, SignalSource as Source},
};
use forewarm_core::{
    Behavior, Bounds, Decision, Environment, Policy, QueueDepth, Reason, Replicas, Requests, ScalerSpec,
    pool::{Concurrency, QueueLimits, Tenants},
};
use forewarm_signals::{PollOptions, Poller};
use forewarm_testkit::FakeFleet;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Messages that one replica is worth.
pub(crate) const PER_REPLICA: usize = 10;
/// How old a value may get before it proves nothing.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(2);
/// Longer than any server here takes to start on a busy machine.
const LONG: Duration = Duration::from_secs(180);

/// A controller that runs.
pub(crate) struct Stage {
    pub(crate) fleet: Arc<FakeFleet>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    decisions: broadcast::Receiver<Arc<Decision>>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), StoreError>>,
    // A controller that nobody can command any more would spin.
    _commands: mpsc::Sender<forewarm_control::Command>,
}

impl Stage {
    /// Reads the source that `of` makes for a clock and a timeout five times a second, and scales at once whatever it
    /// says.
    pub(crate) fn start(state: &Path, of: impl FnOnce(Clock, Duration) -> Arc<dyn Source>) -> Self {
        let clock = Clock::start(1.0);
        let options = PollOptions {
            interval: Duration::from_millis(200),
            timeout: Duration::from_secs(1),
            keep_for: MAX_AGE,
        };
        let poller = Poller::spawn(("queued".into(), of(clock, options.timeout)), options, clock);
        let per_replica = Requests::new(PER_REPLICA as f64).unwrap();
        let policy = Policy::QueueDepth(QueueDepth { per_replica, pre_warm: None });
        let spec = ScalerSpec {
            environment: Environment::Dev,
            behavior: Behavior::pass_through(),
            max_signal_age: MAX_AGE,
            max_changes_per_minute: 1000,
            ..ScalerSpec::new("workers", Bounds::new(0, 8).unwrap(), policy)
        };
        let fleet = Arc::new(FakeFleet::ready(1));
        let (snapshots, snapshots_rx) = watch::channel(None);
        let (decisions, decisions_rx) = broadcast::channel(4096);
        let (commands, commands_rx) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let controller = Controller {
            spec,
            models: Vec::new(),
            queue: QueueLimits {
                max_requests: 1,
                max_bytes: 1,
                timeout: MAX_AGE,
                cold_start_timeout: MAX_AGE,
                ttft_objective: None,
                tenants: Tenants { header: None, user: false, weights: BTreeMap::new() },
            },
            routing: Default::default(),
            concurrency: Concurrency::default(),
            kv_tokens: None,
            speaks_tls: false,
            fleet: Arc::clone(&fleet) as Arc<dyn Fleet>,
            gateway: None,
            signals: vec![Arc::new(poller) as Arc<dyn SignalSet>],
            store: Arc::new(Store::open(state).unwrap()),
            clock,
            snapshots,
            decisions,
        };
        let task = tokio::spawn(controller.run(commands_rx, shutdown.clone()));
        Self { fleet, snapshots: snapshots_rx, decisions: decisions_rx, shutdown, task, _commands: commands }
    }

    /// Waits until a snapshot is so, and says what was seen last when none ever is.
    async fn until(&mut self, what: &str, is: impl Fn(&Snapshot) -> bool) {
        let found = self.snapshots.wait_for(|seen| seen.as_ref().is_some_and(|seen| is(seen)));
        if tokio::time::timeout(LONG, found).await.is_err() {
            let seen = self.snapshots.borrow().clone();
            let seen = seen.map(|seen| (seen.observation.signals.clone(), seen.decision.summary()));
            panic!("{what}: not within {LONG:?}, but {seen:?}");
        }
    }

    /// Waits until so many replicas are wanted.
    pub(crate) async fn until_wanted(&mut self, replicas: u32) {
        let what = format!("{replicas} replicas");
        self.until(&what, |seen| seen.decision.to == Replicas(replicas)).await;
    }

    /// Waits until the number is held because the signal says nothing, in words that contain `words`.
    pub(crate) async fn until_held(&mut self, words: &str) {
        let says = |reason: &Reason| {
            matches!(reason, Reason::HeldOnMissing { .. }) && reason.to_string().contains(words)
        };
        let what = format!("held with `{words}`");
        self.until(&what, |seen| seen.decision.steps.iter().any(|step| says(&step.reason))).await;
    }

    /// Everything that was decided since the last call.
    pub(crate) fn decided(&mut self) -> Vec<Arc<Decision>> {
        let mut decided = Vec::new();
        while let Ok(decision) = self.decisions.try_recv() {
            decided.push(decision);
        }
        decided
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}
