//! Random scenarios, decided by the peers' own code and then by ours.
//!
//! `differential/` holds a Go module for each peer, since their dependencies exclude each other. Each runs
//! the peer's code in virtual time and records what it did, in the format of the conformance vectors.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cargo::{cargo, root, run};

#[derive(Args)]
pub(crate) struct DifferentialArgs {
    /// How many seeds, from 1 on. The same seed gives the same scenarios.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many scenarios of each peer for each seed.
    #[arg(long, default_value_t = 500)]
    scenarios: u32,
}

/// The folders of `differential/`.
const PEERS: [&str; 3] = ["hpa", "kpa", "keda"];

/// Records with the peers' code and replays with ours.
pub(crate) fn differential(args: &DifferentialArgs) -> Result<()> {
    if !go_is_installed() {
        writeln!(std::io::stdout(), "skipped: Go is not installed")?;
        return Ok(());
    }
    let target = root().join("target/differential");
    for peer in PEERS {
        let module = root().join("differential").join(peer);
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(target.join(peer)).arg(".").current_dir(module);
        succeed(&mut build)?;
    }
    let vectors = target.join("vectors");
    for seed in 1..=args.seeds {
        empty(&vectors)?;
        for peer in PEERS {
            let mut record = Command::new(target.join(peer));
            record.arg("-out").arg(&vectors);
            record.args(["-seed", &seed.to_string(), "-scenarios", &args.scenarios.to_string()]);
            succeed(&mut record)?;
        }
        let mut replay = cargo(&["test", "--release", "-p", "forewarm-core", "--test", "conformance"]);
        succeed(replay.env("FOREWARM_CONFORMANCE_DIR", &vectors))?;
    }
    Ok(())
}

fn go_is_installed() -> bool {
    let quiet = Stdio::null;
    Command::new("go").arg("version").stdout(quiet()).stderr(quiet()).status().is_ok_and(|go| go.success())
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn succeed(command: &mut Command) -> Result<()> {
    if !run(command)?.1 {
        bail!("{} failed", command.get_program().to_string_lossy());
    }
    Ok(())
}
