//! From an observation's signals to the metrics that a peer asks for by names of its own.
//!
//! The rule, in this order:
//! 1. a signal of exactly that name;
//! 2. a name that is known to mean one of the signals that forewarm observes itself ([`KNOWN_METRICS`]);
//! 3. for a PromQL query, the same for the metric in it, folded as the query says ([`promql`]).
//!
//! Anything else is missing, with an error that names the signal to provide. What waits at the gateway
//! belongs to nobody yet: per pod, it is shared by the ready ones.

use std::{collections::BTreeMap, time::Duration};

use super::{
    counters::Counters,
    promql::{self, Fold, Growth},
};
use crate::{Missing, Observation, Phase, Reading, ReplicaId, peers::go_arith};

/// Waiting at the gateway.
const QUEUED: &str = "queued";
/// Waiting in the engines.
const WAITING: &str = "waiting";
/// Requests at replicas, as the gateway counts them.
const IN_FLIGHT: &str = "in_flight";
/// In the engines' batches.
const RUNNING: &str = "running";
/// Percent of the time that a GPU was busy.
const GPU_UTILIZATION: &str = "gpu_utilization";
/// Used share of the engines' KV cache.
const KV_USAGE: &str = "kv_usage";
/// Requests that ever arrived.
pub(super) const ARRIVALS: &str = "arrivals_total";

/// What a well-known name of a metric means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricMeaning {
    /// Requests that nobody works on: those in the engines' queues and those at the gateway.
    Waiting,
    /// One signal of another name.
    Signal(&'static str),
}

/// Names that people have in their manifests: the engines' own (as their exporters and Prometheus write
/// them), those of the GPU exporters, and those of the manifests in `examples/seed`.
pub const KNOWN_METRICS: &[(&str, MetricMeaning)] = &[
    ("vllm_pending_requests", MetricMeaning::Waiting),
    ("vllm:num_requests_waiting", MetricMeaning::Waiting),
    ("vllm_num_requests_waiting", MetricMeaning::Waiting),
    ("sglang:num_queue_reqs", MetricMeaning::Waiting),
    ("sglang_num_queue_reqs", MetricMeaning::Waiting),
    ("tgi_queue_size", MetricMeaning::Waiting),
    ("nv_inference_pending_request_count", MetricMeaning::Waiting),
    ("llamacpp:requests_deferred", MetricMeaning::Waiting),
    ("llamacpp_requests_deferred", MetricMeaning::Waiting),
    ("llm_queue_depth", MetricMeaning::Waiting),
    ("vllm:num_requests_running", MetricMeaning::Signal(RUNNING)),
    ("vllm_num_requests_running", MetricMeaning::Signal(RUNNING)),
    ("sglang:num_running_reqs", MetricMeaning::Signal(RUNNING)),
    ("sglang_num_running_reqs", MetricMeaning::Signal(RUNNING)),
    ("tgi_batch_current_size", MetricMeaning::Signal(RUNNING)),
    ("llamacpp:requests_processing", MetricMeaning::Signal(RUNNING)),
    ("llamacpp_requests_processing", MetricMeaning::Signal(RUNNING)),
    ("nvidia_gpu_duty_cycle", MetricMeaning::Signal(GPU_UTILIZATION)),
    ("DCGM_FI_DEV_GPU_UTIL", MetricMeaning::Signal(GPU_UTILIZATION)),
    ("vllm:kv_cache_usage_perc", MetricMeaning::Signal(KV_USAGE)),
    ("vllm:gpu_cache_usage_perc", MetricMeaning::Signal(KV_USAGE)),
    ("vllm_kv_cache_usage_perc", MetricMeaning::Signal(KV_USAGE)),
    ("sglang:token_usage", MetricMeaning::Signal(KV_USAGE)),
    ("http_requests_total", MetricMeaning::Signal(ARRIVALS)),
];

/// A metric that has no value now.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Unread {
    /// The source answered, and has no such value.
    Absent(String),
    /// Anything else, in words.
    Failed(String),
}

impl Unread {
    fn of(name: &str, why: Missing) -> Self {
        match why {
            Missing::Absent => Self::Absent(format!("`{name}`: {why}")),
            Missing::Stale { .. } | Missing::Reset | Missing::Failed(_) => {
                Self::Failed(format!("`{name}`: {why}"))
            }
        }
    }

    pub(super) fn into_text(self) -> String {
        match self {
            Self::Absent(text) | Self::Failed(text) => text,
        }
    }
}

/// A reading that counts.
struct Seen<'a> {
    total: f64,
    shares: &'a BTreeMap<ReplicaId, f64>,
}

/// The signals of one observation, and the memory of its counters.
pub(super) struct Signals<'a> {
    observation: &'a Observation,
    max_age: Duration,
    counters: &'a mut Counters,
}

impl<'a> Signals<'a> {
    pub(super) fn new(observation: &'a Observation, max_age: Duration, counters: &'a mut Counters) -> Self {
        Self { observation, max_age, counters }
    }

    /// The reading of a signal; `None` when nobody was asked for it. What answered in part is the sum of
    /// those who answered, as it is for a query of a metrics server.
    fn read(&self, name: &str) -> Option<Result<Seen<'a>, Unread>> {
        let signal = self.observation.signals.get(name)?;
        if signal.age > self.max_age {
            let age_seconds = signal.age.as_secs_f64();
            return Some(Err(Unread::of(name, Missing::Stale { age_seconds })));
        }
        Some(match &signal.reading {
            Reading::Value { total, .. } | Reading::Partial { total, .. } if !total.is_finite() => {
                Err(Unread::Failed(format!("`{name}` is {total}")))
            }
            Reading::Value { total, per_replica } | Reading::Partial { total, per_replica, .. } => {
                Ok(Seen { total: *total, shares: per_replica })
            }
            Reading::Missing(why) => Err(Unread::of(name, why.clone())),
        })
    }

    /// The total of the signal of exactly this name; `None` when there is none.
    pub(super) fn named_total(&self, name: &str) -> Option<Result<f64, Unread>> {
        self.read(name).map(|read| read.map(|seen| seen.total))
    }

    /// A metric's total.
    pub(super) fn total(&self, name: &str) -> Result<f64, Unread> {
        if let Some(read) = self.named_total(name) {
            return read;
        }
        match metric_meaning(name) {
            Some(MetricMeaning::Waiting) => self.sum(name, &[QUEUED, WAITING]),
            Some(MetricMeaning::Signal(signal)) => self.sum(name, &[signal]),
            None => Err(unknown(name)),
        }
    }

    fn sum(&self, name: &str, parts: &[&str]) -> Result<f64, Unread> {
        self.observed_sum(parts)?.ok_or_else(|| unobserved(name, parts))
    }

    /// The sum of those of `parts` that are observed at all.
    fn observed_sum(&self, parts: &[&str]) -> Result<Option<f64>, Unread> {
        let mut total = None;
        for part in parts {
            if let Some(read) = self.read(part) {
                total = Some(total.unwrap_or(0.0) + read?.total);
            }
        }
        Ok(total)
    }

    /// A metric's value at each replica that has one.
    pub(super) fn per_replica(&self, name: &str) -> Result<BTreeMap<&'a str, f64>, Unread> {
        if let Some(read) = self.read(name) {
            return self.shares(name, &read?);
        }
        match metric_meaning(name) {
            Some(MetricMeaning::Waiting) => self.waiting_per_replica(name),
            Some(MetricMeaning::Signal(signal)) => match self.read(signal) {
                Some(read) => self.shares(signal, &read?),
                None => Err(unobserved(name, &[signal])),
            },
            None => Err(unknown(name)),
        }
    }

    fn shares(&self, name: &str, seen: &Seen<'a>) -> Result<BTreeMap<&'a str, f64>, Unread> {
        if !seen.shares.is_empty() {
            return Ok(seen.shares.iter().map(|(id, value)| (id.as_str(), *value)).collect());
        }
        let mut running = self.replicas(|phase| phase == Phase::Ready || phase.drains());
        // A total is a share where it leaves no choice.
        match (running.next(), running.next()) {
            (None, _) => Ok(BTreeMap::new()),
            (Some(only), None) => Ok([(only, seen.total)].into()),
            (Some(first), Some(second)) if seen.total == 0.0 => {
                Ok([first, second].into_iter().chain(running).map(|id| (id, 0.0)).collect())
            }
            _ => Err(Unread::Failed(format!("`{name}` has a total but no value per replica (`perReplica`)"))),
        }
    }

    /// What waits in each engine, and the ready ones' shares of what waits at the gateway.
    fn waiting_per_replica(&self, name: &str) -> Result<BTreeMap<&'a str, f64>, Unread> {
        let queued = self.read(QUEUED).transpose()?;
        let engines = self.read(WAITING).transpose()?;
        if queued.is_none() && engines.is_none() {
            return Err(unobserved(name, &[QUEUED, WAITING]));
        }
        let ready = self.observation.count(Phase::Ready);
        let share = queued.map_or(0.0, |queued| queued.total) / f64::from(ready.max(1));
        let Some(engines) = engines else {
            return Ok(self.replicas(|phase| phase == Phase::Ready).map(|id| (id, share)).collect());
        };
        let mut values = self.shares(WAITING, &engines)?;
        for id in self.replicas(|phase| phase == Phase::Ready) {
            if let Some(value) = values.get_mut(id) {
                *value += share;
            }
        }
        Ok(values)
    }

    fn replicas(&self, is: impl Fn(Phase) -> bool) -> impl Iterator<Item = &'a str> {
        let observation = self.observation;
        observation
            .replicas
            .iter()
            .filter(move |replica| is(replica.phase))
            .map(|replica| replica.id.as_str())
    }

    /// The answer to a PromQL query.
    pub(super) fn query(&mut self, text: &str) -> Result<f64, Unread> {
        let Some(query) = promql::parse(text) else {
            return Err(Unread::Failed(format!(
                "the query is more than is understood here: give a signal `{text}`"
            )));
        };
        match (query.growth, query.fold) {
            (Some(growth), fold) => {
                let growth = self.growth(query.metric, growth)?;
                let series = self.observation.count(Phase::Ready).max(1);
                // Only the whole counter is known; its replicas are taken to grow alike.
                Ok(if fold == Fold::Sum { growth } else { growth / f64::from(series) })
            }
            (None, Fold::Sum) => self.total(query.metric),
            (None, fold) => {
                let values = self.per_replica(query.metric)?;
                let values = || values.values().copied();
                let folded = match fold {
                    Fold::Max => values().reduce(f64::max),
                    Fold::Min => values().reduce(f64::min),
                    Fold::Mean | Fold::Sum => {
                        Some(values().sum::<f64>() / values().count() as f64).filter(|mean| !mean.is_nan())
                    }
                };
                folded
                    .ok_or_else(|| Unread::Absent(format!("`{}` has no value of any replica", query.metric)))
            }
        }
    }

    fn growth(&mut self, metric: &str, growth: Growth) -> Result<f64, Unread> {
        let value = self.total(metric)?;
        let counter = self.counters.read(metric, self.observation.at, value, growth.window);
        let per_second = counter.per_second(growth.window);
        let span = if growth.per_second { 1.0 } else { growth.window.as_secs_f64() };
        per_second
            .map(|rate| rate * span)
            .ok_or_else(|| Unread::Absent(format!("`{metric}`: a rate needs two readings within its window")))
    }

    /// The arrivals: how many within `window`, and per second since the reading before.
    pub(super) fn arrivals(&mut self, window: Duration) -> Result<(f64, Option<f64>), Unread> {
        let value = self.total(ARRIVALS)?;
        let counter = self.counters.read(ARRIVALS, self.observation.at, value, window);
        Ok((counter.growth(window), counter.last_rate()))
    }

    /// Requests that have come and are not answered yet, wherever they are: what Knative calls concurrency,
    /// and Ray ongoing requests.
    pub(super) fn ongoing(&self) -> Result<f64, Unread> {
        let at_replicas = match self.read(IN_FLIGHT) {
            Some(read) => Some(read?.total),
            None => self.observed_sum(&[RUNNING, WAITING])?,
        };
        match (at_replicas, self.observed_sum(&[QUEUED])?) {
            (None, None) => Err(unobserved("the load", &[IN_FLIGHT, QUEUED])),
            (at_replicas, queued) => Ok(at_replicas.unwrap_or(0.0) + queued.unwrap_or(0.0)),
        }
    }

    /// How full each engine is: its KV cache where that is known, else its requests over what it takes.
    pub(super) fn fullness(&self, max_concurrency: u32) -> Result<BTreeMap<&'a str, f64>, Unread> {
        if let Some(read) = self.read(KV_USAGE) {
            return self.shares(KV_USAGE, &read?);
        }
        let requests = [IN_FLIGHT, RUNNING].into_iter().find_map(|name| Some((name, self.read(name)?)));
        let Some((name, read)) = requests else {
            return Err(unobserved("the engines' load", &[KV_USAGE, IN_FLIGHT]));
        };
        let mut values = self.shares(name, &read?)?;
        for (id, waiting) in self.waiting_per_replica(WAITING).unwrap_or_default() {
            *values.entry(id).or_default() += waiting;
        }
        values.values_mut().for_each(|value| *value /= f64::from(max_concurrency.max(1)));
        Ok(values)
    }
}

/// What the name of a metric means, `None` where it is not one of [`KNOWN_METRICS`].
pub fn metric_meaning(name: &str) -> Option<MetricMeaning> {
    KNOWN_METRICS.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning)
}

fn unknown(name: &str) -> Unread {
    Unread::Failed(format!("there is no signal `{name}`, and the name has no known meaning"))
}

fn unobserved(name: &str, parts: &[&str]) -> Unread {
    Unread::Failed(format!("`{name}` is read from `{}`, and there is no such signal", parts.join("` and `")))
}

/// Milli-units, as the metrics APIs' adapters make them: cut, not rounded.
pub(super) fn milli(value: f64) -> i64 {
    go_arith::to_i64(value * 1000.0)
}
