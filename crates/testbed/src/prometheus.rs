//! A real Prometheus.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use tempfile::TempDir;

use crate::{Certificates, Launch, Server, TestbedError, assets, free_port};

/// Who may ask a server that [`Access::Guarded`] guards.
pub const USER: &str = "forewarm";
/// Their password.
pub const PASSWORD: &str = "correct horse";
/// The same as bcrypt writes it, in sixteen rounds.
const PASSWORD_HASH: &str = "$2b$04$iGDVUWGT.obxJnxjdSSvwuA2UQrEWMw6wMMOaclx02e8YzUhVrnL.";
/// Long enough for a machine that is busy with other tests.
const START: Duration = Duration::from_secs(60);

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, in the clear.
    Open,
    /// [`USER`], over TLS.
    Guarded,
    /// Who shows a certificate.
    Certified,
}

/// A Prometheus that scrapes pages of the test every 500 ms: time enough to answer on a busy machine, as a scrape that is late takes its series away.
pub struct Prometheus {
    /// Its process.
    pub server: Server,
    /// Where it listens.
    pub address: SocketAddr,
    /// Who signs its certificate.
    pub certificates: Certificates,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `pages`.
    ///
    /// # Errors
    /// When it was not fetched or does not start.
    pub async fn start(access: Access, pages: &[SocketAddr]) -> Result<Self, TestbedError> {
        let program = assets("prometheus")?.join("usr/bin/prometheus");
        let folder = tempfile::tempdir()?;
        let certificates = Certificates::make(folder.path())?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let targets: Vec<_> = pages.iter().map(|page| format!("\"{page}\"")).collect();
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs:\n- job_name: pages\n  \
             static_configs: [{{targets: [{}]}}]\n",
            targets.join(", ")
        );
        std::fs::write(folder.path().join("prometheus.yml"), config)?;
        let mut command: Vec<String> = vec![
            program.display().to_string(),
            "--config.file=prometheus.yml".into(),
            "--storage.tsdb.path=data".into(),
            format!("--web.listen-address={address}"),
        ];
        if access != Access::Open {
            let Certificates { cert, key, ca, .. } = &certificates;
            let (cert, key, ca) = (cert.display(), key.display(), ca.display());
            let server = format!("cert_file: \"{cert}\", key_file: \"{key}\"");
            let web = if access == Access::Guarded {
                format!(
                    "tls_server_config: {{{server}}}\nbasic_auth_users: {{{USER}: \"{PASSWORD_HASH}\"}}\n"
                )
            } else {
                format!(
                    "tls_server_config: {{{server}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: \
                     \"{ca}\"}}\n"
                )
            };
            std::fs::write(folder.path().join("web.yml"), web)?;
            command.push("--web.config.file=web.yml".into());
        }
        let launch = Launch {
            name: "prometheus".into(),
            command,
            env: Vec::new(),
            folder: PathBuf::from(folder.path()),
        };
        let server = Server::start(launch, START, async || is_listening(address).await).await?;
        Ok(Self { server, address, certificates, _folder: folder })
    }

    /// Starts it again, at the same port and with what it stored.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<(), TestbedError> {
        let address = self.address;
        Ok(self.server.restart(START, async || is_listening(address).await).await?)
    }
}

async fn is_listening(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}
