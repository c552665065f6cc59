//! What is measured for a scaler besides its gateways: the engines, pod by pod, and Prometheus.

use std::{collections::BTreeMap, sync::Arc};

use forewarm_control::{
    Clock, KV_TOKENS,
    ports::{SignalSet, SignalSource as Source},
};
use forewarm_core::SignalName;
use forewarm_manifest::{CheckedScaler, KvTokens, NamedSignal, SignalSource};
use forewarm_signals::{
    PollOptions, Poller,
    engine::{EngineKind, EngineMetric, EngineScraper, EngineSignal, ScrapeOptions},
    prometheus::{Auth, PrometheusQuery, PrometheusSource},
};

/// What is asked of the engines where a scaler names no signal of theirs: it is what its policies count.
const OF_ENGINES: [EngineMetric; 2] = [EngineMetric::Waiting, EngineMetric::Running];

/// Starts to poll.
///
/// # Errors
/// When a name or an address cannot be right, in words that name the field.
pub fn signals(scaler: &CheckedScaler, clock: Clock) -> Result<Vec<Arc<dyn SignalSet>>, String> {
    let options = PollOptions { keep_for: scaler.spec.max_signal_age, ..PollOptions::default() };
    let mut sets: Vec<Arc<dyn SignalSet>> = Vec::new();
    let mut from_engines = BTreeMap::new();
    for NamedSignal { name, source } in &scaler.signals {
        let wrong = |error: &dyn std::error::Error| format!("spec.signals `{name}`: {error}");
        match source {
            SignalSource::Engine { metric } => {
                let signal: EngineSignal = metric.parse().map_err(|error| wrong(&error))?;
                from_engines.insert(SignalName::from(name.as_str()), signal);
            }
            SignalSource::Prometheus { server_address, query } => {
                let query = PrometheusQuery {
                    server_address: server_address.clone(),
                    query: query.clone(),
                    per_replica_label: None,
                    auth: Auth::default(),
                    timeout: options.timeout,
                };
                let source = PrometheusSource::new(query, clock).map_err(|error| wrong(&error))?;
                let source: (SignalName, Arc<dyn Source>) =
                    (SignalName::from(name.as_str()), Arc::new(source));
                sets.push(Arc::new(Poller::spawn(source, options, clock)));
            }
        }
    }
    if scaler.signals.is_empty() {
        let named = |metric: EngineMetric| (SignalName::from(metric.name()), EngineSignal::Metric(metric));
        from_engines.extend(OF_ENGINES.map(named));
    }
    if scaler.engine.kv_tokens == Some(KvTokens::Auto) {
        from_engines.insert(SignalName::from(KV_TOKENS), EngineSignal::Metric(EngineMetric::KvTokens));
    }
    if !from_engines.is_empty() {
        let kind: EngineKind =
            scaler.engine.kind.label().parse().map_err(|error| format!("spec.engine.kind: {error}"))?;
        let options_of_scrape = ScrapeOptions {
            path: scaler.engine.metrics_path.clone(),
            keep_for: options.keep_for,
            ..ScrapeOptions::of(kind)
        };
        let scraper = EngineScraper::new(options_of_scrape, clock).map_err(|error| error.to_string())?;
        sets.push(Arc::new(Poller::spawn((Arc::new(scraper), from_engines), options, clock)));
    }
    Ok(sets)
}
