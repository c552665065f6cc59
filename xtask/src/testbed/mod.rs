//! What the real servers of the tests are started from: ordinary packages, in a folder of their own.

mod go;
mod keda;
mod kubernetes;
mod rabbitmq;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::{cargo::root, packages};

/// From PyPI: the AWS API server, and boto3 to compare our requests with.
const MOTO: [&str; 2] = ["moto[server]==5.2.5", "boto3==1.44.5"];
/// From Maven Central.
const ELASTICMQ: [&str; 1] = ["org.elasticmq:elasticmq-server_2.13:1.7.1"];
/// The broker, and the binding without which it logs nothing.
const KAFKA: [&str; 2] =
    ["org.apache.kafka:kafka_2.13:4.3.1", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"];

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
    /// All but those that are only for who asks.
    pub(crate) fn usual() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied().filter(|part| *part != Self::Keda)
    }

    fn get(self, folder: &Path) -> Result<()> {
        match self {
            Self::Prometheus => packages::debian(folder, &["prometheus"]),
            Self::Helm => go::install(folder, "helm.sh/helm/v4/cmd/helm@v4.3.1"),
            Self::Keda => keda::build(folder),
            Self::Moto => packages::python(&folder.join("venv"), &MOTO),
            Self::Elasticmq => packages::maven(folder, &ELASTICMQ),
            Self::Kafka => packages::maven(folder, &KAFKA),
            Self::Rabbitmq => rabbitmq::get(folder),
            Self::Kubernetes => kubernetes::build(folder),
        }
    }
}

/// Gets what is not there yet.
pub(crate) fn testbed(args: &TestbedArgs) -> Result<()> {
    let parts = if args.parts.is_empty() { Part::usual().collect() } else { args.parts.clone() };
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
