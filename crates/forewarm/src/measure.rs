//! What is measured for a scaler besides its gateway: the signals that its manifest names.

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

use crate::exit::Failure;

/// Starts to poll what the manifest names: one scrape for all signals of the engines, one poller a query.
///
/// # Errors
/// When a name or an address cannot be right.
pub(crate) fn signals(scaler: &CheckedScaler, clock: Clock) -> Result<Vec<Arc<dyn SignalSet>>, Failure> {
    let options = PollOptions { keep_for: scaler.spec.max_signal_age, ..PollOptions::default() };
    let mut sets: Vec<Arc<dyn SignalSet>> = Vec::new();
    let mut from_engines = BTreeMap::new();
    for NamedSignal { name, source } in &scaler.signals {
        let wrong = |error: &dyn std::error::Error| {
            let scaler = &scaler.spec.scaler;
            Failure::usage(anyhow::anyhow!("`{scaler}`: spec.signals `{name}`: {error}"))
        };
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
    if scaler.engine.kv_tokens == Some(KvTokens::Auto) {
        from_engines.insert(SignalName::from(KV_TOKENS), EngineSignal::Metric(EngineMetric::KvTokens));
    }
    if !from_engines.is_empty() {
        let kind: EngineKind = scaler.engine.kind.label().parse().map_err(Failure::usage)?;
        let options_of_scrape = ScrapeOptions {
            path: scaler.engine.metrics_path.clone(),
            keep_for: options.keep_for,
            ..ScrapeOptions::of(kind)
        };
        let scraper = Arc::new(EngineScraper::new(options_of_scrape, clock)?);
        sets.push(Arc::new(Poller::spawn((scraper, from_engines), options, clock)));
    }
    Ok(sets)
}
