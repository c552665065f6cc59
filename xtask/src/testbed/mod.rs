//! What the real servers of the tests are started from: ordinary packages, in a folder of their own.

mod elasticmq;
mod go;
mod kafka;
mod keda;
mod kubernetes;
mod moto;
mod rabbitmq;

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
    /// Only these parts; default: all but keda.
    parts: Vec<Part>,
}

/// Servers that come together.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Prometheus.
    Prometheus,
    /// Helm, built with Go.
    Helm,
    /// KEDA's operator and metrics adapter, built with Go. Only when asked for: it takes long.
    Keda,
    /// An AWS API server, and boto3; needs Python.
    Moto,
    /// A server that speaks SQS; needs Java and Maven.
    Elasticmq,
    /// A Kafka broker; needs Java and Maven.
    Kafka,
    /// RabbitMQ with its management API, and the Erlang it runs on.
    Rabbitmq,
    /// A Kubernetes control plane, KWOK and kubectl, built with Go.
    Kubernetes,
}

impl Part {
    fn get(self, folder: &Path) -> Result<()> {
        match self {
            Self::Prometheus => debian(folder, &["prometheus"]),
            Self::Helm => go::install(folder, "helm.sh/helm/v4/cmd/helm@v4.3.1"),
            Self::Keda => keda::build(folder),
            Self::Moto => moto::get(folder),
            Self::Elasticmq => elasticmq::get(folder),
            Self::Kafka => kafka::get(folder),
            Self::Rabbitmq => rabbitmq::get(folder),
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
    let all = Part::value_variants().iter().filter(|part| **part != Part::Keda);
    let parts = if args.parts.is_empty() { all.copied().collect() } else { args.parts.clone() };
    parts.into_iter().try_for_each(|part| fetch(part).map(drop))
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
