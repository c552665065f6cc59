//! The canonical signals of an engine and their names.

use std::{fmt, str::FromStr};

/// A number that engines report, whatever each calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineMetric {
    /// Requests that wait in the engine's queue. With an admission limit it stops growing at the limit:
    /// demand is this and the rate of [`EngineMetric::RejectionsTotal`].
    Waiting,
    /// Requests in the engine's batch.
    Running,
    /// Used share of the KV cache, 0 to 1, of the engine that is fullest.
    KvUsage,
    /// Tokens that the KV caches hold.
    KvTokens,
    /// Prompt tokens ever taken in.
    PromptTokensTotal,
    /// Tokens ever generated.
    GenerationTokensTotal,
    /// Requests ever finished, for whatever reason.
    RequestsFinishedTotal,
    /// Requests ever turned away by the engine's admission limit.
    RejectionsTotal,
    /// Requests ever pushed out of the batch for want of KV cache.
    PreemptionsTotal,
    /// Sum of all times to first token, in seconds.
    TtftSecondsSum,
    /// How many times to first token that sum is of.
    TtftSecondsCount,
}

impl EngineMetric {
    /// Every metric.
    pub const ALL: [EngineMetric; 11] = [
        EngineMetric::Waiting,
        EngineMetric::Running,
        EngineMetric::KvUsage,
        EngineMetric::KvTokens,
        EngineMetric::PromptTokensTotal,
        EngineMetric::GenerationTokensTotal,
        EngineMetric::RequestsFinishedTotal,
        EngineMetric::RejectionsTotal,
        EngineMetric::PreemptionsTotal,
        EngineMetric::TtftSecondsSum,
        EngineMetric::TtftSecondsCount,
    ];

    /// Its name as a signal.
    pub const fn name(self) -> &'static str {
        match self {
            EngineMetric::Waiting => "waiting",
            EngineMetric::Running => "running",
            EngineMetric::KvUsage => "kv_usage",
            EngineMetric::KvTokens => "kv_tokens",
            EngineMetric::PromptTokensTotal => "prompt_tokens_total",
            EngineMetric::GenerationTokensTotal => "generation_tokens_total",
            EngineMetric::RequestsFinishedTotal => "requests_finished_total",
            EngineMetric::RejectionsTotal => "rejections_total",
            EngineMetric::PreemptionsTotal => "preemptions_total",
            EngineMetric::TtftSecondsSum => "ttft_seconds_sum",
            EngineMetric::TtftSecondsCount => "ttft_seconds_count",
        }
    }

    /// Whether it only grows, until its engine restarts.
    pub const fn is_counter(self) -> bool {
        !matches!(
            self,
            EngineMetric::Waiting | EngineMetric::Running | EngineMetric::KvUsage | EngineMetric::KvTokens
        )
    }

    /// Its name as a rate, `None` where a rate means nothing.
    const fn rate_name(self) -> Option<&'static str> {
        match self {
            EngineMetric::PromptTokensTotal => Some("prompt_tokens_per_second"),
            EngineMetric::GenerationTokensTotal => Some("generation_tokens_per_second"),
            EngineMetric::RequestsFinishedTotal => Some("requests_finished_per_second"),
            EngineMetric::RejectionsTotal => Some("rejections_per_second"),
            EngineMetric::PreemptionsTotal => Some("preemptions_per_second"),
            EngineMetric::Waiting
            | EngineMetric::Running
            | EngineMetric::KvUsage
            | EngineMetric::KvTokens
            | EngineMetric::TtftSecondsSum
            | EngineMetric::TtftSecondsCount => None,
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for EngineMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A signal that the scraper gives: a metric as it is, or a counter's growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineSignal {
    /// The metric.
    Metric(EngineMetric),
    /// A counter's growth per modelled second between a replica's last two answers.
    Rate(EngineMetric),
}

impl EngineSignal {
    /// Every signal.
    pub fn all() -> impl Iterator<Item = EngineSignal> {
        let rates = EngineMetric::ALL.into_iter().filter(|metric| metric.rate_name().is_some());
        EngineMetric::ALL.into_iter().map(EngineSignal::Metric).chain(rates.map(EngineSignal::Rate))
    }

    /// Its name as a signal: `waiting`, `rejections_per_second`…
    pub fn name(self) -> &'static str {
        match self {
            EngineSignal::Metric(metric) => metric.name(),
            EngineSignal::Rate(metric) => metric.rate_name().unwrap_or_default(),
        }
    }
}

impl fmt::Display for EngineSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No engine signal has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no engine signal; there are {}", known())]
pub struct UnknownEngineSignal {
    /// The name.
    pub name: String,
}

fn known() -> String {
    EngineSignal::all().map(|signal| format!("`{signal}`")).collect::<Vec<_>>().join(", ")
}

impl FromStr for EngineSignal {
    type Err = UnknownEngineSignal;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::all()
            .find(|signal| signal.name() == name)
            .ok_or_else(|| UnknownEngineSignal { name: name.to_owned() })
    }
}
