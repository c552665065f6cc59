//! A gateway in another process, as its controller sees it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use forewarm_core::{
    ScalerId,
    pool::{PoolPlan, PoolReport},
};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::{config::ControlToken, control_api::HEARTBEAT, upstream::Connections};

/// Bytes of an answer that are read at most.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Longest wait for an answer: the gateway does nothing slow here.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of the stream of reports before it is taken for dead: some heartbeats may be late.
const MAX_SILENCE: Duration = HEARTBEAT.saturating_mul(5);
/// Wait before the stream of reports is opened again.
const RECONNECT: Duration = Duration::from_millis(200);

/// The control API of a gateway, for one scaler. A gateway that does not answer is an error, never an empty queue.
#[derive(Debug)]
pub struct RemoteGateway {
    scaler: ScalerId,
    connections: Arc<Connections>,
    token: Option<ControlToken>,
    changes: watch::Receiver<u64>,
    seen: std::sync::atomic::AtomicU64,
    follower: tokio::task::JoinHandle<()>,
}

/// The gateway could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
#[error("the gateway at {address} {reason}")]
pub struct RemoteError {
    address: String,
    reason: String,
}

impl RemoteGateway {
    /// Speaks to the control port at `address` (`host:port`), and follows its reports from now on.
    pub fn new(scaler: ScalerId, address: &str) -> Self {
        Self::connect(scaler, address, None)
    }

    /// The same, for a gateway that asks for a token.
    pub fn with_token(scaler: ScalerId, address: &str, token: ControlToken) -> Self {
        Self::connect(scaler, address, Some(token))
    }

    fn connect(scaler: ScalerId, address: &str, token: Option<ControlToken>) -> Self {
        let connections = Arc::new(Connections::new(address.to_owned()));
        let (sender, changes) = watch::channel(1);
        let follower = tokio::spawn(follow(Arc::clone(&connections), scaler.clone(), token.clone(), sender));
        Self { scaler, connections, token, changes, seen: 0.into(), follower }
    }

    /// Makes the gateway serve this plan.
    ///
    /// # Errors
    /// When it does not answer or refuses the plan.
    pub async fn apply(&self, plan: &PoolPlan) -> Result<(), RemoteError> {
        let body = serde_json::to_vec(plan).map_err(|error| self.error(error))?;
        self.ask(Method::PUT, body).await.map(|_| ())
    }

    /// What the gateway sees now.
    ///
    /// # Errors
    /// When it does not answer, or has no plan yet.
    pub async fn report(&self) -> Result<PoolReport, RemoteError> {
        self.seen.store(*self.changes.borrow(), std::sync::atomic::Ordering::Relaxed);
        let answer = self.ask(Method::GET, Vec::new()).await?;
        serde_json::from_slice(&answer).map_err(|error| self.error(error))
    }

    /// Returns when the gateway reported a change since the last `report`, or came or went.
    pub async fn changed(&self) {
        let seen = self.seen.load(std::sync::atomic::Ordering::Relaxed);
        if self.changes.clone().wait_for(|version| *version != seen).await.is_err() {
            // The follower ends only with `self`.
            std::future::pending::<()>().await;
        }
    }

    async fn ask(&self, method: Method, body: Vec<u8>) -> Result<Bytes, RemoteError> {
        let request = request(
            &self.connections,
            self.token.as_ref(),
            method,
            &format!("/forewarm/v1/pools/{}", self.scaler),
            body,
        );
        let answer = async {
            let (response, sender) =
                self.connections.send(&request).await.map_err(|error| self.error(error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| self.error(error))?.to_bytes();
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
}

impl Drop for RemoteGateway {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

fn request(
    connections: &Connections,
    token: Option<&ControlToken>,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = method;
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    if let Ok(host) = connections.address().parse() {
        request.headers_mut().insert(header::HOST, host);
    }
    if let Some(Ok(mut value)) = token.map(|token| HeaderValue::try_from(token.bearer())) {
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    request
}

/// Counts the gateway's reports; also each time that its stream begins or ends.
async fn follow(
    connections: Arc<Connections>,
    scaler: ScalerId,
    token: Option<ControlToken>,
    changes: watch::Sender<u64>,
) {
    let path = format!("/forewarm/v1/pools/{scaler}/events");
    loop {
        let request = request(&connections, token.as_ref(), Method::GET, &path, Vec::new());
        if let Ok(Ok((response, _sender))) = tokio::time::timeout(TIMEOUT, connections.send(&request)).await
            && response.status() == StatusCode::OK
        {
            read_reports(response.into_body(), &changes).await;
            changes.send_modify(|version| *version += 1);
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn read_reports(mut body: Incoming, changes: &watch::Sender<u64>) {
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(MAX_SILENCE, body.frame()).await {
        // A heartbeat is a comment, and no change.
        if frame.data_ref().is_some_and(|data| !data.starts_with(b":")) {
            changes.send_modify(|version| *version += 1);
        }
    }
}
