//! The command line.

use std::{io::IsTerminal, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{commands, exit::Failure};

/// Keeps the right number of GPU replicas of an inference engine running for the load it gets.
///
/// GPUs are dear, and a new replica takes minutes to load its model. forewarm decides on waiting
/// requests, holds them at its gateway while replicas start, starts replicas before the load comes, and
/// says why it did each thing.
#[derive(Parser)]
#[command(
    name = "forewarm",
    version,
    arg_required_else_help = true,
    after_help = "First steps:\n  \
        forewarm demo                      everything on this machine, with a live page\n  \
        forewarm run -f forewarm.yaml      your own fleet\n  \
        forewarm COMMAND --help            more about a command, with examples"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// What to log to standard error: `error`, `warn`, `info`, `debug`, or a filter such as
    /// `forewarm_gateway=debug`. Default: `info`; `warn` for a demo, whose page and bar tell the rest.
    #[arg(long, global = true, env = "FOREWARM_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand)]
enum Command {
    // Each is described where its arguments are.
    Demo(commands::demo::DemoArgs),
    Run(commands::run::RunArgs),
    Gateway(commands::gateway::GatewayArgs),
    #[command(subcommand)]
    Kube(commands::kube::KubeCommand),
    Engine(commands::engine::EngineArgs),
    Exporter(commands::exporter::ExporterArgs),
    #[command(subcommand)]
    Signal(commands::signal::SignalCommand),
    Decide(commands::decide::DecideArgs),
    Lint(commands::lint::LintArgs),
    Explain(commands::lint::ExplainArgs),
    Convert(commands::lint::ConvertArgs),
    Load(commands::load::LoadArgs),
    Simulate(commands::simulate::SimulateArgs),
    Tune(commands::tune::TuneArgs),
    WhatIf(commands::what_if::WhatIfArgs),
    Replay(commands::replay::ReplayArgs),
    Hook(commands::hook::HookArgs),
    Aws(commands::aws::AwsArgs),
    Pause(commands::pause::PauseArgs),
    Resume(commands::pause::ResumeArgs),
    Completion(commands::completion::CompletionArgs),
}

/// Libraries whose errors whoever asked them tells in fewer words.
const TOLD_ANYWAY: &str = "lapin=off,rustls_platform_verifier=off,aws_config=error";

/// Parses the command line, runs the command, and turns its end into an exit code.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let level = if matches!(args.command, Command::Demo(_)) { "warn" } else { "info" };
    let filter = args.log.clone().unwrap_or_else(|| format!("{level},{TOLD_ANYWAY}"));
    if let Err(failure) = start_log(&filter, args.log_format) {
        return failure.exit();
    }
    let result = match args.command {
        Command::Demo(args) => commands::demo::demo(args),
        Command::Run(args) => commands::run::run(args),
        Command::Gateway(args) => commands::gateway::gateway(args),
        Command::Kube(command) => commands::kube::kube(command),
        Command::Engine(args) => commands::engine::engine(args),
        Command::Exporter(args) => commands::exporter::exporter(args),
        Command::Signal(command) => commands::signal::signal(command),
        Command::Decide(args) => commands::decide::decide(&args),
        Command::Lint(args) => commands::lint::lint(&args),
        Command::Explain(args) => commands::lint::explain(&args),
        Command::Convert(args) => commands::lint::convert(&args),
        Command::Load(args) => commands::load::load(args),
        Command::Simulate(args) => commands::simulate::simulate(&args),
        Command::Tune(args) => commands::tune::tune(&args),
        Command::WhatIf(args) => commands::what_if::what_if(&args),
        Command::Replay(args) => commands::replay::replay(&args),
        Command::Hook(args) => commands::hook::hook(args),
        Command::Aws(args) => commands::aws::aws(args),
        Command::Pause(args) => commands::pause::pause(args),
        Command::Resume(args) => commands::pause::resume(args),
        Command::Completion(args) => {
            commands::completion::completion(&args, <Args as clap::CommandFactory>::command());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

/// Logs go to standard error: standard output belongs to results.
fn start_log(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(anyhow::anyhow!(
            "`--log {filter}` is no filter ({error}); try `info` or `forewarm_gateway=debug`"
        ))
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            let layer = fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(colours);
            registry.with(layer).init();
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).init(),
    }
    Ok(())
}
