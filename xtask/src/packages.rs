//! Ordinary packages, put into folders of their own; nothing is installed on the machine.

use std::{fmt::Write, path::Path, process::Command};

use anyhow::{Context, Result, bail};

/// Downloads and unpacks Debian packages.
pub(crate) fn debian(folder: &Path, packages: &[&str]) -> Result<()> {
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

/// Puts artefacts of Maven Central (`group:artifact:version`), and what they need, into `lib`.
pub(crate) fn maven(folder: &Path, artefacts: &[&str]) -> Result<()> {
    let mut dependencies = String::new();
    for artefact in artefacts {
        let [group, name, version] = artefact.split(':').collect::<Vec<_>>()[..] else {
            bail!("`{artefact}` is not group:artifact:version")
        };
        write!(
            dependencies,
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        )?;
    }
    let project = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>forewarm</groupId><artifactId>packages</artifactId><version>1</version>\
         <dependencies>{dependencies}</dependencies></project>"
    );
    std::fs::write(folder.join("pom.xml"), project)?;
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=lib"]);
    succeed(maven.current_dir(folder))
}

/// Puts packages of PyPI into a virtual environment.
pub(crate) fn python(environment: &Path, packages: &[&str]) -> Result<()> {
    succeed(Command::new("python3").args(["-m", "venv"]).arg(environment))?;
    succeed(Command::new(environment.join("bin/pip")).args(["install", "--quiet"]).args(packages))
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
