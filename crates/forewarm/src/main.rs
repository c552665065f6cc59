//! forewarm: GPU autoscaler for AI inference.

mod cli;
mod commands;
mod exit;
mod fleets;
mod lag;
mod lifecycle;
mod meter;
mod page;
mod progress;
mod report;
mod wire;

/// A request allocates some dozens of times; this one makes that cheap, and gives memory back after a burst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
