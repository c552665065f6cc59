//! What is measured for one scaler: the signals that its manifest names, and those that its triggers stand for.

use std::{collections::BTreeMap, sync::Arc};

use forewarm_control::{
    Clock, KV_TOKENS,
    ports::{SignalSet, SignalSource as Source},
};
use forewarm_core::{Policy, SignalName};
use forewarm_manifest::{CheckedScaler, KvTokens, NamedSignal, SignalSource, signal::trigger_signals};

use rustls::ClientConfig;

use crate::{
    PollOptions, Poller, SourceError, Sources,
    engine::{EngineAccess, EngineKind, EngineMetric, EngineScraper, EngineSignal, ScrapeOptions},
    tls::client_config,
};

/// How often a scaler's signals are read, and how long they count.
pub fn options(scaler: &CheckedScaler) -> PollOptions {
    PollOptions { keep_for: scaler.spec.max_signal_age, ..PollOptions::default() }
}

/// The signals that the manifest names, and those that its ScaledObject's triggers stand for; `variable` is what the
/// environment has for them under a name.
///
/// # Errors
/// When a trigger's metadata is wrong.
pub fn named(
    scaler: &CheckedScaler,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<NamedSignal>, SourceError> {
    let mut signals = scaler.signals.clone();
    if let Policy::Keda(policy) = &scaler.spec.policy {
        let triggers = trigger_signals(policy, &scaler.signals, variable).map_err(|problems| {
            // Metadata has no lines any more, but its fields have names.
            let said: Vec<String> = problems.list.iter().map(ToString::to_string).collect();
            SourceError::new(&said.join("\n"))
        });
        signals.extend(triggers?);
    }
    Ok(signals)
}

/// Starts to poll these: one scrape for all signals of the engines, one poller a source.
///
/// # Errors
/// When a name or an address cannot be right, in words that name the field.
pub fn poll(
    scaler: &CheckedScaler,
    signals: &[NamedSignal],
    sources: &Sources,
    clock: Clock,
) -> Result<Vec<Arc<dyn SignalSet>>, SourceError> {
    let options = options(scaler);
    let mut sets: Vec<Arc<dyn SignalSet>> = Vec::new();
    let mut from_engines = BTreeMap::new();
    for signal in signals {
        let name = SignalName::from(signal.name.as_str());
        if let SignalSource::Engine { metric } = &signal.source {
            from_engines.insert(name, engine_signal(&signal.name, metric)?);
        } else if let Some(source) = source(scaler, signal, sources)? {
            sets.push(Arc::new(Poller::spawn((name, source), options, clock)));
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
pub fn source(
    scaler: &CheckedScaler,
    signal: &NamedSignal,
    sources: &Sources,
) -> Result<Option<Arc<dyn Source>>, SourceError> {
    let options = options(scaler);
    // Who asks half a turn later gets the same answer.
    let found = sources.source(&signal.source, options.timeout, options.interval / 2);
    found.map_err(|error| wrong(&signal.name, &error))
}

/// What the engines' metric of this name is.
///
/// # Errors
/// When there is none.
pub fn engine_signal(name: &str, metric: &str) -> Result<EngineSignal, SourceError> {
    metric.parse().map_err(|error| wrong(name, &error))
}

/// Who asks the engines.
///
/// # Errors
/// When there can be no client.
pub fn scraper(scaler: &CheckedScaler, clock: Clock) -> Result<EngineScraper, SourceError> {
    let kind: EngineKind = scaler
        .engine
        .kind
        .label()
        .parse()
        .map_err(|error| SourceError::new(&format_args!("spec.engine.kind: {error}")))?;
    let options = ScrapeOptions {
        path: scaler.engine.metrics_path.clone(),
        access: EngineAccess {
            tls: scaler.engine.tls.clone(),
            bearer_token: scaler.engine.bearer_token.clone(),
        },
        keep_for: options(scaler).keep_for,
        ..ScrapeOptions::of(kind)
    };
    EngineScraper::new(options, clock).map_err(|error| wrong_tls(&error))
}

/// How TLS is spoken with the engines, to whoever else asks them; `None`: they speak plain HTTP.
///
/// # Errors
/// What is wrong with which file of `spec.engine.tls`.
pub fn engine_tls(scaler: &CheckedScaler) -> Result<Option<ClientConfig>, SourceError> {
    scaler.engine.tls.as_ref().map(client_config).transpose().map_err(|error| wrong_tls(&error))
}

fn wrong_tls(error: &dyn std::fmt::Display) -> SourceError {
    SourceError::new(&format_args!("spec.engine.tls: {error}"))
}

fn wrong(name: &str, error: &dyn std::fmt::Display) -> SourceError {
    SourceError::new(&format_args!("spec.signals `{name}`: {error}"))
}
