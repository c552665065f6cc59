//! Policies as a command line names them: a manifest, or a name.

use std::{path::Path, time::Duration};

use anyhow::anyhow;
use forewarm_core::{Bounds, ColdStartSpec, Environment, Policy, ScalerSpec};
use forewarm_manifest::{CheckedScaler, read_policy, read_scalers};
use forewarm_sim::{Decider, Objective, Step};

use crate::{
    commands::named::{NAMES, named},
    exit::Failure,
};

/// A policy that is compared.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// As it was named.
    pub(crate) name: String,
    pub(crate) play: Play,
    /// The fewest and the most replicas that it may have.
    pub(crate) bounds: Bounds,
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
    /// A plan that is made in the knowledge of all requests.
    Clairvoyant,
}

/// What the command line says about all policies alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// `--min` and `--max`, where given: they count for every policy.
    pub(crate) min: Option<u32>,
    pub(crate) max: Option<u32>,
    /// Requests that a replica works on at a time.
    pub(crate) max_concurrency: u32,
    /// What is to be attained.
    pub(crate) objective: Objective,
    /// How long starts are expected to take, where a manifest does not say.
    pub(crate) cold_start: Duration,
    /// What a replica that is never idle serves, where it was measured.
    pub(crate) replica_requests_per_second: Option<f64>,
}

/// The name of the policy that others are measured by.
pub(crate) const CLAIRVOYANT: &str = "clairvoyant";

/// For help texts: each name in a line.
pub(crate) fn names_help() -> String {
    NAMES.iter().map(|(name, what)| format!("\n  {name:<14} {what}")).collect()
}

impl Contender {
    /// Reads a policy as it was named.
    pub(crate) fn read(word: &str, terms: Terms) -> Result<Self, Failure> {
        let bounds_from = |min: u32, max: u32| {
            let min = terms.min.unwrap_or(min);
            Bounds::new(min, terms.max.unwrap_or(max.max(min))).map_err(|error| {
                Failure::usage(anyhow!("`--policy {word}` with what `--min` and `--max` say: {error}"))
            })
        };
        let without_spec = |play, bounds| Self { name: word.to_owned(), play, bounds, manifest: None };
        if word == CLAIRVOYANT {
            return Ok(without_spec(Play::Clairvoyant, bounds_from(1, 8)?));
        }
        if let Some(count) = word.strip_prefix("static:") {
            let count =
                count.parse().ok().filter(|count| (1..=100_000).contains(count)).ok_or_else(|| {
                    let wanted = "after `static:` comes a number of replicas, 1 to 100000";
                    Failure::usage(anyhow!("`--policy {word}`: {wanted}"))
                })?;
            // What it is measured by may have fewer.
            return Ok(without_spec(Play::Static(count), bounds_from(1, count.max(8))?));
        }
        let (mut spec, manifest) = match named(word, &terms) {
            Some(named) => {
                let (policy, bounds) = named?;
                let cold_start = ColdStartSpec { expected: terms.cold_start, ..ColdStartSpec::default() };
                let environment = Environment::Dev;
                (ScalerSpec { environment, cold_start, ..ScalerSpec::new(word, bounds, policy) }, None)
            }
            None => from_file(word)?,
        };
        if let Policy::Queue(_) = spec.policy {
            let why = "follows the messages of a queue, and a trace has requests";
            return Err(Failure::usage(anyhow!("`--policy {word}` {why}")));
        }
        // Who is cut off would come again; here a drain takes as long as its requests do.
        spec.drain_deadline = NO_DEADLINE;
        let bounds = bounds_from(spec.replicas.min.0, spec.replicas.max.0)?;
        spec.replicas = bounds;
        spec.max_concurrency = terms.max_concurrency;
        Ok(Self { name: word.to_owned(), play: Play::Core(Box::new(spec)), bounds, manifest })
    }

    /// What decides in a run, and how many replicas are ready at its beginning; `None` where that has to be
    /// planned on the trace first.
    pub(crate) fn decider(&self) -> Option<(Decider, u32)> {
        match &self.play {
            Play::Core(spec) => Some((decider(spec), spec.replicas.min.0)),
            Play::Static(count) => Some((Decider::Timetable(vec![Step { at: 0, replicas: *count }]), *count)),
            Play::Clairvoyant => None,
        }
    }

    /// Replicas that are ready at the beginning of its run.
    pub(crate) fn initial(&self) -> u32 {
        if let Play::Static(count) = self.play { count } else { self.bounds.min.0 }
    }

    /// The most replicas that it will ever have.
    pub(crate) fn most(&self) -> u32 {
        if let Play::Static(count) = self.play { count } else { self.bounds.max.0 }
    }
}

/// Our own policies are called on events too; a peer looks at its own times.
pub(crate) fn decider(spec: &ScalerSpec) -> Decider {
    match spec.policy {
        Policy::Forewarm(_) | Policy::QueueDepth(_) | Policy::Queue(_) => Decider::core(spec.clone()),
        Policy::Hpa(_)
        | Policy::Keda(_)
        | Policy::Kpa(_)
        | Policy::RayServe(_)
        | Policy::SkyServe(_)
        | Policy::Dynamo(_) => Decider::periodic(spec.clone()),
    }
}

/// Longer than any run.
const NO_DEADLINE: Duration = Duration::from_secs(20 * 365 * 86_400);

type FromFile = (ScalerSpec, Option<Box<CheckedScaler>>);

fn from_file(word: &str) -> Result<FromFile, Failure> {
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
    let mut policies = read_policy(word, &text).map_err(|problems| Failure::usage(anyhow!("{problems}")))?;
    match (policies.pop(), policies.len()) {
        // An InferenceScaler has more in it than its policy.
        (Some(spec), 0) => {
            let manifest = read_scalers(word, &text).ok().and_then(|mut scalers| scalers.pop());
            Ok((spec, manifest.map(Box::new)))
        }
        (Some(_), more) => Err(Failure::usage(anyhow!(
            "`--policy {word}` has {} policies in it, wanted a file with one",
            more + 1
        ))),
        (None, _) => Err(Failure::usage(anyhow!("`--policy {word}` has no policy in it"))),
    }
}
