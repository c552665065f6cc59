//! The proxies that the gateway is measured beside, as packages that anybody can install.

use std::{io::Write, path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::cargo::root;

/// Debian packages (bookworm): the two proxies, and the libraries of theirs that are not everywhere.
const DEBIAN: [&str; 5] = [
    "nginx=1.22.1-9+deb12u11",
    "haproxy=2.6.12-1+deb12u4",
    "liblua5.3-0=5.3.6-2",
    "libopentracing-c-wrapper0=1.1.3-3+b1",
    "libopentracing1=1.6.0-4",
];
/// Packages of PyPI.
const PYTHON: [&str; 2] = ["litellm[proxy]==1.108.7", "sglang-router==0.3.2"];

/// Gets what is not there yet, into a folder of its own. What cannot be had is said, and not an error: its rows
/// are skipped.
pub(crate) fn install() -> Result<PathBuf> {
    let peers = root().join("target/peers");
    let (debian, python) = (peers.join("debian"), peers.join("python"));
    std::fs::create_dir_all(&debian)?;
    for (program, package) in [("usr/sbin/nginx", "nginx"), ("usr/sbin/haproxy", "haproxy")] {
        if !debian.join(program).exists() {
            tell(package, apt(&debian))?;
        }
    }
    if !python.join("bin/litellm").exists() {
        tell("LiteLLM and sglang-router", pip(&python))?;
    }
    Ok(peers)
}

/// Downloads and unpacks; nothing of it is installed.
fn apt(folder: &PathBuf) -> Result<()> {
    succeed(Command::new("apt-get").args(["download", "--quiet"]).args(DEBIAN).current_dir(folder))?;
    for file in std::fs::read_dir(folder)? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            succeed(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(folder))?;
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

fn pip(folder: &PathBuf) -> Result<()> {
    succeed(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    succeed(Command::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(PYTHON))
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if !output.status.success() {
        let program = command.get_program().to_string_lossy().into_owned();
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn tell(what: &str, installed: Result<()>) -> Result<()> {
    if let Err(error) = installed {
        writeln!(std::io::stderr(), "{what} cannot be installed: {error}")?;
    }
    Ok(())
}
