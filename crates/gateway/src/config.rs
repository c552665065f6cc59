//! What a gateway is told before it starts. Every limit has a default and a reason.

use std::{fmt, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use forewarm_tls::{TlsError, TlsFiles};

use crate::{dial::UpstreamTls, forwarded::Network, keys::KeysError};

/// Addresses and limits of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Where clients connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where controllers connect, if they are in another process; not for clients.
    pub control: Option<SocketAddr>,
    /// What a controller has to show (`Authorization: Bearer …`) to see or change pools; `None`: nothing.
    pub control_token: Option<ControlToken>,
    /// The certificate at `listen`; `None`: no TLS there.
    pub tls: Option<TlsFiles>,
    /// The certificate at `control`.
    pub control_tls: Option<TlsFiles>,
    /// How replicas are spoken to whose address in the plan is `https://…`.
    pub upstream_tls: UpstreamTls,
    /// The file with the clients' keys; `None`: everybody may ask for anything.
    pub keys: Option<PathBuf>,
    /// Proxies in front, whose word is taken about where a request came from; nobody else's is.
    pub trusted_proxies: Vec<Network>,
    /// A Unix socket where a new gateway takes the place of this one, and where this one asks for the place of the one
    /// before. Gateways of the same path have the same `listen`, and controls of their own.
    pub handover: Option<PathBuf>,
    /// Threads that serve clients, each with a runtime, a listener and connections to replicas of its own, so
    /// that a request stays on one core. `None`: the runtime that calls serves them.
    pub threads: Option<NonZeroUsize>,
    /// How many modelled seconds pass in one on the wall: divides every timeout of a plan.
    pub speed: f64,
    /// Longest request body. 64 MiB holds a long context with a few images.
    pub max_body_bytes: usize,
    /// Bytes of request bodies that may be on their way in, all together; what waits is bounded by its plan.
    /// 1 GiB holds sixteen of the longest, or a great many of the usual ones.
    pub max_receiving_bytes: usize,
    /// Client connections at a time; one more waits in the listener's backlog.
    pub max_connections: usize,
    /// Longest time for a request's headers, and again for its body, to arrive: against slow senders. A body that
    /// comes fast enough may take longer.
    pub read_timeout: Duration,
    /// Longest time that a client may take nothing of an answer that waits for it: against slow readers, who would
    /// keep their slot at a replica for ever.
    pub send_timeout: Duration,
    /// Longest time that requests in flight get when the gateway is told to stop.
    pub shutdown_timeout: Duration,
}

impl GatewayConfig {
    /// The defaults, listening at `listen`.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            control: None,
            control_token: None,
            tls: None,
            control_tls: None,
            upstream_tls: UpstreamTls::default(),
            keys: None,
            trusted_proxies: Vec::new(),
            handover: None,
            threads: None,
            speed: 1.0,
            max_body_bytes: 64 << 20,
            max_receiving_bytes: 1 << 30,
            max_connections: 20_000,
            read_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(600),
        }
    }

    pub(crate) fn check(&self) -> Result<(), GatewayError> {
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return Err(GatewayError::Speed(self.speed));
        }
        let certified = self.control_tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if let Some(address) = self.control
            && !address.ip().to_canonical().is_loopback()
            && self.control_token.is_none()
            && !certified
        {
            return Err(GatewayError::OpenControl(address));
        }
        Ok(())
    }
}

/// A secret that controllers share with a gateway. Never printed.
#[derive(Clone)]
pub struct ControlToken(String);

impl ControlToken {
    /// The token as it stands in the `Authorization` header after `Bearer `.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// Compares in a time that does not depend on where the two differ.
    pub(crate) fn matches(&self, shown: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differs = own.iter().zip(shown).fold(0, |differs, (a, b)| differs | (a ^ b));
        own.len() == shown.len() && std::hint::black_box(differs) == 0
    }

    /// The value of an `Authorization` header.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for ControlToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlToken(…)")
    }
}

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A port cannot be had.
    #[error("the gateway cannot listen at {address}; is another program using the port?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Everybody could send the clients' requests wherever they like.
    #[error(
        "the control port {0} can be reached from other machines, and asks for nothing; give it a control token, or a \
         CA for client certificates, or an address such as 127.0.0.1:8081"
    )]
    OpenControl(SocketAddr),
    /// The gateway before does not hand over, or the path cannot be used.
    #[error("no place can be taken over or handed over at {}", path.display())]
    Handover {
        /// Where it was asked.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The keys file cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system gives no thread to serve with.
    #[error("the gateway cannot start a thread to serve with: {0}")]
    Thread(std::io::Error),
    /// Time cannot pass at this speed.
    #[error("the gateway's `speed` is {0}; it takes a number above 0, such as 1 or 60")]
    Speed(f64),
}
