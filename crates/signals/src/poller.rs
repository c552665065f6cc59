//! Asks a source again and again, in a task of its own, and knows how old the last answer is.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use forewarm_control::{
    Clock,
    ports::{FleetReplica, SignalSet, SignalSource},
};
use forewarm_core::{Missing, Reading, Signal, SignalName};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::engine::{EngineScraper, EngineSignal};

/// Times a failed reading is tried again before its next turn.
const MAX_RETRIES: u32 = 2;
/// Share of the interval between such tries, before jitter halves it at most.
const RETRY_SHARE: f64 = 0.2;
/// The first reading comes within this time on the wall: soon, and pollers that start together not at once.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// Shortest time on the wall between two readings, whatever happens to the fleet.
const MIN_GAP: Duration = Duration::from_millis(100);

/// Signals that are read in one go.
pub trait SignalBatch: Send + Sync + 'static {
    /// Their names; always the same.
    fn names(&self) -> Vec<SignalName>;

    /// Whether what is read depends on which replicas there are, so that a change of the fleet is a reason to read.
    fn follows_the_fleet(&self) -> bool;

    /// Reads them once. Never an error: what could not be read says so.
    fn read_all<'a>(&'a self, replicas: &'a [FleetReplica]) -> BoxFuture<'a, Vec<(SignalName, Signal)>>;
}

/// One source under one name.
impl SignalBatch for (SignalName, Arc<dyn SignalSource>) {
    fn names(&self) -> Vec<SignalName> {
        vec![self.0.clone()]
    }

    fn follows_the_fleet(&self) -> bool {
        false
    }

    fn read_all<'a>(&'a self, replicas: &'a [FleetReplica]) -> BoxFuture<'a, Vec<(SignalName, Signal)>> {
        async move { vec![(self.0.clone(), self.1.read(replicas).await)] }.boxed()
    }
}

/// Several signals of the same engines, asked for once.
impl SignalBatch for (Arc<EngineScraper>, BTreeMap<SignalName, EngineSignal>) {
    fn names(&self) -> Vec<SignalName> {
        self.1.keys().cloned().collect()
    }

    fn follows_the_fleet(&self) -> bool {
        true
    }

    fn read_all<'a>(&'a self, replicas: &'a [FleetReplica]) -> BoxFuture<'a, Vec<(SignalName, Signal)>> {
        async move {
            let report = self.0.scrape(replicas).await;
            let missing = || Signal::missing(Missing::Absent);
            let signal = |signal| report.signals.get(signal).cloned().unwrap_or_else(missing);
            self.1.iter().map(|(name, source)| (name.clone(), signal(source))).collect()
        }
        .boxed()
    }
}

/// How often a source is asked.
#[derive(Clone, Copy, Debug)]
pub struct PollOptions {
    /// Time between two readings, modelled.
    pub interval: Duration,
    /// How long one reading may take in all, on the wall.
    pub timeout: Duration,
    /// How old the last value may get, in modelled time, before the reason why there is no newer one
    /// takes its place.
    pub keep_for: Duration,
}

impl PollOptions {
    /// HPA's and Prometheus' usual period.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);
    /// Longer than one engine may take, so that one dead replica does not void the others' answers.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
    /// Four missed readings.
    pub const DEFAULT_KEEP_FOR: Duration = Duration::from_secs(60);
}

impl Default for PollOptions {
    fn default() -> Self {
        Self {
            interval: Self::DEFAULT_INTERVAL,
            timeout: Self::DEFAULT_TIMEOUT,
            keep_for: Self::DEFAULT_KEEP_FOR,
        }
    }
}

/// The last known state of a batch of signals. Its task ends when this is dropped.
#[derive(Debug)]
pub struct Poller {
    shared: Arc<Shared>,
    replicas: watch::Sender<Vec<FleetReplica>>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    keep_for: Duration,
    kept: Mutex<BTreeMap<SignalName, Kept>>,
    /// Goes up whenever a reading differs from the one before.
    generation: watch::Sender<u64>,
    seen: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    /// The last reading that was a value or an answer.
    last: Option<(Instant, Signal)>,
    /// Why there is no newer one, if so.
    failure: Option<Missing>,
}

impl Poller {
    /// Starts asking. The first reading comes at a random moment of the first second, so that many pollers do not ask
    /// at once, then or later; that of engines as soon as the fleet is known.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(batch: impl SignalBatch, options: PollOptions, clock: Clock) -> Self {
        let not_read = || Kept { last: None, failure: Some(Missing::Failed("not read yet".to_owned())) };
        let shared = Arc::new(Shared {
            clock,
            keep_for: options.keep_for,
            kept: Mutex::new(batch.names().into_iter().map(|name| (name, not_read())).collect()),
            generation: watch::Sender::new(0),
            seen: AtomicU64::new(0),
        });
        let replicas = watch::Sender::new(Vec::new());
        let stop = CancellationToken::new();
        let task = poll(batch, options, Arc::clone(&shared), replicas.subscribe());
        tokio::spawn(stop.clone().run_until_cancelled_owned(task));
        Self { shared, replicas, _stop: stop.drop_guard() }
    }

    /// One signal as last read, its age up to date; `None` when the batch has no such name.
    pub fn signal(&self, name: &str) -> Option<Signal> {
        self.shared.lock().get(name).map(|kept| self.shared.signal(kept))
    }
}

impl SignalSet for Poller {
    fn latest(&self) -> Vec<(SignalName, Signal)> {
        let kept = self.shared.lock();
        self.shared.seen.store(*self.shared.generation.borrow(), Ordering::Relaxed);
        kept.iter().map(|(name, kept)| (name.clone(), self.shared.signal(kept))).collect()
    }

    fn replicas(&self, replicas: &[FleetReplica]) {
        self.replicas.send_if_modified(|known| {
            let changed = !same(known, replicas);
            *known = replicas.to_vec();
            changed
        });
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        let mut generation = self.shared.generation.subscribe();
        async move {
            let seen = &self.shared.seen;
            // The sender lives in `self`: waiting cannot fail.
            generation.wait_for(|now| *now != seen.load(Ordering::Relaxed)).await.ok();
        }
        .boxed()
    }
}

/// Whether the same replicas answer at the same places.
fn same(left: &[FleetReplica], right: &[FleetReplica]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| {
            (&left.id, left.phase, &left.address) == (&right.id, right.phase, &right.address)
        })
}

async fn poll(
    batch: impl SignalBatch,
    options: PollOptions,
    shared: Arc<Shared>,
    mut replicas: watch::Receiver<Vec<FleetReplica>>,
) {
    let interval = shared.clock.wall(options.interval).max(MIN_GAP);
    let follows_the_fleet = batch.follows_the_fleet();
    let mut next = Instant::now() + interval.min(FIRST_WITHIN).mul_f64(jitter());
    let mut retries = 0;
    let mut last: Option<Instant> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            changed = replicas.changed(), if follows_the_fleet => {
                if changed.is_err() {
                    return;
                }
                if let Some(last) = last {
                    tokio::time::sleep_until(last + MIN_GAP).await;
                }
            }
        }
        let fleet = replicas.borrow_and_update().clone();
        let started = Instant::now();
        last = Some(started);
        let readings = match tokio::time::timeout(options.timeout, batch.read_all(&fleet)).await {
            Ok(readings) => readings,
            Err(_) => {
                let reason = format!("no answer within {} s", options.timeout.as_secs_f64());
                let failed = |name| (name, Signal::missing(Missing::Failed(reason.clone())));
                batch.names().into_iter().map(failed).collect()
            }
        };
        let failed = readings.iter().any(|(_, signal)| is_failure(signal));
        shared.keep(readings);
        if failed && retries < MAX_RETRIES {
            retries += 1;
            let soon = interval.mul_f64(RETRY_SHARE * (1.0 - jitter() / 2.0));
            next = Instant::now() + soon.max(MIN_GAP);
        } else {
            retries = 0;
            next = (started + interval).max(Instant::now() + MIN_GAP);
        }
    }
}

fn is_failure(signal: &Signal) -> bool {
    matches!(signal.reading, Reading::Missing(Missing::Failed(_)))
}

/// A random share of 1, from the keys that the standard library draws for its hash maps.
fn jitter() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SignalName, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last value, its age grown; the failure once that is too old.
    fn signal(&self, kept: &Kept) -> Signal {
        let aged = kept.last.as_ref().map(|(at, signal)| {
            let age = signal.age + at.elapsed().mul_f64(self.clock.speed());
            Signal { reading: signal.reading.clone(), age }
        });
        match (aged, &kept.failure) {
            (Some(signal), None) => signal,
            (Some(signal), Some(_)) if signal.age <= self.keep_for => signal,
            (Some(signal), Some(Missing::Failed(reason))) => Signal::missing(Missing::Failed(format!(
                "{reason}; the last value is {:.0} s old",
                signal.age.as_secs_f64()
            ))),
            (_, Some(why)) => Signal::missing(why.clone()),
            (None, None) => Signal::missing(Missing::Absent),
        }
    }

    fn keep(&self, readings: Vec<(SignalName, Signal)>) {
        let mut kept = self.lock();
        let mut changed = false;
        for (name, signal) in readings {
            // A batch has the names it said it has; memory does not grow by others.
            let Some(entry) = kept.get_mut(&name) else { continue };
            let failure = match &signal.reading {
                Reading::Missing(why @ Missing::Failed(_)) => Some(why.clone()),
                Reading::Missing(_) | Reading::Value { .. } | Reading::Partial { .. } => None,
            };
            changed |= entry.failure != failure;
            entry.failure = failure;
            if entry.failure.is_none() {
                changed |= entry.last.as_ref().is_none_or(|(_, last)| last.reading != signal.reading);
                entry.last = Some((Instant::now(), signal));
            }
        }
        if changed {
            self.generation.send_modify(|generation| *generation += 1);
        }
    }
}
