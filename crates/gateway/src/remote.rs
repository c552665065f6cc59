//! A gateway in another process, as its controller sees it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use forewarm_core::{
    ScalerId,
    pool::{PoolPlan, PoolReport},
};
use forewarm_tls::TlsError;

use crate::{
    config::ControlToken,
    control_client::{ControlClient, Pool},
    dial::{Dialer, UpstreamTls},
};

/// The control API of a gateway, for one scaler. A gateway that does not answer is an error, never an empty queue.
///
/// A gateway that was started anew knows nothing: it is told the last plan.
#[derive(Debug)]
pub struct RemoteGateway {
    client: Arc<ControlClient>,
    pool: Arc<Pool>,
    /// The version of the pool that the last report showed.
    seen: AtomicU64,
}

/// The gateway could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
#[error("the gateway at {address} does not serve: {reason}")]
pub struct RemoteError {
    address: String,
    reason: String,
}

impl RemoteError {
    pub(crate) fn new(address: &str, reason: impl std::fmt::Display) -> Self {
        Self { address: address.to_owned(), reason: reason.to_string() }
    }
}

/// What a controller shows to gateways, and whom it believes to be one. Clones share their connections: however many
/// scalers a gateway serves, it has one stream and a few connections of each controller.
#[derive(Clone, Debug, Default)]
pub struct ControlAccess {
    token: Option<ControlToken>,
    dialer: Arc<Dialer>,
    clients: Arc<Mutex<HashMap<String, Weak<ControlClient>>>>,
}

impl ControlAccess {
    /// A token, and how TLS is spoken to addresses that begin with `https://`.
    ///
    /// # Errors
    /// When a certificate cannot be used; the error names it.
    pub fn new(token: Option<ControlToken>, tls: &UpstreamTls) -> Result<Self, TlsError> {
        Ok(Self { token, dialer: Arc::new(Dialer::open(tls)?), clients: Arc::default() })
    }

    fn client(&self, address: &str) -> Arc<ControlClient> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(address).and_then(Weak::upgrade) {
            return client;
        }
        clients.retain(|_, client| client.strong_count() > 0);
        let client = Arc::new(ControlClient::open(address, Arc::clone(&self.dialer), self.token.clone()));
        clients.insert(address.to_owned(), Arc::downgrade(&client));
        client
    }
}

impl RemoteGateway {
    /// Speaks to the control port at `address` (`host:port`, or `https://host:port`), and follows its reports from
    /// now on.
    pub fn new(scaler: ScalerId, address: &str, access: &ControlAccess) -> Self {
        let client = access.client(address);
        let pool = client.pool(&scaler);
        Self { client, pool, seen: AtomicU64::new(0) }
    }

    /// Makes the gateway serve this plan.
    ///
    /// # Errors
    /// When it does not answer or refuses the plan.
    pub async fn apply(&self, plan: &PoolPlan) -> Result<(), RemoteError> {
        self.client.apply(&self.pool, plan).await
    }

    /// What the gateway sees now.
    ///
    /// # Errors
    /// When it does not answer, or has no plan yet.
    pub async fn report(&self) -> Result<PoolReport, RemoteError> {
        self.seen.store(self.pool.version(), Relaxed);
        self.client.report(&self.pool).await
    }

    /// Returns when the gateway reported a change since the last `report`, or came or went.
    pub async fn changed(&self) {
        self.pool.changed(self.seen.load(Relaxed)).await;
    }
}
