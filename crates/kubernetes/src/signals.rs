//! What is measured for a scaler besides its gateways: what its manifest names, as far as its namespace may have it read.

use std::{
    path::{Component, Path},
    sync::Arc,
};

use forewarm_control::{Clock, ports::SignalSet};
use forewarm_manifest::{CheckedScaler, NamedSignal, SignalSource};
use forewarm_signals::{SourceError, Sources, engine::EngineMetric, measure};
use serde::Serialize;
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
) -> Result<Vec<Arc<dyn SignalSet>>, SourceError> {
    // The controller's environment is nobody else's business.
    let mut named = measure::named(scaler, &|_| None)?;
    for NamedSignal { name, source } in &named {
        only_own_credentials(source, scaler.namespace.as_deref())
            .map_err(|why| SourceError::new(&format_args!("spec.signals `{name}`: {why}")))?;
    }
    let engine = &scaler.engine;
    only_own_credentials(&(&engine.tls, &engine.bearer_token), scaler.namespace.as_deref())
        .map_err(|why| SourceError::new(&format_args!("spec.engine: {why}")))?;
    if named.is_empty() {
        named.extend(OF_ENGINES.map(|metric| NamedSignal {
            name: metric.name().to_owned(),
            source: SignalSource::Engine { metric: metric.name().to_owned() },
        }));
    }
    measure::poll(scaler, &named, sources, clock)
}

/// Whether everything that a source reads from this machine is the namespace's.
fn only_own_credentials(source: &impl Serialize, namespace: Option<&str>) -> Result<(), String> {
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
            if field == "awsRoleArn" {
                return Err(format!(
                    "`awsRoleArn` is {value}: in a cluster the controller asks as itself, so that nobody who may write a \
                     scaler can choose among its roles; leave it out"
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

    #[tokio::test]
    async fn what_engines_are_shown_is_the_namespace_s_as_well() {
        let with = |engine: &str| {
            let manifest = format!(
                "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: llm, namespace: team-a}}\n\
                 spec:\n  target: {{kubernetes: {{kind: Deployment, name: llm}}}}\n  replicas: {{min: 1, max: 2}}\n  \
                 policy: {{queueDepth: {{}}}}\n  engine: {{{engine}}}\n"
            );
            let scaler = forewarm_manifest::read_scalers("llm.yaml", &manifest).unwrap().remove(0);
            let clock = Clock::start(1.0);
            signals(&scaler, &Sources::new(clock), clock).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(with("scheme: HTTPS, tls: {unsafeSsl: true}"), Ok(()));
        for foreign in [
            "scheme: HTTPS, tls: {caFile: /etc/passwd}",
            "bearerToken: {fromFile: /var/run/secrets/kubernetes.io/serviceaccount/token}",
            "bearerToken: {fromEnv: PATH}",
        ] {
            let refused = with(foreign).unwrap_err();
            assert!(refused.starts_with("spec.engine: ") && refused.contains("team-a"), "{refused}");
        }
        let missing =
            with("scheme: HTTPS, tls: {caFile: /etc/forewarm/credentials/team-a/ca.crt}").unwrap_err();
        assert!(missing.starts_with("spec.engine.tls: /etc/forewarm/credentials/team-a/ca.crt"), "{missing}");
    }

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
            ("awsRoleArn", "arn:aws:iam::123456789012:role/admin"),
        ] {
            let refused = with(field, value).unwrap_err();
            assert!(refused.contains(field) && refused.contains(value), "{refused}");
        }
    }
}
