//! What is exported, and how often.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use forewarm_signals::engine::{EngineAccess, EngineKind};

/// What the exporter needs to know.
#[derive(Clone, Debug)]
pub struct ExporterConfig {
    /// Where it serves.
    pub listen: SocketAddr,
    /// The engines it asks.
    pub engines: Vec<EngineAddress>,
    /// Which engine they are.
    pub engine: EngineKind,
    /// What TLS takes with those whose addresses begin with `https://`, and what is shown to all of them.
    pub access: EngineAccess,
    /// Time between two rounds, and the longest that an engine or `nvidia-smi` may take to answer.
    pub interval: Duration,
    /// The program that knows the GPUs; a bare name is looked up in `PATH`.
    pub nvidia_smi: PathBuf,
}

impl ExporterConfig {
    /// The port that queue-depth exporters of this kind have used so far.
    pub const DEFAULT_PORT: u16 = 9091;
    /// Prometheus' usual scrape interval.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);
}

impl Default for ExporterConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, Self::DEFAULT_PORT)),
            engines: Vec::new(),
            engine: EngineKind::default(),
            access: EngineAccess::default(),
            interval: Self::DEFAULT_INTERVAL,
            nvidia_smi: PathBuf::from("nvidia-smi"),
        }
    }
}

/// Where an engine's metrics are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineAddress {
    url: String,
    replica: String,
}

/// An engine's address that cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{address}` is no engine's address; one looks like `http://10.0.0.7:8000`")]
pub struct ConfigError {
    /// The address.
    pub address: String,
}

impl EngineAddress {
    /// The whole URL of its metrics.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `host:port`, the value of the `replica` label.
    pub fn replica(&self) -> &str {
        &self.replica
    }
}

impl FromStr for EngineAddress {
    type Err = ConfigError;

    /// Reads `http://host:port`, with a path unless it is `/metrics`.
    fn from_str(address: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError { address: address.to_owned() };
        let uri: axum::http::Uri = address.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), authority) else {
            return Err(wrong());
        };
        let trimmed = address.trim_end_matches('/');
        let url = if uri.path() == "/" && uri.query().is_none() {
            format!("{trimmed}/metrics")
        } else {
            trimmed.to_owned()
        };
        Ok(Self { url, replica: authority.to_string() })
    }
}
