//! `forewarm load`.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use forewarm_load::{LoadConfig, LoadProgress};
use forewarm_workload::WorkloadSource;
use indicatif::ProgressBar;
use tokio::sync::watch;

use crate::{
    commands::values,
    exit::{Failure, say},
    lifecycle::{runtime, shutdown_on_signal},
};

/// Sends requests as a trace has them, and accounts for every one.
///
/// Open loop: a request is sent when it is due, whether or not earlier ones have ended. Each ends in one of
/// four ways: sent = succeeded + refused + failed + lost. Exits with 1 when one was lost.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    forewarm load --target 127.0.0.1:8080 --model llama3\n  \
    forewarm load --target 127.0.0.1:8080 --model llama3 --trace azure2023_conv.csv --window 10m --speed 2")]
pub(crate) struct LoadArgs {
    /// The gateway or engine, `host:port`.
    #[arg(long, value_name = "ADDRESS")]
    target: String,
    /// The `model` of each request.
    #[arg(long)]
    model: String,
    /// A request trace (Azure, BurstGPT, Mooncake or plain CSV; .zst and .gz too), or `demo`, the built-in one.
    #[arg(long, value_name = "FILE", default_value = "demo")]
    trace: String,
    /// Start this far into the trace.
    #[arg(long, value_parser = values::duration, default_value = "0s", value_name = "DURATION")]
    skip: Duration,
    /// Send only this much of the trace.
    #[arg(long, value_parser = values::duration, value_name = "DURATION")]
    window: Option<Duration>,
    /// Divides every modelled time.
    #[arg(long, value_parser = values::speed, default_value = "1")]
    speed: f64,
    /// Sends N requests for each one of the trace, all but the first shifted by up to 30 s.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scale: u32,
    /// The seed of the shifts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ask for whole answers instead of streams.
    #[arg(long)]
    no_stream: bool,
    /// Send prompts in full, not a short one with its length in a header.
    #[arg(long)]
    full_prompts: bool,
    /// Longest time for one request; without an honest end by then it is lost.
    #[arg(long, value_parser = values::duration, default_value = "30m", value_name = "DURATION")]
    deadline: Duration,
    /// Write the report as JSON to this file; `-`: to standard output.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) fn load(args: LoadArgs) -> Result<(), Failure> {
    let source: WorkloadSource = args.trace.parse().map_err(Failure::usage)?;
    let end = args.window.map(|window| args.skip + window);
    let mut workload = source.load(end).map_err(Failure::usage)?;
    workload.notes.iter().for_each(|note| tracing::warn!("{}: {note}", args.trace));
    if !args.skip.is_zero() {
        workload = workload.window(args.skip, Duration::MAX);
    }
    let workload = workload.scaled(args.scale, args.seed);
    let config = LoadConfig {
        target: args.target.clone(),
        model: args.model,
        speed: args.speed,
        stream: !args.no_stream,
        deadline: args.deadline,
        full_prompts: args.full_prompts,
    };
    let report = runtime(2)?.block_on(async {
        let shutdown = shutdown_on_signal()?;
        let (progress, mut seen) = watch::channel(LoadProgress::default());
        let bar = ProgressBar::new(workload.requests.len() as u64);
        let drawn = bar.clone();
        tokio::spawn(async move {
            while seen.changed().await.is_ok() {
                let progress = seen.borrow_and_update().clone();
                drawn.set_position(progress.account.ended());
                drawn.set_message(format!(
                    "TTFT p99 {:.2} s, {} lost",
                    progress.ttft.p99, progress.account.lost
                ));
            }
        });
        let report = forewarm_load::run(config, &workload, progress, shutdown).await.map_err(Failure::usage);
        bar.finish_and_clear();
        report
    })?;
    let json = serde_json::to_string_pretty(&report)?;
    match args.report.as_deref() {
        Some(path) if path.as_os_str() != "-" => {
            std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        }
        Some(_) | None => say(json),
    }
    match report.requests.lost {
        0 => Ok(()),
        lost => Err(anyhow::anyhow!("{lost} requests were lost").into()),
    }
}
