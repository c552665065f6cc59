//! A gateway in another process, as its controller sees it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use forewarm_core::{
    ScalerId,
    pool::{PoolPlan, PoolReport},
};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::upstream::Connections;

/// Bytes of an answer that are read at most.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Longest wait for an answer: the gateway does nothing slow here.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Wait before the stream of reports is opened again.
const RECONNECT: Duration = Duration::from_millis(200);

/// The control API of a gateway, for one scaler. A gateway that does not answer is an error, never an empty queue.
#[derive(Debug)]
pub struct RemoteGateway {
    scaler: ScalerId,
    connections: Arc<Connections>,
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
        let connections = Arc::new(Connections::new(address.to_owned()));
        let (sender, changes) = watch::channel(0);
        let follower = tokio::spawn(follow(Arc::clone(&connections), scaler.clone(), sender));
        Self { scaler, connections, changes, seen: 0.into(), follower }
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
        let request =
            request(&self.connections, method, &format!("/forewarm/v1/pools/{}", self.scaler), body);
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

fn request(connections: &Connections, method: Method, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = method;
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    if let Ok(host) = connections.address().parse() {
        request.headers_mut().insert(http::header::HOST, host);
    }
    request
}

/// Counts the gateway's reports; also each time that its stream begins or ends.
async fn follow(connections: Arc<Connections>, scaler: ScalerId, changes: watch::Sender<u64>) {
    let path = format!("/forewarm/v1/pools/{scaler}/events");
    loop {
        let request = request(&connections, Method::GET, &path, Vec::new());
        if let Ok((response, _sender)) = connections.send(&request).await
            && response.status() == StatusCode::OK
        {
            read_reports(response.into_body(), &changes).await;
            changes.send_modify(|version| *version += 1);
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn read_reports(mut body: Incoming, changes: &watch::Sender<u64>) {
    while let Some(Ok(_)) = body.frame().await {
        changes.send_modify(|version| *version += 1);
    }
}
