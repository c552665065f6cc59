//! forewarm: GPU autoscaler for AI inference.

mod cli;
mod commands;
mod exit;
mod lag;
mod lifecycle;
mod measure;
mod meter;
mod page;
mod progress;
mod report;
mod wire;

fn main() -> std::process::ExitCode {
    cli::main()
}
