//! Asks every replica of a fleet for its metrics, and remembers what each said last.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forewarm_control::{
    Clock,
    ports::{FleetReplica, SignalSource},
};
use forewarm_core::{Missing, Phase, ReplicaId, Signal};
use futures_util::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream,
};
use tokio::time::Instant;

use super::{
    EngineAccess, EngineClient, EngineKind, EngineMetric, EngineReading, EngineSignal, ScrapeError,
    combine::{Share, combine},
};

/// Most replicas asked at the same time: keeps sockets few, and with the default timeout a fleet of a
/// thousand dead replicas is through in half a minute.
pub const MAX_CONCURRENT_SCRAPES: usize = 64;

/// How engines are asked.
#[derive(Clone, Debug)]
pub struct ScrapeOptions {
    /// Which engine they are.
    pub kind: EngineKind,
    /// Where their metrics are: `/metrics`.
    pub path: String,
    /// How they are reached.
    pub access: EngineAccess,
    /// How long one may take to answer, on the wall.
    pub timeout: Duration,
    /// How long a replica's last answer stands in for one that did not come, in modelled time.
    pub keep_for: Duration,
}

impl ScrapeOptions {
    /// Under load llama.cpp took 2.5 s to answer and vLLM 0.02 s, as measured: 5 s leaves room for both.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
    /// Four missed answers of a source that is polled every 15 s.
    pub const DEFAULT_KEEP_FOR: Duration = Duration::from_secs(60);

    /// The defaults for an engine.
    pub fn of(kind: EngineKind) -> Self {
        Self {
            kind,
            path: "/metrics".to_owned(),
            access: EngineAccess::default(),
            timeout: Self::DEFAULT_TIMEOUT,
            keep_for: Self::DEFAULT_KEEP_FOR,
        }
    }
}

/// What one round of asking gave.
#[derive(Debug)]
pub struct EngineReport {
    /// Every signal, missing ones with the reason.
    pub signals: BTreeMap<EngineSignal, Signal>,
    /// Why a replica did not answer in this round.
    pub silent: BTreeMap<ReplicaId, ScrapeError>,
}

/// Scrapes a fleet's engines.
///
/// Asked are the replicas that are ready and those that drain. A ready one that does not answer makes
/// every signal partial once its last answer is older than [`ScrapeOptions::keep_for`]; a draining one may
/// go at any time, so its silence is not missed. Totals are sums over replicas, also of shares of a cache.
#[derive(Debug)]
pub struct EngineScraper {
    client: EngineClient,
    options: ScrapeOptions,
    clock: Clock,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// By replica; those that are gone are forgotten.
    answers: BTreeMap<ReplicaId, Answers>,
    /// Metrics that any replica ever reported.
    reported: BTreeSet<EngineMetric>,
}

/// The last two answers of a replica.
#[derive(Debug)]
struct Answers {
    address: String,
    last: Answer,
    before: Option<Answer>,
}

#[derive(Clone, Debug)]
struct Answer {
    at: Instant,
    reading: EngineReading,
}

impl EngineScraper {
    /// A scraper that has not asked anybody yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(options: ScrapeOptions, clock: Clock) -> Result<Self, ScrapeError> {
        let client = EngineClient::new(options.kind, options.timeout, options.access.clone())?;
        Ok(Self { client, options, clock, memory: Mutex::default() })
    }

    /// Asks the replicas once, at most [`MAX_CONCURRENT_SCRAPES`] at a time.
    pub async fn scrape(&self, replicas: &[FleetReplica]) -> EngineReport {
        let asked: Vec<&FleetReplica> = replicas
            .iter()
            .filter(|replica| replica.phase == Phase::Ready || replica.phase.drains())
            .collect();
        let requests: Vec<_> = asked.iter().map(|replica| (replica.id.clone(), self.url(replica))).collect();
        let results = stream::iter(requests)
            .map(|(id, url)| async move { (id, self.ask(url).await) })
            .buffer_unordered(MAX_CONCURRENT_SCRAPES)
            .collect()
            .await;
        self.report(&asked, results)
    }

    async fn ask(&self, url: Option<String>) -> Result<Answer, ScrapeError> {
        let reading = self.client.read(&url.ok_or(ScrapeError::NoAddress)?).await?;
        Ok(Answer { at: Instant::now(), reading })
    }

    fn url(&self, replica: &FleetReplica) -> Option<String> {
        let path = self.options.path.trim_start_matches('/');
        let scheme = if self.options.access.tls.is_some() { "https" } else { "http" };
        replica.address.as_ref().map(|address| format!("{scheme}://{address}/{path}"))
    }

    fn report(
        &self,
        asked: &[&FleetReplica],
        results: Vec<(ReplicaId, Result<Answer, ScrapeError>)>,
    ) -> EngineReport {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses: BTreeMap<&ReplicaId, &str> = asked
            .iter()
            .map(|replica| (&replica.id, replica.address.as_deref().unwrap_or_default()))
            .collect();
        // What answers under another address is another engine.
        memory.answers.retain(|id, answers| addresses.get(id) == Some(&answers.address.as_str()));
        let mut silent = BTreeMap::new();
        for (id, result) in results {
            match result {
                Ok(answer) => {
                    let address = addresses.get(&id).copied().unwrap_or_default();
                    memory.remember(id, address, answer);
                }
                Err(error) => {
                    silent.insert(id, error);
                }
            }
        }
        let signals = EngineSignal::all()
            .map(|signal| (signal, self.signal(&memory, asked, &silent, signal)))
            .collect();
        EngineReport { signals, silent }
    }

    fn signal(
        &self,
        memory: &Memory,
        asked: &[&FleetReplica],
        silent: &BTreeMap<ReplicaId, ScrapeError>,
        signal: EngineSignal,
    ) -> Signal {
        let shares = asked.iter().filter_map(|replica| {
            let share = self.share(memory, &replica.id, silent.get(&replica.id), signal);
            // Nobody waits for a draining replica's answer.
            let missed = replica.phase == Phase::Ready || matches!(share, Share::Value { .. });
            missed.then(|| (replica.id.clone(), share))
        });
        combine(shares)
    }

    fn share(
        &self,
        memory: &Memory,
        id: &ReplicaId,
        silence: Option<&ScrapeError>,
        signal: EngineSignal,
    ) -> Share {
        let failed = || Share::Failed(silence.map_or_else(|| "no answer".to_owned(), ToString::to_string));
        let Some(answers) = memory.answers.get(id) else { return failed() };
        let age = self.modelled(answers.last.at.elapsed());
        if age > self.options.keep_for {
            return failed();
        }
        let (metric, value) = match signal {
            EngineSignal::Metric(metric) => (metric, Ok(answers.last.reading.total().get(metric))),
            EngineSignal::Rate(metric) => (metric, self.rate(answers, metric)),
        };
        match value {
            Ok(Some(value)) if value.is_finite() => Share::Value { value, age },
            Ok(Some(value)) => Share::Failed(format!("its `{metric}` is {value}")),
            Ok(None) if memory.reported.contains(&metric) => Share::Failed(format!(
                "`{metric}` was reported before and has disappeared; another version of the engine may have \
                 renamed it"
            )),
            Ok(None) => Share::Absent,
            Err(Reset) => Share::Reset,
        }
    }

    /// A counter's growth per modelled second; unknown after a restart, and before the second answer.
    fn rate(&self, answers: &Answers, metric: EngineMetric) -> Result<Option<f64>, Reset> {
        let Some(last) = answers.last.reading.total().get(metric) else { return Ok(None) };
        let before = answers.before.as_ref().ok_or(Reset)?;
        let span = self.modelled(answers.last.at.duration_since(before.at)).as_secs_f64();
        match before.reading.total().get(metric) {
            Some(earlier) if last >= earlier && span > 0.0 => Ok(Some((last - earlier) / span)),
            _ => Err(Reset),
        }
    }

    fn modelled(&self, wall: Duration) -> Duration {
        wall.mul_f64(self.clock.speed())
    }
}

/// A counter that cannot be compared with its value before.
struct Reset;

impl Memory {
    fn remember(&mut self, id: ReplicaId, address: &str, answer: Answer) {
        for metric in EngineMetric::ALL {
            let seen = answer.reading.total().get(metric).is_some();
            if seen {
                self.reported.insert(metric);
            } else if self.reported.contains(&metric)
                && self
                    .answers
                    .get(&id)
                    .is_none_or(|before| before.last.reading.total().get(metric).is_some())
            {
                tracing::warn!(replica = %id, %metric, "an engine metric that was reported has disappeared");
            }
        }
        let before = self.answers.remove(&id).map(|answers| answers.last);
        self.answers.insert(id, Answers { address: address.to_owned(), last: answer, before });
    }
}

/// One engine signal as a source of its own: each reading asks every replica.
#[derive(Clone, Debug)]
pub struct EngineSource {
    /// Who asks.
    pub scraper: Arc<EngineScraper>,
    /// What for.
    pub signal: EngineSignal,
}

impl SignalSource for EngineSource {
    fn read<'a>(&'a self, replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move {
            let mut report = self.scraper.scrape(replicas).await;
            report.signals.remove(&self.signal).unwrap_or_else(|| Signal::missing(Missing::Absent))
        }
        .boxed()
    }
}
