//! Why an engine did not start or did not go on.

use std::io;
use std::net::SocketAddr;

use crate::cold_start::Stage;
use crate::config::InvalidConfig;

/// Why an engine did not start or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The configuration makes no sense.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    /// Somebody else listens on the port.
    #[error("port {} is already in use on {}; choose another, or 0 for any free one", address.port(), address.ip())]
    PortInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address can't be listened on.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The cold start failed, as its law said it may.
    #[error("the cold start failed in stage `{stage}` after {} modelled seconds", after.as_secs_f64())]
    ColdStartFailed {
        /// Where.
        stage: Stage,
        /// Modelled time since the start began.
        after: std::time::Duration,
    },
    /// The engine was told to stop before it was ready.
    #[error("stopped before the engine was ready")]
    StoppedWhileStarting,
}

impl EngineError {
    pub(crate) fn listen(address: SocketAddr, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::AddrInUse {
            Self::PortInUse { address }
        } else {
            Self::Listen { address, source }
        }
    }
}
