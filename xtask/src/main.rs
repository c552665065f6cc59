//! The project's own commands: tests by tier, architecture checks, benchmarks, fuzzing.

mod architecture;
mod bench;
mod cargo;
mod chaos;
mod differential;
mod fuzz;
mod generate;
mod literals;
mod packages;
mod peers;
mod profile_guided;
mod programs;
mod testbed;
mod tiers;

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds `forewarm` as it should be shipped: the compiler learns from a run of the gateway's benchmark what is needed
    /// most. Takes two builds, and two cores; prints where the binary is.
    Build,
    /// Runs the tests, tier by tier, and counts what passed, failed and was skipped.
    Test(tiers::TestArgs),
    /// Measures, beside a peer in the same run.
    Bench(bench::BenchArgs),
    /// Feeds every parser what nobody thought of, a while for each target.
    Fuzz(fuzz::FuzzArgs),
    /// Lets processes die, hang and break connections under load; every request has to be accounted for.
    Chaos(chaos::ChaosArgs),
    /// Decides random scenarios with the peers' own code and with ours, and compares. Needs Go.
    Differential(differential::DifferentialArgs),
    /// Gets the real servers that tests run against: brokers, databases, control planes.
    Testbed(testbed::TestbedArgs),
    /// Writes again what is generated and committed: the code of KEDA's protocol, the manifests of the Helm chart.
    Generate,
    /// Checks the invariants of ARCHITECTURE.md.
    Architecture,
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Build => profile_guided::build(),
        Command::Test(args) => tiers::test(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Fuzz(args) => fuzz::fuzz(&args),
        Command::Chaos(args) => chaos::chaos(&args),
        Command::Differential(args) => differential::differential(&args),
        Command::Testbed(args) => testbed::testbed(&args),
        Command::Generate => generate::generate(),
        Command::Architecture => architecture::check(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when even the error cannot be written.
            drop(writeln!(std::io::stderr(), "error: {:#}", error));
            ExitCode::FAILURE
        }
    }
}
