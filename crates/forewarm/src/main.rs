//! forewarm: GPU autoscaler for AI inference.

mod cli;
mod commands;
mod exit;
mod lifecycle;
mod meter;
mod report;
mod wire;

fn main() -> std::process::ExitCode {
    cli::main()
}
