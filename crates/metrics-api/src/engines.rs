//! Engines, asked when somebody asks for them, and not again for those who ask at the same time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forewarm_control::{Clock, ports::FleetReplica};
use forewarm_core::{Phase, Reading, ReplicaId, Signal};
use forewarm_signals::engine::{
    EngineAccess, EngineKind, EngineReport, EngineScraper, EngineSignal, ScrapeError, ScrapeOptions,
};
use tokio::time::Instant;

use crate::pods::{Choice, ReadyPod};

/// An answer younger than this is given again: an HPA asks for one metric after the other.
const FRESH: Duration = Duration::from_secs(1);
/// What nobody asked for this long is forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// How engines are asked.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Which engine pods run that do not say.
    pub kind: EngineKind,
    /// The port of pods that do not say.
    pub port: u16,
    /// How they are reached.
    pub access: EngineAccess,
    /// How long a pod's last answer stands in for one that did not come.
    pub keep_for: Duration,
}

impl Default for EngineOptions {
    /// vLLM at its port.
    fn default() -> Self {
        let access = EngineAccess::default();
        Self { kind: EngineKind::Vllm, port: 8000, access, keep_for: ScrapeOptions::DEFAULT_KEEP_FOR }
    }
}

/// A pod's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Value {
    pub(crate) value: f64,
    /// How old the reading is.
    pub(crate) age: Duration,
    /// The time that a rate is over.
    pub(crate) window: Option<Duration>,
}

/// Values by pod; who has none is not there.
pub(crate) type PodValues = BTreeMap<String, Value>;

/// The engines of every choice that somebody asked for.
pub(crate) struct Engines {
    options: EngineOptions,
    clock: Clock,
    groups: Mutex<BTreeMap<(Choice, &'static str), Arc<Group>>>,
}

/// Pods that are asked for together, of one engine.
struct Group {
    scraper: EngineScraper,
    last: tokio::sync::Mutex<Option<Round>>,
    used: Mutex<Instant>,
}

struct Round {
    at: Instant,
    /// Since the round before.
    window: Option<Duration>,
    asked: Vec<(ReplicaId, Option<String>)>,
    report: EngineReport,
}

impl Engines {
    pub(crate) fn new(options: EngineOptions) -> Self {
        Self { options, clock: Clock::start(1.0), groups: Mutex::default() }
    }

    pub(crate) fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// What each pod's engine says now.
    pub(crate) async fn read(
        &self,
        choice: &Choice,
        pods: &[ReadyPod],
        signal: EngineSignal,
    ) -> Result<PodValues, ScrapeError> {
        let mut values = PodValues::new();
        for kind in EngineKind::ALL {
            let replicas: Vec<FleetReplica> =
                pods.iter().filter(|pod| pod.kind == kind).map(ReadyPod::replica).collect();
            if !replicas.is_empty() {
                values.extend(self.group(choice, kind)?.read(choice, &replicas, signal).await);
            }
        }
        Ok(values)
    }

    fn group(&self, choice: &Choice, kind: EngineKind) -> Result<Arc<Group>, ScrapeError> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|_, group| group.used().elapsed() < FORGET);
        let key = (choice.clone(), kind.label());
        if let Some(group) = groups.get(&key) {
            *group.used() = Instant::now();
            return Ok(Arc::clone(group));
        }
        let EngineOptions { access, keep_for, .. } = self.options.clone();
        let options = ScrapeOptions { access, keep_for, ..ScrapeOptions::of(kind) };
        let scraper = EngineScraper::new(options, self.clock)?;
        let used = Mutex::new(Instant::now());
        let group = Arc::new(Group { scraper, last: tokio::sync::Mutex::default(), used });
        groups.insert(key, Arc::clone(&group));
        Ok(group)
    }
}

impl Group {
    fn used(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, choice: &Choice, replicas: &[FleetReplica], signal: EngineSignal) -> PodValues {
        let asked: Vec<(ReplicaId, Option<String>)> =
            replicas.iter().map(|replica| (replica.id.clone(), replica.address.clone())).collect();
        // Who comes second waits for the first one's answers, and takes them.
        let mut last = self.last.lock().await;
        let fresh = last.as_ref().is_some_and(|round| round.at.elapsed() < FRESH && round.asked == asked);
        if !fresh {
            let at = Instant::now();
            let window = last.as_ref().map(|before| at.duration_since(before.at));
            let report = self.scraper.scrape(replicas).await;
            for (pod, error) in &report.silent {
                tracing::warn!(%pod, %error, "no metrics of one of the {choice}");
            }
            *last = Some(Round { at: Instant::now(), window, asked, report });
        }
        let Some(round) = last.as_ref() else { return PodValues::new() };
        let Some(read) = round.report.signals.get(&signal) else { return PodValues::new() };
        let window = matches!(signal, EngineSignal::Rate(_)).then_some(round.window).flatten();
        by_pod(read, round.at.elapsed(), window)
    }
}

fn by_pod(signal: &Signal, since: Duration, window: Option<Duration>) -> PodValues {
    let shares = match &signal.reading {
        Reading::Value { per_replica, .. } | Reading::Partial { per_replica, .. } => per_replica,
        Reading::Missing(_) => return PodValues::new(),
    };
    let value = |value: &f64| Value { value: *value, age: signal.age + since, window };
    shares.iter().map(|(pod, share)| (pod.as_str().to_owned(), value(share))).collect()
}

impl ReadyPod {
    fn replica(&self) -> FleetReplica {
        FleetReplica { address: self.address.clone(), ..FleetReplica::new(self.name.as_str(), Phase::Ready) }
    }
}
