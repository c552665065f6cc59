//! A gateway in another process, as its controller sees it.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use forewarm_core::{
    ScalerId,
    pool::{PoolPlan, PoolReport},
};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::{
    config::ControlToken,
    control_api::HEARTBEAT,
    dial::{Dialer, Sender, UpstreamTls},
    tls::TlsError,
    upstream::Connections,
};

/// Bytes of an answer that are read at most.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Longest wait for an answer: the gateway does nothing slow here.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of the stream of reports before it is taken for dead: some heartbeats may be late.
const MAX_SILENCE: Duration = HEARTBEAT.saturating_mul(5);
/// Wait before the stream of reports is opened again.
const RECONNECT: Duration = Duration::from_millis(200);

/// The control API of a gateway, for one scaler. A gateway that does not answer is an error, never an empty queue.
///
/// A gateway that was started anew knows nothing: it is told the last plan.
#[derive(Debug)]
pub struct RemoteGateway {
    wire: Arc<Wire>,
    changes: watch::Receiver<u64>,
    seen: AtomicU64,
    follower: tokio::task::JoinHandle<()>,
}

/// What it takes to ask.
#[derive(Debug)]
struct Wire {
    path: String,
    connections: Connections,
    token: Option<ControlToken>,
    /// The last plan that it should have. Held while one is sent, so that an old one never follows a new one.
    plan: tokio::sync::Mutex<Option<PoolPlan>>,
}

/// The gateway could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
#[error("the gateway at {address} {reason}")]
pub struct RemoteError {
    address: String,
    reason: String,
}

/// What a controller shows to gateways, and whom it believes to be one.
#[derive(Clone, Debug, Default)]
pub struct ControlAccess {
    token: Option<ControlToken>,
    dialer: Arc<Dialer>,
}

impl ControlAccess {
    /// A token, and how TLS is spoken to addresses that begin with `https://`.
    ///
    /// # Errors
    /// When a certificate cannot be used; the error names it.
    pub fn new(token: Option<ControlToken>, tls: &UpstreamTls) -> Result<Self, TlsError> {
        Ok(Self { token, dialer: Arc::new(Dialer::open(tls)?) })
    }
}

impl RemoteGateway {
    /// Speaks to the control port at `address` (`host:port`, or `https://host:port`), and follows its reports from
    /// now on.
    pub fn new(scaler: ScalerId, address: &str, access: &ControlAccess) -> Self {
        let path = format!("/forewarm/v1/pools/{scaler}");
        let connections = Connections::new(address.to_owned(), Arc::clone(&access.dialer));
        let token = access.token.clone();
        let wire = Arc::new(Wire { path, connections, token, plan: tokio::sync::Mutex::default() });
        let (sender, changes) = watch::channel(1);
        let follower = tokio::spawn(follow(Arc::clone(&wire), sender));
        Self { wire, changes, seen: AtomicU64::new(0), follower }
    }

    /// Makes the gateway serve this plan.
    ///
    /// # Errors
    /// When it does not answer or refuses the plan.
    pub async fn apply(&self, plan: &PoolPlan) -> Result<(), RemoteError> {
        let mut wanted = self.wire.plan.lock().await;
        // Also when it cannot be told now: once it is there, it is.
        *wanted = Some(plan.clone());
        self.wire.put(plan).await
    }

    /// What the gateway sees now.
    ///
    /// # Errors
    /// When it does not answer, or has no plan yet.
    pub async fn report(&self) -> Result<PoolReport, RemoteError> {
        self.seen.store(*self.changes.borrow(), Relaxed);
        let answer = self.wire.ask(Method::GET, Vec::new()).await?;
        serde_json::from_slice(&answer).map_err(|error| self.wire.error(error))
    }

    /// Returns when the gateway reported a change since the last `report`, or came or went.
    pub async fn changed(&self) {
        let seen = self.seen.load(Relaxed);
        if self.changes.clone().wait_for(|version| *version != seen).await.is_err() {
            // The follower ends only with `self`.
            std::future::pending::<()>().await;
        }
    }
}

impl Wire {
    async fn put(&self, plan: &PoolPlan) -> Result<(), RemoteError> {
        let body = serde_json::to_vec(plan).map_err(|error| self.error(error))?;
        self.ask(Method::PUT, body).await.map(|_| ())
    }

    async fn ask(&self, method: Method, body: Vec<u8>) -> Result<Bytes, RemoteError> {
        let request = self.request(method, &self.path, body);
        let answer = async {
            let (response, mut sender) =
                self.connections.send(&request).await.map_err(|error| self.error(error))?;
            let (status, mut answer) = (response.status(), response.into_body());
            let mut body = BytesMut::new();
            // The connection moves only while it is asked for the next frame.
            while let Some(frame) = poll_fn(|context| sender.poll_frame(&mut answer, context)).await {
                let frame = frame.map_err(|error| self.error(error))?;
                let data = frame.data_ref().map_or(&[][..], |data| data);
                if body.len() + data.len() > MAX_ANSWER_BYTES {
                    return Err(self.error(format!("answers with more than {MAX_ANSWER_BYTES} bytes")));
                }
                body.extend_from_slice(data);
            }
            let body = body.freeze();
            self.connections.put_back(sender);
            if status == StatusCode::OK { Ok(body) } else { Err(self.error(String::from_utf8_lossy(&body))) }
        };
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(self.error(format!("no answer within {TIMEOUT:?}"))),
        }
    }

    fn error(&self, reason: impl std::fmt::Display) -> RemoteError {
        RemoteError {
            address: self.connections.address().to_owned(),
            reason: format!("does not serve: {reason}"),
        }
    }

    fn request(&self, method: Method, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
        if let Some(host) = self.connections.host().cloned() {
            request.headers_mut().insert(header::HOST, host);
        }
        if let Some(Ok(mut value)) = self.token.as_ref().map(|token| HeaderValue::try_from(token.bearer())) {
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        request
    }

    /// Tells a gateway that knows nothing of the scaler what one knew before it.
    async fn tell_again(&self) {
        let wanted = self.plan.lock().await;
        let Some(plan) = &*wanted else { return };
        match self.put(plan).await {
            Ok(()) => {
                tracing::info!(path = self.path, "the gateway was started anew, and has its plan again")
            }
            Err(error) => tracing::warn!(%error, "the gateway was started anew, and does not take its plan"),
        }
    }
}

impl Drop for RemoteGateway {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Counts the gateway's reports; also each time that its stream begins or ends.
async fn follow(wire: Arc<Wire>, changes: watch::Sender<u64>) {
    let path = format!("{}/events", wire.path);
    loop {
        let request = wire.request(Method::GET, &path, Vec::new());
        if let Ok(Ok((response, sender))) =
            tokio::time::timeout(TIMEOUT, wire.connections.send(&request)).await
        {
            match response.status() {
                StatusCode::OK => {
                    read_reports(response.into_body(), sender, &changes).await;
                    changes.send_modify(|version| *version += 1);
                }
                StatusCode::NOT_FOUND => wire.tell_again().await,
                status => tracing::debug!(%status, path, "the gateway does not report"),
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn read_reports(mut body: Incoming, mut sender: Sender, changes: &watch::Sender<u64>) {
    // The connection moves only while it is asked for the next frame.
    let mut next = async || poll_fn(|context| sender.poll_frame(&mut body, context)).await;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(MAX_SILENCE, next()).await {
        // A heartbeat is a comment, and no change.
        if frame.data_ref().is_some_and(|data| !data.starts_with(b":")) {
            changes.send_modify(|version| *version += 1);
        }
    }
}
