//! `forewarm decide`.

mod conformance;
mod print;

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use forewarm_core::{
    Cadence, Decision, Observation, Phase, Replica, Replicas, ScalerSpec, ScalerState, plan,
};
use forewarm_manifest::{RangeExport, read_observations, read_policy};
use forewarm_workload::RangeQuery;

use crate::{commands::output::Output, exit::Failure};

/// Feeds recorded observations to a policy, and prints each decision with its reasons.
///
/// A policy is an HPA, a ScaledObject, a Knative Service or an InferenceScaler, decided exactly as its own
/// controller would. It is evaluated once at each observation, whatever its own rhythm; nothing is
/// interpolated. The target is carried from decision to decision, while replicas and signals are what the
/// recording has: the fleet does not follow.
#[derive(Args)]
#[command(after_help = "\
Observations, one JSON object a line (`t` in seconds, ascending):
  {\"t\":0,\"replicas\":[{\"id\":\"p0\",\"phase\":\"ready\"}],
   \"signals\":{\"waiting\":{\"value\":7,\"perReplica\":{\"p0\":7}},\"queued\":{\"value\":3}}}
  Phases: requested, provisioning, loading, ready, draining.
  A signal that is not there was never asked for. {\"value\":null} is a source without such a
  value, {\"value\":null,\"error\":\"timeout\"} one that failed.

Signals:
  `queued` (waiting at the gateway), `waiting` (in the engines), `running`, `in_flight`,
  `gpu_utilization` (percent), `kv_usage` (0 to 1), `arrivals_total` (a counter).
  A metric is the signal of its own name (a trigger: of its name or query), else a well-known
  name is read from these (vllm:num_requests_waiting from `waiting` and `queued`), also in
  sums and rates of PromQL. The rest is missing, and the reason names the signal to provide.

Range exports of Prometheus (the answer of /api/v1/query_range):
  Each metric is a signal, each `pod` or `instance` a ready replica. Without such labels the
  fleet is taken to follow each decision at once.

JSON output, one object a line:
  {\"policy\",\"t\",\"from\",\"to\",\"summary\",\"steps\":[{\"stage\",\"replicas\",\"reason\",…}]}

Examples:
  forewarm decide --policy examples/seed/hpa.yaml --observations examples/seed/observations.jsonl
  forewarm decide --policy examples/seed/hpa.yaml examples/seed/scaledobject.yaml \\
      --observations examples/seed/observations.jsonl
  forewarm decide --policy hpa.yaml --observations range.json \\
      --signal vllm_queue=vllm_pending_requests
  forewarm decide --conformance vectors/")]
pub(crate) struct DecideArgs {
    /// Files with policies; several are decided side by side.
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "conformance")]
    policy: Vec<PathBuf>,
    /// Recorded observations; `-` is standard input. Several range exports are put together by time.
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "conformance")]
    observations: Vec<PathBuf>,
    /// How to print the decisions; JSON has one object a line.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,
    /// The target before the first decision [default: the replicas of the first observation]
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// The signal that a metric of a range export is; without METRIC: that of series without a name.
    #[arg(long, value_name = "[METRIC=]SIGNAL", value_parser = signal)]
    signal: Vec<(String, String)>,
    /// Replays a directory of recorded runs of the peers' own code, and exits with 1 when a decision differs.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["policy", "observations"])]
    conformance: Option<PathBuf>,
}

fn signal(text: &str) -> Result<(String, String), String> {
    let (metric, name) = text.split_once('=').unwrap_or(("", text));
    if name.is_empty() {
        Err("the signal's name is missing".into())
    } else {
        Ok((metric.into(), name.into()))
    }
}

pub(crate) fn decide(args: &DecideArgs) -> Result<(), Failure> {
    if let Some(folder) = &args.conformance {
        return conformance::run(folder);
    }
    let mut policies = policies(&args.policy)?;
    let recording = Recording::read(args)?;
    let mut printer = print::Printer::new(args.output, &policies);
    for observation in &recording.observations {
        let decisions: Vec<Decision> =
            policies.iter_mut().map(|policy| policy.decide(observation, &recording, args.replicas)).collect();
        printer.print(&policies, observation.at, &decisions)?;
    }
    Ok(())
}

/// A policy in the course of the recording.
struct Contender {
    name: String,
    spec: ScalerSpec,
    state: ScalerState,
}

impl Contender {
    fn decide(&mut self, observation: &Observation, recording: &Recording, first: Option<u32>) -> Decision {
        if self.state.target.is_none() {
            self.state.target = first.map(Replicas).or(recording.follows.then_some(self.spec.replicas.min));
        }
        if !recording.follows {
            return plan(&self.spec, &mut self.state, observation);
        }
        let count = self.state.target.map_or(0, |target| target.0);
        let replicas =
            (0..count).map(|index| Replica::new(format!("replica-{index}"), Phase::Ready)).collect();
        plan(&self.spec, &mut self.state, &Observation { replicas, ..observation.clone() })
    }
}

fn policies(files: &[PathBuf]) -> Result<Vec<Contender>, Failure> {
    let mut policies: Vec<(String, ScalerSpec)> = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let text = read_text(file)?;
        let read = read_policy(&name, &text).map_err(|problems| Failure::usage(anyhow!("{problems}")))?;
        policies.extend(read.into_iter().map(|spec| (name.clone(), spec)));
    }
    let taken = |wanted: &str| policies.iter().filter(|(_, spec)| spec.scaler.as_str() == wanted).count() > 1;
    let names: Vec<String> = policies
        .iter()
        .map(|(file, spec)| {
            let name = spec.scaler.as_str();
            if taken(name) { format!("{file}:{name}") } else { name.to_owned() }
        })
        .collect();
    let contender = |(name, (_, spec)): (String, (String, ScalerSpec))| Contender {
        name,
        spec: ScalerSpec { cadence: Cadence::EveryObservation, pause: None, ..spec },
        state: ScalerState::default(),
    };
    Ok(names.into_iter().zip(policies).map(contender).collect())
}

/// What was recorded.
struct Recording {
    observations: Vec<Observation>,
    /// Whether nothing is known of the fleet, which then is what was decided.
    follows: bool,
}

impl Recording {
    fn read(args: &DecideArgs) -> Result<Self, Failure> {
        let texts: Vec<(String, String)> = args
            .observations
            .iter()
            .map(|file| Ok((file.display().to_string(), read_text(file)?)))
            .collect::<Result<_, Failure>>()?;
        if let [(name, text)] = texts.as_slice()
            && !RangeQuery::is_one(text)
        {
            let observations = read_observations(name, text).map_err(Failure::usage)?;
            if observations.is_empty() {
                return Err(Failure::usage(anyhow!("{name}: there is no observation")));
            }
            return Ok(Self { observations, follows: false });
        }
        let names: BTreeMap<String, String> = args.signal.iter().cloned().collect();
        let mut export = RangeExport::default();
        for (name, text) in &texts {
            export.add(name, text, &names).map_err(Failure::usage)?;
        }
        let observations = export.observations();
        let follows = observations.iter().all(|observation| observation.replicas.is_empty());
        if observations.is_empty() {
            return Err(Failure::usage(anyhow!("the range exports have no sample")));
        }
        Ok(Self { observations, follows })
    }
}

fn read_text(file: &Path) -> Result<String, Failure> {
    let cannot = |error: std::io::Error| Failure::usage(anyhow!("cannot read {}: {error}", file.display()));
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(cannot)?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(cannot)
}
