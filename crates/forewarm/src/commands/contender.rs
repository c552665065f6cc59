//! Policies as a command line names them: a manifest, or a name.

use std::{path::Path, time::Duration};

use anyhow::anyhow;
use forewarm_core::{Bounds, ColdStartSpec, Environment, Policy, PreWarm, QueueDepth, Requests, ScalerSpec};
use forewarm_manifest::{CheckedScaler, read_scalers};
use forewarm_sim::{Decider, Step};

use crate::exit::Failure;

/// A policy that is compared.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// As it was named.
    pub(crate) name: String,
    pub(crate) play: Play,
    /// Where it came from, if from a file.
    pub(crate) manifest: Option<Box<CheckedScaler>>,
}

/// What decides.
#[derive(Clone, Debug)]
pub(crate) enum Play {
    /// The core with a policy of it.
    Core(Box<ScalerSpec>),
    /// Always so many replicas.
    Static(u32),
}

/// What the command line says about all policies alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// `--min` and `--max`, where given: they count for every policy.
    pub(crate) min: Option<u32>,
    pub(crate) max: Option<u32>,
    /// Requests that a replica works on at a time.
    pub(crate) max_concurrency: u32,
    /// How long starts are expected to take, where a manifest does not say.
    pub(crate) cold_start: Duration,
}

/// The names that are no file, and what each is.
const NAMES: [(&str, &str); 2] = [
    (
        "seed-prewarm",
        "waiting requests per replica, and pre-warming at 0.7 of a queue of 100 within 180 s; 1 to 8 replicas",
    ),
    ("static:N", "always N replicas"),
];

/// For help texts: each name in a line.
pub(crate) fn names_help() -> String {
    NAMES.iter().map(|(name, what)| format!("\n  {name:<14} {what}")).collect()
}

impl Contender {
    /// Reads a policy as it was named.
    pub(crate) fn read(word: &str, terms: Terms) -> Result<Self, Failure> {
        if let Some(count) = word.strip_prefix("static:") {
            let count =
                count.parse().ok().filter(|count| (1..=100_000).contains(count)).ok_or_else(|| {
                    Failure::usage(anyhow!(
                        "`--policy {word}`: after `static:` comes a number of replicas, 1 to 100000"
                    ))
                })?;
            return Ok(Self { name: word.to_owned(), play: Play::Static(count), manifest: None });
        }
        let (mut spec, manifest) = match named(word) {
            Some((policy, bounds)) => {
                let cold_start = ColdStartSpec { expected: terms.cold_start, ..ColdStartSpec::default() };
                let environment = Environment::Dev;
                let spec = ScalerSpec::new(word, bounds?, policy?);
                (ScalerSpec { environment, cold_start, ..spec }, None)
            }
            None => {
                let scaler = from_file(word)?;
                (scaler.spec.clone(), Some(Box::new(scaler)))
            }
        };
        let (min, max) = (spec.replicas.min.0, spec.replicas.max.0);
        spec.replicas =
            Bounds::new(terms.min.unwrap_or(min), terms.max.unwrap_or(max.max(terms.min.unwrap_or(0))))
                .map_err(|error| {
                    Failure::usage(anyhow!("`--policy {word}` with `--min` and `--max`: {error}"))
                })?;
        spec.max_concurrency = terms.max_concurrency;
        Ok(Self { name: word.to_owned(), play: Play::Core(Box::new(spec)), manifest })
    }

    /// The fewest and the most replicas.
    pub(crate) fn bounds(&self) -> (u32, u32) {
        match &self.play {
            Play::Core(spec) => (spec.replicas.min.0, spec.replicas.max.0),
            Play::Static(count) => (*count, *count),
        }
    }

    /// What decides in a run.
    pub(crate) fn decider(&self) -> Decider {
        match &self.play {
            Play::Core(spec) => decider(spec),
            Play::Static(count) => Decider::Timetable(vec![Step { at: 0, replicas: *count }]),
        }
    }
}

/// Our own policies are called on events too; a peer looks at its own times.
pub(crate) fn decider(spec: &ScalerSpec) -> Decider {
    match spec.policy {
        Policy::QueueDepth(_) => Decider::core(spec.clone()),
    }
}

type Named = (Result<Policy, Failure>, Result<Bounds, Failure>);

/// The policies with a name, as they are used today.
fn named(word: &str) -> Option<Named> {
    match word {
        "seed-prewarm" => Some((seed_prewarm(), Bounds::new(1, 8).map_err(Failure::from))),
        _ => None,
    }
}

/// `examples/seed/`: queue depth 5 a replica, pre-warming at 0.7, and a lead of 180 s.
fn seed_prewarm() -> Result<Policy, Failure> {
    let pre_warm =
        PreWarm { threshold: 0.7, lead_time: Duration::from_secs(180), max_queue: Requests::new(100.0)? };
    let per_replica = Requests::new(QueueDepth::DEFAULT_PER_REPLICA)?;
    Ok(Policy::QueueDepth(QueueDepth { per_replica, pre_warm: Some(pre_warm) }))
}

fn from_file(word: &str) -> Result<CheckedScaler, Failure> {
    let path = Path::new(word);
    if !path.exists() {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        return Err(Failure::usage(anyhow!(
            "`--policy {word}` is neither a file nor a policy with a name; names are: {}",
            names.join(", ")
        )));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(anyhow!("`--policy {word}` cannot be read: {error}")))?;
    let mut scalers = read_scalers(word, &text).map_err(|problems| Failure::usage(anyhow!("{problems}")))?;
    match (scalers.pop(), scalers.len()) {
        (Some(scaler), 0) => Ok(scaler),
        (Some(_), more) => Err(Failure::usage(anyhow!(
            "`--policy {word}` has {} scalers; a policy is a file with one",
            more + 1
        ))),
        (None, _) => Err(Failure::usage(anyhow!("`--policy {word}` has no scaler in it"))),
    }
}
