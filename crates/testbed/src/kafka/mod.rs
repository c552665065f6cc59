//! A real Kafka broker, which is its own controller.

mod admin;
mod member;

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use tempfile::TempDir;

pub use self::{
    admin::Admin,
    member::{Member, Message},
};
use crate::{Certificates, Launch, Proxy, Server, ServerError, TestbedError, assets, free_port};

/// Who may ask at [`Kafka::proxy`], by SCRAM or PLAIN.
pub const USER: &str = "forewarm";
/// Their password.
pub const PASSWORD: &str = "correct horse";
/// Long enough for a machine that is busy with other tests.
const START: Duration = Duration::from_secs(120);

/// One broker. Clients reach it through [`Kafka::proxy`], over TLS and as [`USER`]; it says that it is there.
pub struct Kafka {
    /// Its process.
    pub server: Server,
    /// In front of it.
    pub proxy: Proxy,
    /// Where anybody may ask, in the clear and without the proxy: for the test's own messages.
    pub direct: SocketAddr,
    /// Where clients show a certificate, over TLS and without the proxy.
    pub mutual: SocketAddr,
    /// Who signs its certificate.
    pub certificates: Certificates,
    _folder: TempDir,
}

impl Kafka {
    /// Formats and starts one.
    ///
    /// # Errors
    /// When it was not fetched or does not start.
    pub async fn start() -> Result<Self, TestbedError> {
        let jars = assets("kafka")?.join("lib");
        let folder = tempfile::tempdir()?;
        let certificates = Certificates::make(folder.path())?;
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (behind, direct, mutual) = (local(free_port()?), local(free_port()?), local(free_port()?));
        let proxy = Proxy::start(behind).await?;
        let controller = local(free_port()?);
        let data = folder.path().join("data");
        let settings = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n\
             listeners=SASL://{behind},DIRECT://{direct},MUTUAL://{mutual},CONTROLLER://{controller}\n\
             advertised.listeners=SASL://{proxied},DIRECT://{direct},MUTUAL://{mutual}\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=DIRECT\n\
             listener.security.protocol.map=SASL:SASL_SSL,DIRECT:PLAINTEXT,MUTUAL:SSL,CONTROLLER:PLAINTEXT\n\
             listener.name.mutual.ssl.client.auth=required\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
             required user_{USER}=\"{PASSWORD}\";\n\
             listener.name.sasl.scram-sha-256.sasl.jaas.config={scram}\n\
             listener.name.sasl.scram-sha-512.sasl.jaas.config={scram}\n\
             ssl.keystore.type=PEM\nssl.keystore.location={both}\n\
             ssl.truststore.type=PEM\nssl.truststore.location={ca}\n\
             log.dirs={data}\noffsets.topic.num.partitions=1\noffsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
             group.consumer.min.heartbeat.interval.ms=500\ngroup.consumer.heartbeat.interval.ms=500\n\
             group.consumer.min.session.timeout.ms=30000\ngroup.consumer.session.timeout.ms=30000\n\
             group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\n",
            proxied = proxy.address(),
            scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            both = certificates.key_and_cert.display(),
            ca = certificates.ca.display(),
            data = data.display(),
        );
        std::fs::write(folder.path().join("server.properties"), settings)?;
        format(&jars, folder.path())?;
        let launch = Launch {
            name: "kafka".into(),
            command: java(&jars, &["kafka.Kafka", "server.properties"]),
            env: Vec::new(),
            folder: folder.path().to_owned(),
        };
        let server = Server::start(launch, START, async || answers(direct).await).await?;
        Ok(Self { server, proxy, direct, mutual, certificates, _folder: folder })
    }

    /// Starts it again, at the same ports and with what it stored.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        let direct = self.direct;
        self.server.restart(START, async || answers(direct).await).await
    }

    /// A connection of the test's own.
    ///
    /// # Errors
    /// When the broker is not there.
    pub async fn admin(&self) -> Result<Admin, TestbedError> {
        Admin::connect(self.direct).await
    }
}

fn java(jars: &Path, arguments: &[&str]) -> Vec<String> {
    let jars = format!("{}/*", jars.display());
    let flags = ["java", "-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &jars];
    flags.iter().chain(arguments).map(|part| (*part).to_owned()).collect()
}

/// Prepares the empty log directory.
fn format(jars: &Path, folder: &Path) -> Result<(), TestbedError> {
    let user = |mechanism: &str| format!("SCRAM-{mechanism}=[name={USER},password={PASSWORD}]");
    let (sha256, sha512) = (user("SHA-256"), user("SHA-512"));
    let command = java(
        jars,
        &[
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            "Zm9yZXdhcm0tdGVzdGJlZA",
            "--config",
            "server.properties",
            "--add-scram",
            &sha256,
            "--add-scram",
            &sha512,
        ],
    );
    let output = Command::new(&command[0]).args(&command[1..]).current_dir(folder).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(TestbedError::Answer(format!("kafka cannot be formatted: {}", String::from_utf8_lossy(&said))))
}

async fn answers(at: SocketAddr) -> bool {
    match Admin::connect(at).await {
        Ok(mut admin) => admin.coordinator_is_known().await.is_ok(),
        Err(_) => false,
    }
}
