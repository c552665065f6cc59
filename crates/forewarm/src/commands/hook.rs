//! `forewarm hook`.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use forewarm_control::Clock;
use forewarm_core::Phase;
use forewarm_hooks::{
    HookFleet, Trial,
    protocol::{SeenFleet, SeenReplica},
};
use forewarm_manifest::{CheckedScaler, Target};

use crate::{
    commands::run,
    exit::{Failure, say},
    lifecycle::runtime,
};

/// Tries the webhooks and commands that manifests name as targets.
#[derive(Args)]
pub(crate) struct HookArgs {
    #[command(subcommand)]
    command: HookCommand,
}

#[derive(Subcommand)]
enum HookCommand {
    /// Asks each hook what it sees, and in a dry run for one more replica. Nothing is changed.
    #[command(after_help = "Examples:\n  forewarm hook test -f forewarm.yaml")]
    Test(TestArgs),
}

#[derive(Args)]
struct TestArgs {
    /// Manifests; those with other targets are left out.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
}

pub(crate) fn hook(args: HookArgs) -> Result<(), Failure> {
    let HookCommand::Test(args) = args.command;
    let scalers = run::read(&args.file)?;
    runtime(1)?.block_on(async {
        let mut failed = 0;
        let mut tried = 0;
        for scaler in &scalers {
            let Some(fleet) = fleet(scaler)? else { continue };
            tried += 1;
            if !try_one(scaler, &fleet).await {
                failed += 1;
            }
        }
        match (tried, failed) {
            (0, _) => Err(Failure::usage(anyhow!("no target in the files is a `webhook` or an `exec`"))),
            (_, 0) => Ok(()),
            _ => Err(Failure::from(anyhow!("{failed} of {tried} hooks failed"))),
        }
    })
}

fn fleet(scaler: &CheckedScaler) -> Result<Option<HookFleet>, Failure> {
    let name = scaler.spec.scaler.clone();
    let clock = Clock::start(1.0);
    match &scaler.target {
        Target::Webhook(target) => HookFleet::webhook(name.clone(), target, clock)
            .map(Some)
            .map_err(|error| Failure::usage(anyhow!("`{name}`: spec.target.webhook: {error}"))),
        Target::Exec(target) => Ok(Some(HookFleet::exec(name, target, clock))),
        Target::Processes(_) | Target::Kubernetes(_) | Target::AwsAutoScalingGroup(_) => Ok(None),
    }
}

/// Shows what came of it; false when it failed.
async fn try_one(scaler: &CheckedScaler, fleet: &HookFleet) -> bool {
    say(&scaler.spec.scaler);
    let Trial { observed, dry_run } = match fleet.trial().await {
        Ok(trial) => trial,
        Err(error) => {
            say(format!("  observe: failed: {:#}", anyhow::Error::from(error)));
            return false;
        }
    };
    match &observed.fleet {
        SeenFleet::Number { desired, ready } => {
            say(format!("  observe: {ready} of {desired} replicas serve"))
        }
        SeenFleet::Replicas(replicas) => {
            let ready = replicas.iter().filter(|replica| replica.phase == Phase::Ready).count();
            say(format!("  observe: {} replicas, {ready} ready", replicas.len()));
            replicas.iter().for_each(|replica| say(line(replica)));
        }
    }
    for failed in &observed.failed_starts {
        say(format!("    {}  failed while {}: {}", failed.id, failed.phase.label(), failed.error));
    }
    match &dry_run {
        Ok(()) => say("  apply, one more replica in a dry run: it would be done"),
        Err(why) => say(format!("  apply, one more replica in a dry run: refused: {why}")),
    }
    dry_run.is_ok()
}

fn line(replica: &SeenReplica) -> String {
    let mut line = format!("    {}  {}", replica.id, replica.phase.label());
    if let Some(address) = &replica.address {
        line = format!("{line}  {address}");
    }
    if let Some(age) = replica.age {
        line = format!("{line}  {} s old", age.as_secs());
    }
    if let Some(in_flight) = replica.in_flight {
        line = format!("{line}  works on {in_flight}");
    }
    line
}
