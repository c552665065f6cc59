//! Programs that Go builds.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::packages::succeed;

/// Builds one package of a module into a program.
pub(super) fn build(module: &Path, linker: &str, program: &Path, package: &str) -> Result<()> {
    let mut command = go();
    command
        .current_dir(module)
        .args(["build", "-trimpath", "-ldflags", linker, "-o"])
        .arg(program)
        .arg(package);
    succeed(&mut command)
}

/// Builds a package at a version, such as `example.com/tool@v1.2.3`, into a folder.
pub(super) fn install(folder: &Path, package: &str) -> Result<()> {
    let mut command = go();
    command.env("GOBIN", folder).env("GOFLAGS", "-buildvcs=false");
    command.args(["install", "-trimpath", "-ldflags", "-s -w", package]);
    succeed(&mut command)
}

/// What Go says about a module.
pub(super) fn output(module: &Path, args: &[&str]) -> Result<String> {
    let output = go().current_dir(module).args(args).output().context("cannot run go")?;
    if !output.status.success() {
        bail!("go failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn go() -> Command {
    let mut command = Command::new("go");
    // What is committed is what is built.
    command.env("CGO_ENABLED", "0").env("GOFLAGS", "-buildvcs=false -mod=readonly");
    command
}
