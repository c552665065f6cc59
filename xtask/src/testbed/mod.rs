//! What the real servers of the tests are started from: ordinary packages, in a folder of their own.

mod kubernetes;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::cargo::root;

#[derive(Args)]
pub(crate) struct TestbedArgs {
    /// Only these parts; default: all.
    parts: Vec<Part>,
}

/// Servers that come together.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Prometheus.
    Prometheus,
    /// A Kubernetes control plane, KWOK and kubectl, built with Go.
    Kubernetes,
}

impl Part {
    fn get(self, folder: &Path) -> Result<()> {
        match self {
            Self::Prometheus => debian(folder, &["prometheus"]),
            Self::Kubernetes => kubernetes::build(folder),
        }
    }
}

/// Downloads and unpacks Debian packages; nothing of them is installed.
fn debian(folder: &Path, packages: &[&str]) -> Result<()> {
    succeed(Command::new("apt-get").args(["download", "--quiet"]).args(packages).current_dir(folder))?;
    for file in std::fs::read_dir(folder)? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            succeed(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(folder))?;
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// Gets what is not there yet.
pub(crate) fn testbed(args: &TestbedArgs) -> Result<()> {
    let parts = if args.parts.is_empty() { Part::value_variants() } else { &args.parts };
    parts.iter().try_for_each(|part| fetch(*part).map(drop))
}

/// Gets one part unless it is there, and says where it is.
pub(crate) fn fetch(part: Part) -> Result<PathBuf> {
    let name = part.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let folder = root().join("target/testbed").join(&name);
    let complete = folder.join("complete");
    if !complete.exists() {
        writeln!(std::io::stderr(), "getting {name}, once")?;
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        part.get(&folder).with_context(|| format!("cannot get {name}"))?;
        std::fs::write(complete, "")?;
    }
    Ok(folder)
}

/// Runs a command to its end, and shows what it said only when it failed.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
