//! A controller, a fleet of workers and the broker's queue as a signal, put together as `forewarm run` does it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use forewarm_control::{
    Clock, Controller, Snapshot, Store,
    ports::{Fleet, FleetReplica, SignalSet, SignalSource},
};
use forewarm_core::{Decision, Reason, Signal, SignalName, pool::Concurrency};
use forewarm_manifest::{CheckedScaler, read_scalers};
use forewarm_processes::{ProcessFleet, ProcessFleetConfig, Shutdown, Work};
use forewarm_signals::{PollOptions, Poller};
use futures_util::future::{BoxFuture, FutureExt};
use rustix::process::Pid;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{SAFETY_NET, account::Account, broker::Broker, within, worker};

/// Workers at most.
pub(crate) const MOST: u32 = 6;

/// What runs.
pub(crate) struct Stage {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    decided: broadcast::Receiver<Arc<Decision>>,
    counts: Arc<Counts>,
    fleet: Arc<ProcessFleet>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    account: PathBuf,
    _state: tempfile::TempDir,
}

/// What decisions came to.
#[derive(Default)]
struct Counts {
    most: AtomicUsize,
    taken_away: AtomicUsize,
    taken_away_while_blind: AtomicUsize,
}

/// What the fleet's processes are, and what they are scaled on.
pub(crate) struct Rules {
    /// In YAML's flow style.
    pub(crate) signal: String,
    pub(crate) policy: String,
    /// How old a count may get.
    pub(crate) max_age: &'static str,
    pub(crate) work: Work,
    /// How often the queue may be counted; as often as it is due, if this is not said.
    pub(crate) counts: Option<Arc<Semaphore>>,
}

impl Rules {
    /// Workers, each worth six messages.
    pub(crate) fn workers<B: Broker>(broker: &B, folder: &Path) -> Self {
        let policy = format!("perReplica: 6, inFlight: waiting{}", broker.policy());
        Self { signal: broker.signal(folder), policy, max_age: "4s", work: Work::Taken, counts: None }
    }

    fn manifest(&self) -> CheckedScaler {
        let Self { signal, policy, max_age, .. } = self;
        let text = format!(
            "\
apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {{name: batch}}
spec:
  target: {{processes: {{command: [worker]}}}}
  environment: batch
  replicas: {{min: 0, max: {MOST}}}
  coldStart: {{expected: 1s}}
  behavior: {{scaleDown: {{stabilizationWindowSeconds: 0}}}}
  maxSignalAge: {max_age}
  maxChangesPerMinute: 1000
  signals:
    - name: waiting
      {signal}
  policy: {{queue: {{{policy}}}}}
"
        );
        read_scalers("batch.yaml", &text).unwrap_or_else(|problems| panic!("{problems}")).remove(0)
    }
}

/// A source that is read as often as somebody says.
struct Counted {
    source: Arc<dyn SignalSource>,
    counts: Arc<Semaphore>,
}

impl SignalSource for Counted {
    fn read<'a>(&'a self, replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move {
            self.counts.acquire().await.unwrap().forget();
            self.source.read(replicas).await
        }
        .boxed()
    }
}

impl Stage {
    pub(crate) async fn start<B: Broker>(
        broker: &B,
        account: &Account,
        rules: impl FnOnce(&B, &Path) -> Rules,
    ) -> Self {
        let state = tempfile::tempdir().unwrap();
        let rules = rules(broker, state.path());
        let CheckedScaler { spec, queue, routing, signals, .. } = rules.manifest();
        let clock = Clock::start(1.0);
        let program = std::env::current_exe().unwrap().display().to_string();
        let part = if rules.work == Work::Job { "worker::job" } else { "worker::work" };
        let arguments = ["--exact", part, "--ignored", "--nocapture"].map(str::to_owned);
        let environment = [
            (worker::BROKER.to_owned(), broker.address()),
            (worker::ACCOUNT.to_owned(), account.folder().display().to_string()),
        ];
        let config = ProcessFleetConfig {
            work: rules.work,
            env: environment.into(),
            ..ProcessFleetConfig::new(
                [vec![program], arguments.to_vec()].concat(),
                state.path().join("fleet"),
            )
        };
        let fleet = Arc::new(ProcessFleet::open(config).unwrap());
        let sources = broker.sources(clock).await;
        let options = PollOptions {
            interval: Duration::from_secs(1),
            // Who may not count yet waits.
            timeout: if rules.counts.is_some() { SAFETY_NET } else { Duration::from_secs(2) },
            keep_for: spec.max_signal_age,
        };
        let mut sets: Vec<Arc<dyn SignalSet>> = Vec::new();
        for signal in &signals {
            let source = sources.source(&signal.source, options.timeout, Duration::ZERO).unwrap().unwrap();
            let source = match &rules.counts {
                Some(counts) => Arc::new(Counted { source, counts: Arc::clone(counts) }),
                None => source,
            };
            sets.push(Arc::new(Poller::spawn(
                (SignalName::from(signal.name.as_str()), source),
                options,
                clock,
            )));
        }
        let (snapshots, snapshots_rx) = watch::channel(None);
        let (decisions, decisions_rx) = broadcast::channel(4096);
        let decided = decisions.subscribe();
        let (commands, commands_rx) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let controller = Controller {
            spec,
            models: Vec::new(),
            queue,
            routing,
            concurrency: Concurrency::default(),
            kv_tokens: None,
            speaks_tls: false,
            fleet: Arc::clone(&fleet) as Arc<dyn Fleet>,
            gateway: None,
            signals: sets,
            store: Arc::new(Store::open(state.path()).unwrap()),
            clock,
            snapshots,
            decisions,
        };
        let (counts, stop) = (Arc::<Counts>::default(), shutdown.clone());
        tokio::spawn(count(decisions_rx, Arc::clone(&counts)));
        let task = tokio::spawn(async move {
            controller.run(commands_rx, stop).await.unwrap();
            drop((commands, sources));
        });
        Self {
            snapshots: snapshots_rx,
            decided,
            counts,
            fleet,
            shutdown,
            task,
            account: account.folder(),
            _state: state,
        }
    }

    /// Waits until what was seen and decided is so.
    pub(crate) async fn until(&mut self, what: &str, predicate: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let seen = self.snapshots.wait_for(|seen| seen.as_ref().is_some_and(|seen| predicate(seen)));
        Arc::clone(within(what, seen).await.unwrap().as_ref().unwrap())
    }

    /// Waits for a decision for such a reason: one that acts, or one that leaves all as it is.
    pub(crate) async fn decision(
        &mut self,
        what: &str,
        predicate: impl Fn(&Reason) -> bool,
    ) -> Arc<Decision> {
        let found = async {
            loop {
                let decision = tokio::select! {
                    acts = self.decided.recv() => acts.unwrap(),
                    changed = self.snapshots.changed() => {
                        changed.unwrap();
                        let Some(seen) = self.snapshots.borrow_and_update().clone() else { continue };
                        Arc::clone(&seen.decision)
                    }
                };
                if decision.steps.iter().any(|step| predicate(&step.reason)) {
                    return decision;
                }
            }
        };
        within(what, found).await
    }

    /// The most workers that were wanted.
    pub(crate) fn most(&self) -> usize {
        self.counts.most.load(Ordering::SeqCst)
    }

    /// Workers that were told to go.
    pub(crate) fn taken_away(&self) -> usize {
        self.counts.taken_away.load(Ordering::SeqCst)
    }

    /// Those of them while the queue could not be read.
    pub(crate) fn taken_away_while_blind(&self) -> usize {
        self.counts.taken_away_while_blind.load(Ordering::SeqCst)
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap();
        self.fleet.shutdown(Shutdown::StopAll).await.unwrap();
    }
}

impl Drop for Stage {
    /// A test that fails leaves no worker behind either.
    fn drop(&mut self) {
        for process in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let own = format!("{}={}", worker::ACCOUNT, self.account.display());
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid
                && environment.split(|&byte| byte == 0).any(|pair| pair == own.as_bytes())
            {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
    }
}

async fn count(mut decisions: broadcast::Receiver<Arc<Decision>>, counts: Arc<Counts>) {
    while let Ok(decision) = decisions.recv().await {
        counts.most.fetch_max(decision.to.0 as usize, Ordering::SeqCst);
        let gone = decision.placement.drain.len() + decision.placement.stop.len();
        counts.taken_away.fetch_add(gone, Ordering::SeqCst);
        if decision.steps.iter().any(|step| step.reason.label() == "held_on_missing") {
            counts.taken_away_while_blind.fetch_add(gone, Ordering::SeqCst);
        }
    }
}
