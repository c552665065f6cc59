//! `forewarm simulate`.

mod mix;
pub(crate) mod page;
mod table;

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use forewarm_core::Bounds;
use forewarm_sim::{
    DataPlane, Decider, Report, Timeline, Together,
    compare::{References, Row},
    parallel,
};

use crate::{
    commands::{
        contender::{self, Contender, Play},
        scenario::{Measure, Scenario, ScenarioArgs, Trace, progress},
    },
    exit::{Failure, say, write},
};

/// Tries policies on traces: latency, cost, starts, beside each other.
///
/// Each policy decides in virtual time exactly as it would live, on the same requests and the same fleet, whose
/// replicas take time to start.
#[derive(Args)]
#[command(after_long_help = format!("{AFTER_HELP}\n\nPolicies with a name:{}", contender::names_help()))]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Policies: manifests, or names, which `--help` lists.
    #[arg(long, value_name = "POLICY", required = true, num_args = 1..)]
    policy: Vec<String>,
    /// Where requests wait: `gateway`, one queue for all replicas; `engine`, round robin into the engines' own
    /// queues, as behind a Kubernetes Service.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "gateway", value_name = "PLANE")]
    data_plane: Vec<Plane>,
    /// Leave out regret and bound: they take longer to compute than everything else.
    #[arg(long)]
    no_regret: bool,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,
    /// Write it to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Examples:
  forewarm simulate --trace azure2023_conv.csv --policy forewarm.yaml seed-prewarm static:4
  forewarm simulate --trace week.csv.zst --policy a.yaml b.yaml --cold-start heavy:180s --price 2.5 -o html > report.html
  forewarm simulate --trace chat=azure2023_conv.csv code=azure2023_code.csv --gpus-per-replica chat=4 --capacity 40 \\
    --policy forewarm seed-hpa

Several models: with names before the traces, each policy runs all models at the same time, each model with a scaler of
its own, on the GPUs of `--capacity`. There is a row for each model, and `all`. A model's regret and bound are those
of having all GPUs for itself.

Columns:
  attained     share of all requests whose first token came within the objective's bound, or within twice the
               time that their prompt takes on an idle replica, if that is longer; ✓: what the objective asks for
  worst hour   the smallest share in any hour with at least 100 requests (day: likewise, in JSON)
  GPU-hours    from each replica's request until it stopped: starting and draining are paid for
  regret       GPU-hours beside those of a policy that knows the arrivals beforehand, at the same objective
  TTFT         time from a request's arrival to its first token, its wait included
  flaps        changes of direction within 10 minutes
  failed       starts that failed or were given up, with `--capacity` or `--failing`
  ★            the cheapest policy on that trace that attains the objective, the clairvoyant one apart";

/// Where requests wait.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plane {
    /// One queue for all replicas.
    Gateway,
    /// Round robin into the engines' own queues.
    Engine,
}

impl From<Plane> for DataPlane {
    fn from(plane: Plane) -> Self {
        match plane {
            Plane::Gateway => DataPlane::Gateway,
            Plane::Engine => DataPlane::Engine,
        }
    }
}

/// What to print.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For machines: a list of rows.
    Json,
    /// One page with charts, which needs nothing beside itself.
    Html,
}

/// What is to be computed.
enum Job<'a> {
    /// What policies are measured by, for a trace and bounds.
    Measure(&'a Trace, Bounds),
    /// A policy on a trace.
    Run(&'a Trace, DataPlane, &'a Contender),
    /// A policy for each model of a mix.
    Mix(DataPlane, Vec<(Decider, u32)>),
}

/// What came of it.
enum Done {
    Measure(Option<Measure>),
    Run(Option<Report>),
    Mix(Together),
}

pub(crate) fn simulate(args: &SimulateArgs) -> Result<(), Failure> {
    let scenario = args.scenario.load()?;
    let contenders: Vec<Vec<Contender>> = scenario
        .traces
        .iter()
        .map(|trace| scenario.contenders(&args.policy, trace))
        .collect::<Result<_, _>>()?;
    check_capacity(&scenario, &contenders)?;
    say_what_cannot_be_served(&scenario, &contenders);
    let runs = play(args, &scenario, &contenders)?;
    let rows: Vec<Row> = runs.iter().map(|(row, _)| row.clone()).collect();
    let text = match args.output {
        Output::Table => table::compared(&scenario, &rows, args.report.is_none()),
        Output::Json => serde_json::to_string_pretty(&rows)?,
        Output::Html => page::compared(&scenario, &runs)?,
    };
    match &args.report {
        Some(path) => write(path, &text),
        None => {
            say(text);
            Ok(())
        }
    }
}

/// What policies on a trace are measured by, for each of their bounds.
struct Measures<'a>(Vec<(&'a Trace, Bounds, Option<Measure>)>);

impl Measures<'_> {
    fn of(&self, trace: &Trace, contender: &Contender) -> Option<&Measure> {
        let same = |(measured, bounds, _): &&(&Trace, Bounds, Option<Measure>)| {
            std::ptr::eq(*measured, trace) && *bounds == contender.bounds
        };
        self.0.iter().find(same)?.2.as_ref()
    }

    /// What decides, and the replicas at the beginning: a plan is known by now.
    fn decider(&self, trace: &Trace, contender: &Contender) -> Result<(Decider, u32), Failure> {
        if let Some(decider) = contender.decider() {
            return Ok(decider);
        }
        let measure = self.of(trace, contender).ok_or_else(|| {
            Failure::usage(anyhow!("`--policy clairvoyant` plans for `--slots`, not for `--profile`"))
        })?;
        Ok((Decider::Timetable(measure.plan.timetable.clone()), contender.bounds.min.0))
    }

    fn references(&self, trace: &Trace, contender: &Contender) -> References {
        let measure = self.of(trace, contender);
        References {
            clairvoyant_replica_hours: measure.map(|measure| measure.plan.report.replica_hours),
            clairvoyant_attained: measure.map(|measure| measure.plan.report.attainment()),
            bound_replica_hours: measure.and_then(|measure| measure.bound_replica_hours),
        }
    }
}

/// The traces and bounds that something is to be measured by.
fn measured<'a>(
    args: &SimulateArgs,
    scenario: &'a Scenario,
    contenders: &[Vec<Contender>],
) -> Vec<(&'a Trace, Bounds)> {
    let mut measures: Vec<(&Trace, Bounds)> = Vec::new();
    for (trace, contenders) in scenario.traces.iter().zip(contenders) {
        for contender in contenders {
            let same = |(other, bounds): &(&Trace, Bounds)| {
                std::ptr::eq(*other, trace) && *bounds == contender.bounds
            };
            let is_plan = matches!(contender.play, Play::Clairvoyant);
            if !measures.iter().any(same) && (is_plan || !args.no_regret) {
                measures.push((trace, contender.bounds));
            }
        }
    }
    measures
}

/// Where requests wait under a contender: a plan is for the shared queue.
fn planes(args: &SimulateArgs, contender: &Contender) -> Vec<DataPlane> {
    match contender.play {
        Play::Clairvoyant => vec![DataPlane::Gateway],
        Play::Core(_) | Play::Static(_) => args.data_plane.iter().map(|&plane| plane.into()).collect(),
    }
}

/// All policies on all traces, on all cores. `contenders` has a list for each trace.
fn play(
    args: &SimulateArgs,
    scenario: &Scenario,
    contenders: &[Vec<Contender>],
) -> Result<Vec<(Row, Timeline)>, Failure> {
    let with_timeline = args.output == Output::Html;
    let measures = measured(args, scenario, contenders);
    let runs = if scenario.is_mix() {
        Vec::new()
    } else {
        let all = scenario.traces.iter().zip(contenders);
        all.flat_map(|(trace, contenders)| contenders.iter().map(move |contender| (trace, contender)))
            .flat_map(|(trace, contender)| {
                planes(args, contender).into_iter().map(move |plane| (trace, plane, contender))
            })
            .collect()
    };
    let mixes = if scenario.is_mix() { mix::mixes(args, contenders) } else { Vec::new() };
    // Measures take longest, so they begin. What follows a plan waits for it.
    let now = mixes.iter().filter_map(|mix| Some(Job::Mix(mix.plane, mix.deciders()?)));
    let jobs: Vec<Job<'_>> = measures
        .iter()
        .map(|&(trace, bounds)| Job::Measure(trace, bounds))
        .chain(runs.iter().map(|&(trace, plane, contender)| Job::Run(trace, plane, contender)))
        .chain(now)
        .collect();
    let bar = progress(Some(jobs.len()));
    let mut done = parallel::map(
        &jobs,
        |job| match job {
            Job::Measure(trace, bounds) => Done::Measure(scenario.measure(trace, *bounds)),
            Job::Run(trace, plane, contender) => Done::Run(
                contender
                    .decider()
                    .map(|(decider, initial)| scenario.run(trace, *plane, initial, &decider, with_timeline)),
            ),
            Job::Mix(plane, deciders) => Done::Mix(scenario.run_mix(*plane, deciders, with_timeline)),
        },
        || bar.inc(1),
    )
    .into_iter();
    bar.finish_and_clear();
    let measures = Measures(
        measures
            .into_iter()
            .zip(done.by_ref())
            .map(|((trace, bounds), done)| match done {
                Done::Measure(measure) => (trace, bounds, measure),
                Done::Run(_) | Done::Mix(_) => (trace, bounds, None),
            })
            .collect(),
    );
    let mut rows = Vec::new();
    for ((trace, plane, contender), done) in runs.into_iter().zip(done.by_ref()) {
        let report = match done {
            Done::Run(Some(report)) => report,
            Done::Run(None) | Done::Measure(_) | Done::Mix(_) => {
                let (decider, initial) = measures.decider(trace, contender)?;
                scenario.run(trace, plane, initial, &decider, with_timeline)
            }
        };
        let references = measures.references(trace, contender);
        let subject = scenario.subject(trace, plane, &contender.name);
        rows.push((Row::new(subject, &report, references, scenario.price(trace)), report.timeline));
    }
    for mix in mixes {
        let together = match mix.deciders().and_then(|_| done.next()) {
            Some(Done::Mix(together)) => together,
            Some(Done::Measure(_) | Done::Run(_)) | None => {
                scenario.run_mix(mix.plane, &mix.planned(scenario, &measures)?, with_timeline)
            }
        };
        rows.extend(mix.rows(scenario, &measures, together));
    }
    Ok(rows)
}

/// The provider must have what is there at the beginning.
fn check_capacity(scenario: &Scenario, contenders: &[Vec<Contender>]) -> Result<(), Failure> {
    let Some(capacity) = scenario.capacity else { return Ok(()) };
    let gpus = |trace: &Trace, contender: &Contender| {
        u64::from(trace.gpus_per_replica) * u64::from(contender.initial())
    };
    let policies = contenders.first().map_or(0, Vec::len);
    for policy in 0..policies {
        let each = scenario.traces.iter().zip(contenders);
        let held = each.filter_map(|(trace, list)| list.get(policy).map(|contender| gpus(trace, contender)));
        let held: u64 = if scenario.is_mix() { held.sum() } else { held.max().unwrap_or(0) };
        if held > u64::from(capacity) {
            let name =
                contenders.first().and_then(|list| list.get(policy)).map_or("", |contender| &contender.name);
            return Err(Failure::usage(anyhow!(
                "`--policy {name}` begins with {held} GPUs, more than `--capacity {capacity}`; see `--min`"
            )));
        }
    }
    Ok(())
}

/// A policy that may not have the replicas that the load needs is judged for its bound, not for its rules.
fn say_what_cannot_be_served(scenario: &Scenario, contenders: &[Vec<Contender>]) {
    for (trace, contenders) in scenario.traces.iter().zip(contenders) {
        let mean = scenario.load(trace).mean;
        for contender in contenders {
            let max = contender.most();
            if mean > f64::from(max) {
                tracing::warn!(
                    "{}: the requests keep {mean:.1} replicas busy on average, and `{}` may have {max} at most; see `--max`",
                    trace.short_name(),
                    contender.name
                );
            }
        }
    }
}
