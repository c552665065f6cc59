//! `forewarm simulate`.

pub(crate) mod page;
mod table;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use forewarm_sim::{
    DataPlane, Timeline,
    compare::{References, Row},
    parallel,
};

use crate::{
    commands::{
        contender::{self, Contender},
        scenario::{Scenario, ScenarioArgs, Trace, progress},
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
    /// Policies: manifests, or names (all of them below; more with `--help`).
    #[arg(long, value_name = "POLICY", required = true, num_args = 1..)]
    policy: Vec<String>,
    /// Where requests wait: `gateway`, one queue for all replicas; `engine`, round robin into the engines' own
    /// queues, as behind a Kubernetes Service.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "gateway", value_name = "PLANE")]
    data_plane: Vec<Plane>,
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

Columns:
  attained     share of all requests whose first token came within the objective's bound, or within twice the
               time that their prompt takes on an idle replica, if that is longer; ✓: what the objective asks for
  worst hour   the smallest share in any hour with at least 100 requests (day: likewise, in JSON)
  GPU-hours    from each replica's request until it stopped: starting and draining are paid for
  regret       GPU-hours beside those of a policy that knows the arrivals beforehand, at the same objective
  TTFT         time from a request's arrival to its first token, its wait included
  flaps        changes of direction within 10 minutes
  ★            the cheapest policy on that trace that attains the objective";

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

/// A run that is to be.
struct Job<'a> {
    trace: &'a Trace,
    data_plane: DataPlane,
    contender: &'a Contender,
}

pub(crate) fn simulate(args: &SimulateArgs) -> Result<(), Failure> {
    let scenario = args.scenario.load()?;
    let contenders = scenario.contenders(&args.policy)?;
    say_what_cannot_be_served(&scenario, &contenders);
    let mut jobs = Vec::new();
    for trace in &scenario.traces {
        for contender in &contenders {
            jobs.extend(args.data_plane.iter().map(|&plane| Job {
                trace,
                data_plane: plane.into(),
                contender,
            }));
        }
    }
    let bar = progress(Some(jobs.len()));
    let with_timeline = args.output == Output::Html;
    let runs = parallel::map(&jobs, |job| play(&scenario, job, with_timeline), || bar.inc(1));
    bar.finish_and_clear();
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

fn play(scenario: &Scenario, job: &Job<'_>, with_timeline: bool) -> (Row, Timeline) {
    let (min, _) = job.contender.bounds();
    let mut report = scenario.run(job.trace, job.data_plane, min, &job.contender.decider(), with_timeline);
    let subject = scenario.subject(job.trace, job.data_plane, &job.contender.name);
    let timeline = std::mem::take(&mut report.timeline);
    (Row::new(subject, &report, References::default(), scenario.price), timeline)
}

/// A policy that may not have the replicas that the load needs is judged for its bound, not for its rules.
fn say_what_cannot_be_served(scenario: &Scenario, contenders: &[Contender]) {
    for trace in &scenario.traces {
        let mean = scenario.load(trace).mean;
        for contender in contenders {
            let (_, max) = contender.bounds();
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
