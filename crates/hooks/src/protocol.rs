//! What is said to a hook, and what it may answer: version 1, in JSON. docs/hooks.md has it for users.

use std::{collections::BTreeSet, time::Duration};

use forewarm_core::{FailedStart, Phase, Placement, ReplicaId, ScalerId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of the protocol: in every request, and to be in every answer.
pub const VERSION: u32 = 1;
/// Most replicas in an answer: what a manifest allows at most.
const MAX_REPLICAS: usize = 10_000;
/// Longest name of a replica, as of an object of Kubernetes.
const MAX_NAME: usize = 253;
/// Longest age: beyond any machine's life, and far from where sums of spans end.
const MAX_AGE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// One request.
#[derive(Debug, Serialize)]
pub(crate) struct Request<'a> {
    version: u32,
    scaler: &'a ScalerId,
    #[serde(flatten)]
    operation: Operation<'a>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "operation", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Operation<'a> {
    Observe,
    Apply {
        key: &'a str,
        dry_run: bool,
        #[serde(flatten)]
        change: &'a Change,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Change {
    /// For an endpoint that knows its replicas.
    Replicas {
        /// How many to start.
        start: u32,
        /// Draining ones that are to serve again.
        revive: Vec<ReplicaId>,
        /// Those that are to take no new work.
        drain: Vec<ReplicaId>,
        /// Those that are to end.
        stop: Vec<ReplicaId>,
    },
    /// For an endpoint that knows a number only.
    Number {
        /// How many there are to be.
        desired: u32,
    },
}

impl Change {
    /// The placement as it is.
    pub(crate) fn of(placement: &Placement) -> Self {
        let Placement { start, revive, drain, stop } = placement.clone();
        Self::Replicas { start, revive, drain, stop }
    }
}

impl<'a> Request<'a> {
    /// Asks what there is.
    pub(crate) fn observe(scaler: &'a ScalerId) -> Self {
        Self { version: VERSION, scaler, operation: Operation::Observe }
    }

    /// Asks for a change, under a key that is the same whenever this change is asked for again.
    pub(crate) fn apply(scaler: &'a ScalerId, key: &'a str, dry_run: bool, change: &'a Change) -> Self {
        Self { version: VERSION, scaler, operation: Operation::Apply { key, dry_run, change } }
    }

    /// The body that is sent.
    ///
    /// # Errors
    /// None that a value of ours can cause.
    pub(crate) fn body(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// What a hook sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// What there is.
    pub fleet: SeenFleet,
    /// Starts that failed; the same one may be in many answers.
    pub failed_starts: Vec<FailedStart>,
}

/// What there is.
#[derive(Clone, Debug, PartialEq)]
pub enum SeenFleet {
    /// Each replica by name.
    Replicas(Vec<SeenReplica>),
    /// A number that is wanted, and how many of them serve.
    Number {
        /// Wanted.
        desired: u32,
        /// Serving.
        ready: u32,
    },
}

/// One replica, as a hook sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenReplica {
    /// Its name.
    pub id: ReplicaId,
    /// Where it is in its life.
    pub phase: Phase,
    /// Where it serves, `host:port`.
    pub address: Option<String>,
    /// Time on the wall since it was requested; `None`: since it was first seen.
    pub age: Option<Duration>,
    /// What it works on.
    pub in_flight: Option<u32>,
}

/// Why an answer is none, in terms of its fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not of version {VERSION} of the protocol: {0}")]
pub struct AnswerError(String);

/// What a hook says when it does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refusal {
    /// What kind it is.
    pub code: RefusalCode,
    /// In the hook's words.
    pub message: String,
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RefusalCode {
    /// There is no room for more replicas.
    OutOfCapacity,
    /// It cannot be done, and will not be when it is asked again.
    Refused,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ObservedLine {
    version: u32,
    replicas: Option<Vec<ReplicaLine>>,
    desired: Option<u32>,
    ready: Option<u32>,
    #[serde(default)]
    failed_starts: Vec<FailedStart>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReplicaLine {
    id: ReplicaId,
    phase: Phase,
    address: Option<String>,
    age_seconds: Option<f64>,
    in_flight: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AppliedLine {
    version: u32,
    error: Option<Refusal>,
}

/// Reads the answer to `observe`.
///
/// # Errors
/// What of it is wrong, with the field's path. The outer result; the inner is the hook's own refusal.
pub fn observed(body: &[u8]) -> Result<Result<Observed, Refusal>, AnswerError> {
    let line: ObservedLine = read(body)?;
    of_our_version(line.version)?;
    if let Some(refusal) = line.error {
        return Ok(Err(refusal));
    }
    let fleet = match (line.replicas, line.desired, line.ready) {
        (Some(replicas), None, None) => SeenFleet::Replicas(self::replicas(replicas)?),
        (None, Some(desired), Some(ready)) => {
            within(desired as usize, "desired")?;
            within(ready as usize, "ready")?;
            SeenFleet::Number { desired, ready }
        }
        (..) => {
            let wanted = "wanted either `replicas`, or `desired` and `ready`";
            return Err(AnswerError(wanted.to_owned()));
        }
    };
    within(line.failed_starts.len(), "failedStarts")?;
    for (index, failed) in line.failed_starts.iter().enumerate() {
        name(&failed.id, &format!("failedStarts[{index}].id"))?;
    }
    Ok(Ok(Observed { fleet, failed_starts: line.failed_starts }))
}

/// Reads the answer to `apply`; one without a body means that it was done.
///
/// # Errors
/// As [`observed`].
pub fn applied(body: &[u8]) -> Result<Result<(), Refusal>, AnswerError> {
    if body.trim_ascii().is_empty() {
        return Ok(Ok(()));
    }
    let line: AppliedLine = read(body)?;
    of_our_version(line.version)?;
    Ok(line.error.map_or(Ok(()), Err))
}

/// The refusal in a body that need not have one.
pub(crate) fn refusal(body: &[u8]) -> Option<Refusal> {
    applied(body).ok().and_then(Result::err)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, AnswerError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let line =
        serde_path_to_error::deserialize(&mut reader).map_err(|error| AnswerError(error.to_string()))?;
    reader.end().map_err(|error| AnswerError(error.to_string()))?;
    Ok(line)
}

fn of_our_version(version: u32) -> Result<(), AnswerError> {
    if version == VERSION {
        return Ok(());
    }
    Err(AnswerError(format!("version: found {version}, wanted {VERSION}")))
}

fn replicas(lines: Vec<ReplicaLine>) -> Result<Vec<SeenReplica>, AnswerError> {
    within(lines.len(), "replicas")?;
    let mut names = BTreeSet::new();
    let mut replicas = Vec::with_capacity(lines.len());
    for (index, line) in lines.into_iter().enumerate() {
        let at = |field: &str| format!("replicas[{index}].{field}");
        name(&line.id, &at("id"))?;
        if !names.insert(line.id.clone()) {
            return Err(AnswerError(format!("{}: found {} twice, wanted each once", at("id"), line.id)));
        }
        if let Some(address) = &line.address {
            host_and_port(address, &at("address"))?;
        }
        let age = line.age_seconds.map(|seconds| age(seconds, &at("ageSeconds"))).transpose()?;
        replicas.push(SeenReplica {
            id: line.id,
            phase: line.phase,
            address: line.address,
            age,
            in_flight: line.in_flight,
        });
    }
    Ok(replicas)
}

fn within(count: usize, field: &str) -> Result<(), AnswerError> {
    if count <= MAX_REPLICAS {
        return Ok(());
    }
    Err(AnswerError(format!("{field}: found {count}, wanted at most {MAX_REPLICAS}")))
}

fn name(id: &ReplicaId, field: &str) -> Result<(), AnswerError> {
    let text = id.as_str();
    if (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(AnswerError(format!("{field}: wanted a name of 1 to {MAX_NAME} bytes without control characters")))
}

fn host_and_port(address: &str, field: &str) -> Result<(), AnswerError> {
    let parts = address.rsplit_once(':');
    let is_host = |host: &str| !host.is_empty() && !host.contains(['/', '@', ' ']);
    if parts.is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Ok(());
    }
    Err(AnswerError(format!("{field}: found `{address}`, wanted `host:port`")))
}

fn age(seconds: f64, field: &str) -> Result<Duration, AnswerError> {
    let age = Duration::try_from_secs_f64(seconds).ok().filter(|&age| age <= MAX_AGE);
    age.ok_or_else(|| AnswerError(format!("{field}: found {seconds}, wanted an age in seconds")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_answer_is_named_with_its_place() {
        let cases = [
            (r#""#, "EOF while parsing"),
            (r#"[]"#, "invalid length 0"),
            (r#"{"replicas":[]}"#, "missing field `version`"),
            (r#"{"version":2,"replicas":[]}"#, "version: found 2, wanted 1"),
            (r#"{"version":1}"#, "wanted either `replicas`, or `desired` and `ready`"),
            (r#"{"version":1,"desired":3}"#, "wanted either `replicas`, or `desired` and `ready`"),
            (r#"{"version":1,"replicas":[],"desired":3,"ready":1}"#, "wanted either"),
            (r#"{"version":1,"desired":3,"ready":-1}"#, "ready: invalid value: integer `-1`"),
            (r#"{"version":1,"desired":99999,"ready":1}"#, "desired: found 99999, wanted at most 10000"),
            (r#"{"version":1,"replicas":[{"id":"a"}]}"#, "replicas[0]: missing field `phase`"),
            (
                r#"{"version":1,"replicas":[{"id":"a","phase":"up"}]}"#,
                "replicas[0].phase: unknown variant `up`",
            ),
            (r#"{"version":1,"replicas":[{"id":"","phase":"ready"}]}"#, "replicas[0].id: wanted a name"),
            (r#"{"version":1,"replicas":[{"id":"a\n","phase":"ready"}]}"#, "replicas[0].id: wanted a name"),
            (
                r#"{"version":1,"replicas":[{"id":"a","phase":"ready"},{"id":"a","phase":"ready"}]}"#,
                "replicas[1].id: found a twice",
            ),
            (
                r#"{"version":1,"replicas":[{"id":"a","phase":"ready","adress":"x:1"}]}"#,
                "unknown field `adress`",
            ),
            (
                r#"{"version":1,"replicas":[{"id":"a","phase":"ready","address":"http://x:1/"}]}"#,
                "replicas[0].address: found `http://x:1/`, wanted `host:port`",
            ),
            (
                r#"{"version":1,"replicas":[{"id":"a","phase":"ready","address":"x:0"}]}"#,
                "replicas[0].address: found `x:0`",
            ),
            (
                r#"{"version":1,"replicas":[{"id":"a","phase":"ready","ageSeconds":-1}]}"#,
                "replicas[0].ageSeconds: found -1, wanted an age",
            ),
            (
                r#"{"version":1,"replicas":[{"id":"a","phase":"ready","ageSeconds":1e300}]}"#,
                "replicas[0].ageSeconds: found",
            ),
            (r#"{"version":1,"replicas":[]} {}"#, "trailing characters"),
        ];
        for (answer, words) in cases {
            let error = observed(answer.as_bytes()).expect_err(answer).to_string();
            assert!(error.contains(words), "{answer}: {error}");
        }
    }

    #[test]
    fn a_refusal_is_read_wherever_it_stands() {
        let refusal = Refusal { code: RefusalCode::OutOfCapacity, message: "full".to_owned() };
        let body = br#"{"version":1,"error":{"code":"outOfCapacity","message":"full"}}"#;
        assert_eq!(observed(body), Ok(Err(refusal.clone())));
        assert_eq!(applied(body), Ok(Err(refusal.clone())));
        assert_eq!(super::refusal(body), Some(refusal));
        assert_eq!(super::refusal(b"<html>"), None);
        assert_eq!(applied(b" \n"), Ok(Ok(())));
    }
}
