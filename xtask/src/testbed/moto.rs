//! The AWS API server moto, and boto3 to compare our requests with, from PyPI.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::succeed;

/// The versions that the tests were written against.
const PACKAGES: [&str; 2] = ["moto[server]==5.2.5", "boto3==1.44.5"];

/// Puts a virtual environment into `venv`.
pub(super) fn get(folder: &Path) -> Result<()> {
    succeed(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(folder))?;
    let mut pip = Command::new("venv/bin/pip");
    succeed(pip.args(["install", "--quiet"]).args(PACKAGES).current_dir(folder))
}
