//! What is measured for a scaler besides its gateways: the engines, pod by pod, and what its signals name.

use std::{collections::BTreeMap, sync::Arc};

use forewarm_control::{Clock, KV_TOKENS, ports::SignalSet};
use forewarm_core::{Policy, SignalName};
use forewarm_manifest::{CheckedScaler, KvTokens, SignalSource, signal::trigger_signals};
use forewarm_signals::{
    PollOptions, Poller, Sources,
    engine::{EngineKind, EngineMetric, EngineScraper, EngineSignal, ScrapeOptions},
};

/// What is asked of the engines where a scaler names no signal: it is what its policies count.
const OF_ENGINES: [EngineMetric; 2] = [EngineMetric::Waiting, EngineMetric::Running];

/// Starts to poll.
///
/// # Errors
/// When a name or an address cannot be right, in words that name the field.
pub fn signals(
    scaler: &CheckedScaler,
    sources: &Sources,
    clock: Clock,
) -> Result<Vec<Arc<dyn SignalSet>>, String> {
    let options = PollOptions { keep_for: scaler.spec.max_signal_age, ..PollOptions::default() };
    let mut sets: Vec<Arc<dyn SignalSet>> = Vec::new();
    let mut from_engines = BTreeMap::new();
    let mut named = scaler.signals.clone();
    if let Policy::Keda(policy) = &scaler.spec.policy {
        named.extend(trigger_signals(policy, &scaler.signals).map_err(|problems| problems.to_string())?);
    }
    for signal in &named {
        let wrong = |error: &dyn std::error::Error| format!("spec.signals `{}`: {error}", signal.name);
        let name = SignalName::from(signal.name.as_str());
        if let SignalSource::Engine { metric } = &signal.source {
            let metric: EngineSignal = metric.parse().map_err(|error| wrong(&error))?;
            from_engines.insert(name, metric);
            continue;
        }
        // Who asks half a turn later gets the same answer.
        let source = sources.source(&signal.source, options.timeout, options.interval / 2);
        if let Some(source) = source.map_err(|error| wrong(&error))? {
            sets.push(Arc::new(Poller::spawn((name, source), options, clock)));
        }
    }
    if named.is_empty() {
        let metric = |metric: EngineMetric| (SignalName::from(metric.name()), EngineSignal::Metric(metric));
        from_engines.extend(OF_ENGINES.map(metric));
    }
    if scaler.engine.kv_tokens == Some(KvTokens::Auto) {
        from_engines.insert(SignalName::from(KV_TOKENS), EngineSignal::Metric(EngineMetric::KvTokens));
    }
    if !from_engines.is_empty() {
        let scraper = Arc::new(scraper(scaler, options, clock)?);
        sets.push(Arc::new(Poller::spawn((scraper, from_engines), options, clock)));
    }
    Ok(sets)
}

fn scraper(scaler: &CheckedScaler, options: PollOptions, clock: Clock) -> Result<EngineScraper, String> {
    let kind = scaler.engine.kind.label().parse::<EngineKind>();
    let kind = kind.map_err(|error| format!("spec.engine.kind: {error}"))?;
    let options = ScrapeOptions {
        path: scaler.engine.metrics_path.clone(),
        keep_for: options.keep_for,
        ..ScrapeOptions::of(kind)
    };
    EngineScraper::new(options, clock).map_err(|error| error.to_string())
}
