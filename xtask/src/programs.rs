//! The test programs of the workspace, built in one go: building them package by package would build what they
//! depend on again for each set of features.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cargo::cargo;

/// A test program.
pub(crate) struct Program {
    /// The package it belongs to.
    pub(crate) package: String,
    /// The name of its target: a file in `tests`, or the crate's own name for the tests inside it.
    pub(crate) target: String,
    executable: PathBuf,
    folder: PathBuf,
}

impl Program {
    /// Runs it as cargo does, in its package's folder.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        // So that a test that says why it cannot run here is heard.
        command.arg("--show-output");
        command
    }
}

/// What cargo says about something that it has built.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds every test program of the workspace. `None` when that failed, which cargo has explained.
pub(crate) fn build() -> Result<Option<Vec<Program>>> {
    let arguments = ["test", "--workspace", "--lib", "--bins", "--tests", "--no-run"];
    let mut child = cargo(&arguments)
        .args(["--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let stdout = child.stdout.take().context("cargo's output is piped")?;
    let mut programs = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let message: Message = serde_json::from_str(&line?).context("cargo said what is no message")?;
        programs.extend(program(message));
    }
    Ok(child.wait()?.success().then_some(programs))
}

fn program(message: Message) -> Option<Program> {
    let is_test = message.profile.is_some_and(|profile| profile.test);
    if message.reason != "compiler-artifact" || !is_test {
        return None;
    }
    let folder = message.manifest_path?.parent()?.to_owned();
    let package = folder.file_name()?.to_str()?.to_owned();
    Some(Program { package, target: message.target?.name, executable: message.executable?, folder })
}
