//! What a gateway is told before it starts. Every limit has a default and a reason.

use std::{net::SocketAddr, time::Duration};

/// Addresses and limits of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Where clients connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where controllers connect, if they are in another process; not for clients.
    pub control: Option<SocketAddr>,
    /// How many modelled seconds pass in one on the wall: divides every timeout of a plan.
    pub speed: f64,
    /// Longest request body. 64 MiB holds a long context with a few images.
    pub max_body_bytes: usize,
    /// Client connections at a time; one more waits in the listener's backlog.
    pub max_connections: usize,
    /// Longest time for a request's headers, and again for its body, to arrive: against slow senders.
    pub read_timeout: Duration,
    /// Longest time that requests in flight get when the gateway is told to stop.
    pub shutdown_timeout: Duration,
}

impl GatewayConfig {
    /// The defaults, listening at `listen`.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            control: None,
            speed: 1.0,
            max_body_bytes: 64 << 20,
            max_connections: 20_000,
            read_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(600),
        }
    }
}

/// Why a gateway cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("the gateway cannot listen at {address}; is another program using the port?")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    #[source]
    pub source: std::io::Error,
}
