//! What is measured for a scaler besides its gateways: the engines, pod by pod, and what its manifest names.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
    sync::Arc,
};

use forewarm_control::{Clock, KV_TOKENS, ports::SignalSet};
use forewarm_core::{Policy, SignalName};
use forewarm_manifest::{
    CheckedScaler, KvTokens, SignalSource,
    signal::{self, trigger_signals},
};
use forewarm_signals::{
    PollOptions, Poller, Sources,
    engine::{EngineKind, EngineMetric, EngineScraper, EngineSignal, ScrapeOptions},
};
use serde_json::Value;

/// What is asked of the engines where a scaler names no signal of theirs: it is what its policies count.
const OF_ENGINES: [EngineMetric; 2] = [EngineMetric::Waiting, EngineMetric::Running];

/// Where credentials of the scalers of each namespace are, in a folder of the namespace's name. Whoever may write a
/// scaler could otherwise have any file or variable of the controller sent to a server of theirs.
const CREDENTIALS: &str = "/etc/forewarm/credentials";

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
    let mut named = scaler.signals.clone();
    if let Policy::Keda(policy) = &scaler.spec.policy {
        let triggers = trigger_signals(policy, &scaler.signals).map_err(|problems| problems.to_string())?;
        named.extend(triggers);
    }
    let mut sets: Vec<Arc<dyn SignalSet>> = Vec::new();
    let mut from_engines = BTreeMap::new();
    for signal in &named {
        let wrong = |error: &dyn std::fmt::Display| format!("spec.signals `{}`: {error}", signal.name);
        let name = SignalName::from(signal.name.as_str());
        if let SignalSource::Engine { metric } = &signal.source {
            let signal: EngineSignal = metric.parse().map_err(|error| wrong(&error))?;
            from_engines.insert(name, signal);
            continue;
        }
        only_own_credentials(&signal.source, scaler.namespace.as_deref()).map_err(|error| wrong(&error))?;
        // Who asks half a turn later gets the same answer.
        let source = sources.source(&signal.source, options.timeout, options.interval / 2);
        if let Some(source) = source.map_err(|error| wrong(&error))? {
            sets.push(Arc::new(Poller::spawn((name, source), options, clock)));
        }
    }
    if named.is_empty() {
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

/// Whether everything that a source reads from this machine is the namespace's.
fn only_own_credentials(source: &signal::SignalSource, namespace: Option<&str>) -> Result<(), String> {
    let written = serde_json::to_value(source).map_err(|error| error.to_string())?;
    let own = Path::new(CREDENTIALS).join(namespace.unwrap_or_default());
    check(&written, &own)
}

fn check(written: &Value, own: &Path) -> Result<(), String> {
    match written {
        Value::Object(fields) => fields.iter().try_for_each(|(field, value)| {
            let path = value.as_str().filter(|_| field.ends_with("File")).map(Path::new);
            let goes_up = |path: &Path| path.components().any(|part| part == Component::ParentDir);
            if path.is_some_and(|path| !path.starts_with(own) || goes_up(path)) {
                return Err(format!(
                    "`{field}` is {value}: in a cluster it has to be a file below {}",
                    own.display()
                ));
            }
            if field == "fromEnv" {
                return Err(format!(
                    "`fromEnv` is {value}: in a cluster it has to be `fromFile`, a file below {}",
                    own.display()
                ));
            }
            check(value, own)
        }),
        Value::Array(values) => values.iter().try_for_each(|value| check(value, own)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaler_reads_the_credentials_of_its_namespace_and_no_other_file() {
        let own = Path::new(CREDENTIALS).join("team-a");
        let with = |field: &str, value: &str| check(&serde_json::json!({"auth": [{field: value}]}), &own);
        assert_eq!(with("fromFile", "/etc/forewarm/credentials/team-a/kafka/password"), Ok(()));
        assert_eq!(with("caFile", "/etc/forewarm/credentials/team-a/ca.crt"), Ok(()));
        assert_eq!(with("query", "/etc/passwd"), Ok(()));
        for (field, value) in [
            ("fromFile", "/var/run/secrets/kubernetes.io/serviceaccount/token"),
            ("fromFile", "/etc/forewarm/credentials/team-b/password"),
            ("fromFile", "/etc/forewarm/credentials/team-a/../team-b/password"),
            ("fromFile", "/etc/forewarm/credentials/team-ab/password"),
            ("keyFile", "key.pem"),
            ("fromEnv", "PATH"),
        ] {
            let refused = with(field, value).unwrap_err();
            assert!(refused.contains(field) && refused.contains(value), "{refused}");
        }
    }
}
