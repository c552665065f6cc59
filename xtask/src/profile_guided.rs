//! `forewarm` as it is shipped: the compiler arranges it by what a run of the gateway's benchmark needed most.
//!
//! Two builds, each with a target directory of its own: one that counts, and whose benchmark is the run; and one that uses
//! the counts. The peers of the benchmark have no part in it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, root};

/// What turns counts into a profile; a component of the toolchain.
const COMPONENT: &str = "llvm-tools";
const MERGE: &str = "llvm-profdata";

/// A toolchain, and where profiles and what is built with them are.
pub(crate) struct ProfileGuided {
    host: String,
    merge: PathBuf,
    directory: PathBuf,
}

impl ProfileGuided {
    /// Finds what it takes, or gets it.
    ///
    /// # Errors
    /// When the toolchain has no such component and cannot get it.
    pub(crate) fn new() -> Result<Self> {
        let ask = |arguments: &[&str]| -> Result<String> {
            let output = Command::new("rustc").args(arguments).current_dir(root()).output()?;
            ensure!(output.status.success(), "rustc {} failed", arguments.join(" "));
            Ok(String::from_utf8(output.stdout)?)
        };
        let version = ask(&["-vV"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc does not say what it runs on")?.to_owned();
        let sysroot = ask(&["--print", "sysroot"])?;
        let merge = Path::new(sysroot.trim()).join("lib/rustlib").join(&host).join("bin").join(MERGE);
        if !merge.exists() {
            let got =
                Command::new("rustup").args(["component", "add", COMPONENT]).current_dir(root()).status();
            if !got.is_ok_and(|status| status.success()) || !merge.exists() {
                bail!("{} is missing: `rustup component add {COMPONENT}` installs it", merge.display());
            }
        }
        Ok(Self { host, merge, directory: root().join("target/profile-guided") })
    }

    /// Counts what a run of the benchmark needs.
    ///
    /// # Errors
    /// When it cannot be built, or does not run.
    pub(crate) fn learn(&self) -> Result<()> {
        // The benchmark leaves out what it has no core for, and nothing would be learned.
        ensure!(std::thread::available_parallelism()?.get() >= 2, "it takes two cores to learn from");
        let counts = self.directory.join("counts");
        if counts.exists() {
            std::fs::remove_dir_all(&counts)?;
        }
        writeln!(std::io::stderr(), "builds a gateway that counts, and runs its benchmark")?;
        let mut bench = cargo(&["bench", "-p", "forewarm", "--bench", "gateway"]);
        bench.env_remove("FOREWARM_BENCH_PEERS");
        self.apart(&mut bench, "counting", &format!("-Cprofile-generate={}", counts.display()));
        // What a gateway that counts takes is no measurement.
        let status = bench.stdout(Stdio::null()).status()?;
        ensure!(status.success(), "the benchmark failed, and nothing was learned");
        let mut merge = Command::new(&self.merge);
        merge.arg("merge").arg("--output").arg(self.profile()).arg(&counts);
        ensure!(merge.status()?.success(), "{} failed", self.merge.display());
        Ok(())
    }

    /// Makes a command of cargo use what was learned, which is learned first where nothing was.
    ///
    /// # Errors
    /// When nothing can be learned.
    pub(crate) fn guide(&self, command: &mut Command) -> Result<()> {
        if !self.profile().exists() {
            self.learn()?;
        }
        self.apart(command, "guided", &format!("-Cprofile-use={}", self.profile().display()));
        Ok(())
    }

    /// What was learned.
    fn profile(&self) -> PathBuf {
        self.directory.join("forewarm.profdata")
    }

    /// Builds with these flags, and nothing of it where other builds are. With a target of its own, build scripts and macros
    /// go without them.
    fn apart(&self, command: &mut Command, name: &str, flags: &str) {
        command.args(["--target", &self.host]).arg("--target-dir").arg(self.directory.join(name));
        // One flag, and the path in it may have spaces.
        command.env("CARGO_ENCODED_RUSTFLAGS", flags);
    }
}

/// Learns, and builds `forewarm` with it.
pub(crate) fn build() -> Result<()> {
    let guided = ProfileGuided::new()?;
    guided.learn()?;
    let mut build = cargo(&["build", "--release", "-p", "forewarm"]);
    guided.guide(&mut build)?;
    ensure!(build.status()?.success(), "cargo build failed");
    let binary = guided.directory.join("guided").join(&guided.host).join("release/forewarm");
    writeln!(std::io::stdout(), "{}", binary.display())?;
    Ok(())
}
