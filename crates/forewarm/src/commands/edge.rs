//! What a gateway's port asks of clients, for the commands that open one.

use std::path::PathBuf;

use clap::Args;
use forewarm_gateway::{GatewayConfig, Network, Reloader, TlsFiles, UpstreamTls};

/// Keys, certificates and proxies.
#[derive(Args)]
#[group(skip)]
pub(crate) struct EdgeArgs {
    /// Tenants, their API keys as hashes, and their quotas (`forewarm gateway key create`); read again when it
    /// changes. Without it everybody may ask.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The certificate for clients (PEM, with those between it and the root): TLS, and HTTP/2; read again when it
    /// changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Proxies in front (CIDR) whose `X-Forwarded-*` and `Forwarded` are kept; anybody else's are replaced. May be
    /// repeated.
    #[arg(long = "trusted-proxy", value_name = "NETWORK")]
    trusted_proxies: Vec<Network>,
    /// Who signs the certificates of replicas that speak TLS (`spec.engine.scheme: HTTPS`); default: whom the system
    /// trusts, or for `forewarm run` what the manifests say under `spec.engine.tls`.
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<PathBuf>,
    /// The name in their certificates, if it is not the one in the address.
    #[arg(long, value_name = "NAME")]
    upstream_server_name: Option<String>,
}

impl EdgeArgs {
    /// Whether it says how TLS is spoken with replicas.
    pub(crate) fn says_upstream_tls(&self) -> bool {
        self.upstream_ca.is_some() || self.upstream_server_name.is_some()
    }

    /// Writes them into a gateway's configuration.
    pub(crate) fn configure(&self, config: GatewayConfig) -> GatewayConfig {
        GatewayConfig {
            keys: self.keys.clone(),
            tls: files(self.tls_cert.clone(), self.tls_key.clone(), None),
            trusted_proxies: self.trusted_proxies.clone(),
            upstream_tls: UpstreamTls {
                ca: self.upstream_ca.clone(),
                server_name: self.upstream_server_name.clone(),
                identity: None,
            },
            ..config
        }
    }
}

/// A certificate with its key; clap sees to it that there are both or none.
pub(crate) fn files(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Option<TlsFiles> {
    Some(TlsFiles { cert: cert?, key: key?, client_ca })
}

/// Reads keys and certificates again at each SIGHUP, which would end the program otherwise.
///
/// # Errors
/// When the handler cannot be installed.
pub(crate) fn reload_on_hangup(reloader: Reloader) -> std::io::Result<()> {
    let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            reloader.reload();
        }
    });
    Ok(())
}
