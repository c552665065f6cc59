//! The proxies that the gateway is measured beside, as packages that anybody can install.

use std::{io::Write, path::PathBuf};

use anyhow::Result;

use crate::{cargo::root, packages};

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
            tell(package, packages::debian(&debian, &DEBIAN))?;
        }
    }
    if !python.join("bin/litellm").exists() {
        tell("LiteLLM and sglang-router", packages::python(&python, &PYTHON))?;
    }
    Ok(peers)
}

fn tell(what: &str, installed: Result<()>) -> Result<()> {
    if let Err(error) = installed {
        writeln!(std::io::stderr(), "{what} cannot be installed: {error}")?;
    }
    Ok(())
}
