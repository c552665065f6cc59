//! `forewarm tune`.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use forewarm_core::ScalerSpec;
use forewarm_manifest::{CheckedScaler, read_scalers};
use forewarm_sim::{
    DataPlane, Report,
    compare::frontier,
    knobs, parallel,
    tune::{Outcome, search},
};
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::json;

use crate::{
    commands::{
        contender::{Contender, Play, decider},
        scenario::{Scenario, ScenarioArgs, Trace, progress},
        simulate::{Output, Plane, page},
        table::{self, percent},
    },
    exit::{Failure, say, write},
};

/// Searches the settings of a policy on a trace, and shows what each level of the objective costs.
///
/// The first half of the trace is searched; the second half, which the search has not seen, tells what the settings
/// are worth. Where the two halves differ much, so will tomorrow.
#[derive(Args)]
#[command(after_help = "Example:\n  \
    forewarm tune --trace week.csv.zst --policy forewarm.yaml --objective ttft=2s@99% --write tuned.yaml\n\n\
    One setting after the other is tried at several values, the best is kept, and so on until nothing gets better.\n\
    Better: attaining the objective, then fewer GPU-hours. `--min` keeps the fewest replicas as they are.")]
pub(crate) struct TuneArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Policies: manifests, or names as in `forewarm simulate --help`.
    #[arg(long, value_name = "POLICY", required = true, num_args = 1..)]
    policy: Vec<String>,
    /// Where requests wait: at a `gateway`, or behind a Kubernetes Service in each `engine`.
    #[arg(long, value_enum, default_value = "gateway", value_name = "PLANE")]
    data_plane: Plane,
    /// Write the chosen settings as an InferenceScaler to this file; for one policy and one trace.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,
    /// Write it to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// The share of the trace's time that is searched.
const SEARCHED: f64 = 0.5;

/// What was found for one policy on one trace.
#[derive(Serialize)]
struct Tuned {
    policy: String,
    trace: String,
    objective: String,
    /// Candidates that were run.
    tried: usize,
    about: String,
    /// Those that nothing beats, the cheapest first, and those with a tag.
    candidates: Vec<Settings>,
    #[serde(skip)]
    chosen: ScalerSpec,
}

/// A candidate on both parts.
#[derive(Serialize)]
struct Settings {
    /// `given` or `chosen`; empty for the others.
    tag: &'static str,
    /// Whether nothing else is both cheaper and better on the part that was searched.
    frontier: bool,
    settings: Vec<(&'static str, Option<f64>)>,
    tuned_on: Judged,
    rest: Judged,
}

#[derive(Serialize)]
struct Judged {
    attained: f64,
    meets_objective: bool,
    gpu_hours: f64,
}

pub(crate) fn tune(args: &TuneArgs) -> Result<(), Failure> {
    let scenario = args.scenario.load()?;
    if scenario.is_mix() {
        return Err(Failure::usage(anyhow!(
            "settings are searched for one model at a time: `--trace` without names"
        )));
    }
    if args.write.is_some() && args.policy.len() * scenario.traces.len() != 1 {
        return Err(Failure::usage(anyhow!("`--write` takes the settings of one policy on one trace")));
    }
    let mut all = Vec::new();
    let mut tuned_ones = Vec::new();
    let bar = progress(None);
    for trace in &scenario.traces {
        for contender in scenario.contenders(&args.policy, trace)? {
            let (given, free) = (core(&contender)?, args.scenario.min.is_none());
            all.push(tune_one(&scenario, trace, &contender, given, args.data_plane.into(), free, &bar));
            tuned_ones.push(contender);
        }
    }
    bar.finish_and_clear();
    let text = match args.output {
        Output::Table => all.iter().fold(scenario.in_words(), |text, tuned| text + "\n\n" + &in_text(tuned)),
        Output::Json => serde_json::to_string_pretty(&all)?,
        Output::Html => page::filled(&json!({
            "kind": "tune",
            "rests_on": scenario.in_words(),
            "wanted_percent": scenario.objective.percent,
            "traces": all,
        }))?,
    };
    if let (Some(path), [tuned], [contender]) = (&args.write, &all[..], &tuned_ones[..]) {
        write(path, &manifest(contender, &tuned.chosen, &scenario)?)?;
    }
    match &args.report {
        Some(path) => write(path, &text),
        None => {
            say(text);
            Ok(())
        }
    }
}

fn core(contender: &Contender) -> Result<&ScalerSpec, Failure> {
    match &contender.play {
        Play::Core(spec) => Ok(spec),
        Play::Static(_) | Play::Clairvoyant => {
            let name = &contender.name;
            Err(Failure::usage(anyhow!("`--policy {name}` has no settings to search")))
        }
    }
}

fn tune_one(
    scenario: &Scenario,
    trace: &Trace,
    contender: &Contender,
    given: &ScalerSpec,
    data_plane: DataPlane,
    min_is_free: bool,
    bar: &ProgressBar,
) -> Tuned {
    let (searched, rest) = trace.split(SEARCHED);
    let knobs = knobs(given, min_is_free);
    let run = |trace: &Trace, spec: &ScalerSpec| {
        scenario.run(trace, data_plane, spec.replicas.min.0, &decider(spec), false)
    };
    let outcome =
        |report: &Report| Outcome { attained: report.attainment(), replica_hours: report.replica_hours };
    let wanted = scenario.objective.percent / 100.0;
    let found = search(given, &knobs, wanted, |spec| outcome(&run(&searched, spec)), || bar.inc(1));
    let points: Vec<(f64, f64)> = found
        .candidates
        .iter()
        .map(|candidate| (candidate.outcome.replica_hours, candidate.outcome.attained))
        .collect();
    let frontier = frontier(&points);
    let mut shown: Vec<usize> = frontier.clone();
    shown.extend([0, found.best].iter().filter(|index| !frontier.contains(index)));
    shown.sort_by(|left, right| points[*left].0.total_cmp(&points[*right].0));
    shown.dedup();
    let candidates: Vec<_> =
        shown.iter().filter_map(|&index| Some((index, found.candidates.get(index)?))).collect();
    let on_rest =
        parallel::map(&candidates, |(_, candidate)| outcome(&run(&rest, &candidate.spec)), || bar.inc(1));
    let judged = |outcome: Outcome| Judged {
        attained: outcome.attained,
        meets_objective: outcome.attained >= wanted,
        gpu_hours: outcome.replica_hours * f64::from(trace.gpus_per_replica),
    };
    let rows = candidates.iter().zip(on_rest).map(|(&(index, candidate), on_rest)| Settings {
        tag: match index {
            index if index == found.best => "chosen",
            0 => "given",
            _ => "",
        },
        frontier: frontier.contains(&index),
        settings: knobs.iter().map(|knob| (knob.name, (knob.get)(&candidate.spec))).collect(),
        tuned_on: judged(candidate.outcome),
        rest: judged(on_rest),
    });
    Tuned {
        policy: contender.name.clone(),
        trace: trace.short_name().to_owned(),
        objective: scenario.objective.to_string(),
        tried: found.candidates.len(),
        about: format!(
            "{} candidates on the first {:.1} h ({} requests); beside it, what the same settings give on the rest ({} requests)",
            found.candidates.len(),
            searched.hours(),
            searched.requests.len(),
            rest.requests.len()
        ),
        candidates: rows.collect(),
        chosen: found.candidates.get(found.best).map_or_else(|| given.clone(), |best| best.spec.clone()),
    }
}

fn in_text(tuned: &Tuned) -> String {
    let names: Vec<&str> = tuned
        .candidates
        .first()
        .map(|row| row.settings.iter().map(|(name, _)| *name).collect())
        .unwrap_or_default();
    let mut titles = vec![""];
    titles.extend(&names);
    titles.extend(["attained", "GPU-hours", "", "on the rest", "GPU-hours"]);
    let most = tuned.candidates.iter().map(|row| row.tuned_on.gpu_hours).fold(0.0, f64::max);
    let on = |judged: &Judged| {
        format!("{} {}", percent(judged.attained), if judged.meets_objective { "✓" } else { "✗" })
    };
    let lines = tuned.candidates.iter().map(|row| {
        let mut cells = vec![row.tag.to_owned()];
        cells.extend(row.settings.iter().map(|(_, value)| value.map_or_else(|| "–".to_owned(), rounded)));
        cells.push(on(&row.tuned_on));
        cells.push(format!("{:.2}", row.tuned_on.gpu_hours));
        cells.push(bar_of(row.tuned_on.gpu_hours / most));
        cells.push(on(&row.rest));
        cells.push(format!("{:.2}", row.rest.gpu_hours));
        (cells, row.tag == "chosen")
    });
    let words =
        [true].into_iter().chain(names.iter().map(|_| false)).chain([false, false, true, false, false]);
    let table = table::table(&titles, &words.collect::<Vec<_>>(), lines.collect(), false);
    format!("{} on {}\n{}\n{table}", tuned.policy, tuned.trace, tuned.about)
}

/// A setting without the digits that mean nothing.
fn rounded(value: f64) -> String {
    ((value * 1e3).round() / 1e3).to_string()
}

/// A bar of up to 20 characters.
fn bar_of(share: f64) -> String {
    "█".repeat((share * 20.0).round().clamp(0.0, 20.0) as usize)
}

/// What a manifest needs beside the policy, where there was none.
const SKELETON: &str = "
apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {name: vllm-llama3}
spec:
  target: {kubernetes: {apiVersion: apps/v1, kind: Deployment, name: vllm-llama3}}
  replicas: {min: 1, max: 8}
  policy: {queueDepth: {}}
";

/// The manifest that was given, or a new one, with the settings that were found.
fn manifest(contender: &Contender, chosen: &ScalerSpec, scenario: &Scenario) -> Result<String, Failure> {
    let mut scaler: CheckedScaler = match &contender.manifest {
        Some(scaler) => (**scaler).clone(),
        None => read_scalers("the skeleton of a manifest", SKELETON)
            .map_err(|problems| anyhow!("{problems}"))?
            .pop()
            .ok_or_else(|| anyhow!("the skeleton of a manifest is empty"))?,
    };
    scaler.spec.policy = chosen.policy.clone();
    scaler.spec.behavior = chosen.behavior.clone();
    scaler.spec.replicas = chosen.replicas;
    scaler.spec.cold_start = chosen.cold_start;
    scaler.objective = Some(forewarm_manifest::Objective {
        ttft: scenario.objective.ttft,
        percent: scenario.objective.percent,
    });
    Ok(scaler.to_yaml()?)
}
