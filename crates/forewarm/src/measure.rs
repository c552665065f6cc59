//! What is measured for a scaler besides its gateway: the signals that its manifest names.

use std::{collections::BTreeMap, sync::Arc};

use forewarm_control::{
    Clock, KV_TOKENS,
    ports::{SignalSet, SignalSource as Source},
};
use forewarm_core::{Policy, SignalName};
use forewarm_manifest::{CheckedScaler, KvTokens, NamedSignal, SignalSource, signal::trigger_signals};
use forewarm_signals::{
    PollOptions, Poller, Sources,
    engine::{EngineKind, EngineMetric, EngineScraper, EngineSignal, ScrapeOptions},
};

use crate::exit::Failure;

/// How often a scaler's signals are read, and how long they count.
pub(crate) fn options(scaler: &CheckedScaler) -> PollOptions {
    PollOptions { keep_for: scaler.spec.max_signal_age, ..PollOptions::default() }
}

/// The signals that the manifest names, and those that its ScaledObject's triggers stand for.
///
/// # Errors
/// When a trigger's metadata is wrong.
pub(crate) fn named(scaler: &CheckedScaler) -> Result<Vec<NamedSignal>, Failure> {
    let mut signals = scaler.signals.clone();
    if let Policy::Keda(policy) = &scaler.spec.policy {
        let name = &scaler.spec.scaler;
        let triggers = trigger_signals(policy, &scaler.signals)
            .map_err(|problems| Failure::usage(anyhow::anyhow!("`{name}`: {problems}")))?;
        signals.extend(triggers);
    }
    Ok(signals)
}

/// Starts to poll what the manifest names: one scrape for all signals of the engines, one poller a source.
///
/// # Errors
/// When a name or an address cannot be right.
pub(crate) fn signals(
    scaler: &CheckedScaler,
    sources: &Sources,
    clock: Clock,
) -> Result<Vec<Arc<dyn SignalSet>>, Failure> {
    let options = options(scaler);
    let mut sets: Vec<Arc<dyn SignalSet>> = Vec::new();
    let mut from_engines = BTreeMap::new();
    for signal in named(scaler)? {
        let name = SignalName::from(signal.name.as_str());
        match source(scaler, &signal, sources)? {
            Some(source) => sets.push(Arc::new(Poller::spawn((name, source), options, clock))),
            None => {
                if let SignalSource::Engine { metric } = &signal.source {
                    from_engines.insert(name, engine_signal(scaler, &signal.name, metric)?);
                }
            }
        }
    }
    if scaler.engine.kv_tokens == Some(KvTokens::Auto) {
        from_engines.insert(SignalName::from(KV_TOKENS), EngineSignal::Metric(EngineMetric::KvTokens));
    }
    if !from_engines.is_empty() {
        let scraper = Arc::new(scraper(scaler, clock)?);
        sets.push(Arc::new(Poller::spawn((scraper, from_engines), options, clock)));
    }
    Ok(sets)
}

/// The source of a signal; `None` for the engines' own.
///
/// # Errors
/// When its address, or a file or a variable that it names, cannot be right.
pub(crate) fn source(
    scaler: &CheckedScaler,
    signal: &NamedSignal,
    sources: &Sources,
) -> Result<Option<Arc<dyn Source>>, Failure> {
    let options = options(scaler);
    // Who asks half a turn later gets the same answer.
    let found = sources.source(&signal.source, options.timeout, options.interval / 2);
    found.map_err(|error| wrong(scaler, &signal.name, error))
}

/// What the engines' metric of this name is.
///
/// # Errors
/// When there is none.
pub(crate) fn engine_signal(
    scaler: &CheckedScaler,
    name: &str,
    metric: &str,
) -> Result<EngineSignal, Failure> {
    metric.parse().map_err(|error| wrong(scaler, name, error))
}

/// Who asks the engines.
///
/// # Errors
/// When there can be no client.
pub(crate) fn scraper(scaler: &CheckedScaler, clock: Clock) -> Result<EngineScraper, Failure> {
    let kind: EngineKind = scaler.engine.kind.label().parse().map_err(Failure::usage)?;
    let options = ScrapeOptions {
        path: scaler.engine.metrics_path.clone(),
        keep_for: options(scaler).keep_for,
        ..ScrapeOptions::of(kind)
    };
    Ok(EngineScraper::new(options, clock)?)
}

fn wrong(scaler: &CheckedScaler, name: &str, error: impl std::error::Error) -> Failure {
    let scaler = &scaler.spec.scaler;
    Failure::usage(anyhow::anyhow!("`{scaler}`: spec.signals `{name}`: {error}"))
}
