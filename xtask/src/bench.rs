//! Benchmarks: rows with a figure, its unit, and the ratio to a peer where one is measured in the same run.

use std::io::Write;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{
    cargo::cargo,
    peers,
    profile_guided::ProfileGuided,
    testbed::{self, Part},
};

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// What to measure.
    #[arg(value_enum)]
    area: Area,
    /// Measures what `cargo xtask build` makes, and not what a plain release build does. What that learned last is used; it
    /// learns first where it never did.
    #[arg(long)]
    profile_guided: bool,
    /// How to print the rows.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Area {
    /// Deciding: how soon after a burst, and what it costs.
    Core,
    /// The gateway beside other proxies, which are downloaded at the first run. Takes minutes, and two cores.
    Gateway,
    /// From a burst to `/scale`, forewarm beside the real HPA, in a real cluster, which is built with Go at the first
    /// run; and beside KEDA, where `cargo xtask testbed keda` has built it. Takes ten minutes, with KEDA.
    Kube,
    /// Ten thousand scalers on one Kubernetes controller. Takes ten minutes, and the control plane of the testbed.
    KubeScale,
    /// The gateway's queue: a place and a slot.
    Queue,
    /// A thousand signals that are read each second, on one core. Takes half a minute.
    Signals,
    /// Simulating: requests in a second, on one core.
    Sim,
    /// The simulator beside the live system, on the same workload. Takes an hour on two cores, five minutes on
    /// thirteen, and a quiet machine.
    Validation,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Deserialize, Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    came: Came,
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Came {
    Measured {
        figure: f64,
        unit: String,
        #[serde(flatten)]
        beside: Option<Beside>,
    },
    /// What it needs is not there.
    Skipped { skipped: String },
}

/// What a peer took in the same run.
#[derive(Deserialize, Serialize)]
struct Beside {
    peer: String,
    peer_figure: f64,
    ratio: f64,
}

/// Runs the benchmarks of an area.
pub(crate) fn bench(args: &BenchArgs) -> Result<()> {
    let benches: &[(&str, &str)] = match args.area {
        Area::Core => &[("forewarm", "reaction"), ("forewarm-core", "deciding")],
        Area::Gateway => &[("forewarm", "gateway")],
        Area::Kube => &[("forewarm", "kube")],
        Area::KubeScale => &[("forewarm", "kube_scale")],
        Area::Queue => &[("forewarm-gateway", "queueing")],
        Area::Signals => &[("forewarm-signals", "polling")],
        Area::Sim => &[("forewarm-sim", "speed"), ("forewarm-sim", "batching")],
        Area::Validation => &[("forewarm", "validation")],
    };
    if let Area::Kube | Area::KubeScale = args.area {
        testbed::fetch(Part::Kubernetes)?;
    }
    let mut rows = Vec::new();
    for (package, bench) in benches {
        rows.extend(measure(package, bench, args.profile_guided)?);
    }
    let mut out = std::io::stdout();
    match args.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?,
        Output::Table => {
            writeln!(
                out,
                "{:<55} {:>10} {:<6} {:>12} {:>10}  peer",
                "what", "figure", "unit", "peer's", "ratio"
            )?;
            for Row { name, came } in &rows {
                write!(out, "{name:<55} ")?;
                match came {
                    Came::Skipped { skipped } => write!(out, "skipped: {skipped}")?,
                    Came::Measured { figure, unit, beside } => {
                        write!(out, "{figure:>10.2} {unit:<6}")?;
                        if let Some(Beside { peer, peer_figure, ratio }) = beside {
                            write!(out, " {peer_figure:>12.1} {ratio:>10.5}  {peer}")?;
                        }
                    }
                }
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

/// Runs one benchmark, which prints a row of JSON a line.
fn measure(package: &str, bench: &str, is_guided: bool) -> Result<Vec<Row>> {
    let command = ["bench", "--quiet", "-p", package, "--bench", bench];
    let mut run = cargo(&command);
    if is_guided {
        ProfileGuided::new()?.guide(&mut run)?;
    }
    if bench == "gateway" {
        run.env("FOREWARM_BENCH_PEERS", peers::install()?);
    }
    let output = run.output()?;
    if !output.status.success() {
        bail!("cargo {} failed:\n{}", command.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines().filter(|line| line.starts_with('{')).map(serde_json::from_str);
    Ok(rows.collect::<Result<_, _>>()?)
}
