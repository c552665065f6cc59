//! Chaos: real processes under load that die, hang, trickle and break connections, and the account of every request.

use anyhow::{Result, bail};
use clap::Args;

use crate::cargo::cargo;

/// Seconds between two faults of processes, on average.
const GAP_SECONDS: f64 = 2.0;
/// Requests in a second where no time is given: what two cores bear with clients, gateway and replicas on them.
const RATE: f64 = 500.0;

#[derive(Args)]
pub(crate) struct ChaosArgs {
    /// How many requests are sent.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// The same seed gives the same requests and the same order of faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// In how many minutes they are sent; default: as many as 500 requests in a second take.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Prints the account as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it, built for speed; fails when the account does not balance.
pub(crate) fn chaos(args: &ChaosArgs) -> Result<()> {
    let rate = match args.minutes {
        Some(minutes) if minutes > 0.0 => args.requests as f64 / (60.0 * minutes),
        Some(minutes) => bail!("--minutes is {minutes}; it takes a number above 0"),
        None => RATE,
    };
    let mut command = cargo(&["test", "--quiet", "--release", "-p", "forewarm", "--test", "chaos", "--"]);
    command.args([
        format!("--requests={}", args.requests),
        format!("--seed={}", args.seed),
        format!("--rate={rate}"),
        format!("--gap={GAP_SECONDS}"),
    ]);
    if args.json {
        command.arg("--json");
    }
    if !command.status()?.success() {
        bail!("the account does not balance; the same seed sends the same requests again");
    }
    Ok(())
}
