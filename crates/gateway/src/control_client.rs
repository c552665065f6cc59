//! The control port of a gateway in another process, as all scalers of one controller share it: one stream that tells
//! of every change, and a few connections for questions.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use forewarm_core::{
    ScalerId,
    pool::{PoolPlan, PoolReport},
};
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Method, Request, StatusCode, header};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use crate::{
    config::ControlToken,
    control_api::{Applied, Event, HEARTBEAT},
    dial::Dialer,
    remote::RemoteError,
    reply::Reply,
    upstream::Connections,
};

/// Where scalers are, on the control port.
const POOLS: &str = "/forewarm/v1/pools";
/// Where the stream of all of them is.
const EVENTS: &str = "/forewarm/v1/events";
/// Bytes of an answer, or of a line of the stream, that are read at most.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Longest wait for an answer: the gateway does nothing slow here.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of the stream before it is taken for dead: some heartbeats may be late.
const MAX_SILENCE: Duration = HEARTBEAT.saturating_mul(5);
/// Wait before the stream is opened again.
const RECONNECT: Duration = Duration::from_millis(200);
/// Questions to one gateway at a time, and so connections to it but for the stream's.
const MAX_QUESTIONS: usize = 16;

/// What is shared by the scalers that one gateway serves. It is listened to until this is dropped.
#[derive(Debug)]
pub(crate) struct ControlClient {
    wire: Arc<Wire>,
    listener: tokio::task::JoinHandle<()>,
}

/// What it takes to ask and to listen.
#[derive(Debug)]
struct Wire {
    connections: Connections,
    token: Option<ControlToken>,
    questions: Semaphore,
    pools: Mutex<HashMap<ScalerId, Weak<Pool>>>,
    /// What the stream told last of each scaler at the gateway.
    told: Mutex<HashMap<ScalerId, Told>>,
    /// When the stream said something last; `None` while there is none.
    heard: Mutex<Option<Instant>>,
}

/// A report, and the version of its scaler that it is of.
#[derive(Debug)]
struct Told {
    version: u64,
    report: Box<PoolReport>,
}

/// One scaler at the gateway.
#[derive(Debug)]
pub(crate) struct Pool {
    scaler: ScalerId,
    /// Counts the changes that the gateway tells of; also each time that the stream ends.
    changes: watch::Sender<u64>,
    /// The last plan that the gateway should have. Held while one is sent, so that an old one never follows a new one.
    plan: tokio::sync::Mutex<Option<PoolPlan>>,
    /// The version of the scaler that had this plan first: what is older than that must not be acted upon.
    planned: AtomicU64,
}

impl ControlClient {
    pub(crate) fn open(address: &str, dialer: Arc<Dialer>, token: Option<ControlToken>) -> Self {
        let wire = Arc::new(Wire {
            connections: Connections::new(address.to_owned(), dialer),
            token,
            questions: Semaphore::new(MAX_QUESTIONS),
            pools: Mutex::default(),
            told: Mutex::default(),
            heard: Mutex::default(),
        });
        let listener = tokio::spawn(listen(Arc::clone(&wire)));
        Self { wire, listener }
    }

    /// A scaler's pool there; the same one for all who ask for it at a time.
    pub(crate) fn pool(&self, scaler: &ScalerId) -> Arc<Pool> {
        let mut pools = lock(&self.wire.pools);
        if let Some(pool) = pools.get(scaler).and_then(Weak::upgrade) {
            return pool;
        }
        if pools.len() == pools.capacity() {
            pools.retain(|_, pool| pool.strong_count() > 0);
        }
        let pool = Arc::new(Pool {
            scaler: scaler.clone(),
            changes: watch::channel(1).0,
            plan: tokio::sync::Mutex::default(),
            planned: AtomicU64::new(0),
        });
        pools.insert(scaler.clone(), Arc::downgrade(&pool));
        pool
    }

    pub(crate) async fn apply(&self, pool: &Pool, plan: &PoolPlan) -> Result<(), RemoteError> {
        let mut wanted = pool.plan.lock().await;
        // Also when it cannot be told now: once it is there, it is.
        *wanted = Some(plan.clone());
        self.wire.put(pool, plan).await
    }

    pub(crate) async fn report(&self, pool: &Pool) -> Result<PoolReport, RemoteError> {
        if let Some(idle) = self.wire.idle(pool) {
            return Ok(idle);
        }
        let answer = self.wire.ask(Method::GET, &pool.path(), Vec::new()).await?;
        serde_json::from_slice(&answer).map_err(|error| self.wire.error(error))
    }
}

impl Drop for ControlClient {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Pool {
    /// How often the gateway told of a change, or came or went.
    pub(crate) fn version(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Returns when the version is another one.
    pub(crate) async fn changed(&self, seen: u64) {
        // Its sender lives as long as `self`.
        drop(self.changes.subscribe().wait_for(|version| *version != seen).await);
    }

    fn path(&self) -> String {
        format!("{POOLS}/{}", self.scaler)
    }

    fn change(&self) {
        self.changes.send_modify(|version| *version += 1);
    }
}

impl Wire {
    /// The last report of a pool in which nothing waits and nothing runs: it is true until the stream tells of another.
    /// `None` where time itself changes what is to be reported, where the plan is younger, and where nobody would tell.
    fn idle(&self, pool: &Pool) -> Option<PoolReport> {
        let alive = lock(&self.heard).is_some_and(|heard| heard.elapsed() < MAX_SILENCE);
        let told = lock(&self.told);
        let told =
            told.get(&pool.scaler).filter(|told| alive && told.version >= pool.planned.load(Relaxed))?;
        let is_idle = told.report.queued == 0 && told.report.in_flight_sum() == 0;
        is_idle.then(|| PoolReport::clone(&told.report))
    }

    async fn put(&self, pool: &Pool, plan: &PoolPlan) -> Result<(), RemoteError> {
        let body = serde_json::to_vec(plan).map_err(|error| self.error(error))?;
        // What is told meanwhile may be of before or after.
        pool.planned.store(u64::MAX, Relaxed);
        let answer = self.ask(Method::PUT, &pool.path(), body).await?;
        let Applied { version } = serde_json::from_slice(&answer).map_err(|error| self.error(error))?;
        pool.planned.store(version, Relaxed);
        Ok(())
    }

    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, RemoteError> {
        let request = self.request(method, path, body);
        let answer = async {
            // Never closed.
            let _turn = self.questions.acquire().await;
            let (response, mut reply) =
                self.connections.send(&request.into()).await.map_err(|error| self.error(error))?;
            let status = response.status;
            let mut body = BytesMut::new();
            while let Some(data) = reply.data().await {
                let data = data.map_err(|error| self.error(error))?;
                if body.len() + data.len() > MAX_ANSWER_BYTES {
                    return Err(self.error(format!("answers with more than {MAX_ANSWER_BYTES} bytes")));
                }
                body.extend_from_slice(&data);
            }
            let body = body.freeze();
            self.connections.put_back(reply);
            if status == StatusCode::OK { Ok(body) } else { Err(self.error(String::from_utf8_lossy(&body))) }
        };
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(self.error(format!("no answer within {TIMEOUT:?}"))),
        }
    }

    fn error(&self, reason: impl std::fmt::Display) -> RemoteError {
        RemoteError::new(self.connections.address(), reason)
    }

    fn request(&self, method: Method, path: &str, body: Vec<u8>) -> Request<Bytes> {
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method;
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
        if let Some(Ok(mut value)) = self.token.as_ref().map(|token| HeaderValue::try_from(token.bearer())) {
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        request
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        lock(&self.pools).values().filter_map(Weak::upgrade).collect()
    }

    async fn hears(&self, line: &[u8]) {
        // What is no event is a heartbeat, or an empty line between two.
        let Some(event) = line.strip_prefix(b"data: ") else { return };
        match serde_json::from_slice(event) {
            Ok(Event::Scalers(known)) => {
                let unknown = self.all().into_iter().filter(|pool| !known.contains(&pool.scaler));
                let told = unknown.map(|pool| async move { self.tell_again(&pool).await });
                stream::iter(told).buffer_unordered(MAX_QUESTIONS).collect::<()>().await;
            }
            Ok(Event::Report { scaler, version, report }) => {
                let pool = lock(&self.pools).get(&scaler).and_then(Weak::upgrade);
                lock(&self.told).insert(scaler, Told { version, report });
                if let Some(pool) = pool {
                    pool.change();
                }
            }
            Err(error) => tracing::warn!(%error, "{} reports what is no event", self.connections.address()),
        }
    }

    /// Tells a gateway that knows nothing of the scaler what one knew before it.
    async fn tell_again(&self, pool: &Pool) {
        let wanted = pool.plan.lock().await;
        let Some(plan) = &*wanted else { return };
        match self.put(pool, plan).await {
            Ok(()) => {
                tracing::info!(scaler = %pool.scaler, "the gateway was started anew, and has its plan again")
            }
            Err(error) => tracing::warn!(%error, "the gateway was started anew, and does not take its plan"),
        }
    }
}

/// Listens to what the gateway tells.
async fn listen(wire: Arc<Wire>) {
    loop {
        let request = wire.request(Method::GET, EVENTS, Vec::new());
        if let Ok(Ok((response, reply))) =
            tokio::time::timeout(TIMEOUT, wire.connections.send(&request.into())).await
        {
            match response.status {
                StatusCode::OK => {
                    read_events(&wire, reply).await;
                    *lock(&wire.heard) = None;
                    lock(&wire.told).clear();
                    wire.all().iter().for_each(|pool| pool.change());
                }
                status => tracing::debug!(%status, "{} does not report", wire.connections.address()),
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn read_events(wire: &Wire, mut reply: Reply) {
    let mut read = BytesMut::new();
    while let Ok(Some(Ok(data))) = tokio::time::timeout(MAX_SILENCE, reply.data()).await {
        *lock(&wire.heard) = Some(Instant::now());
        read.extend_from_slice(&data);
        while let Some(end) = read.iter().position(|&byte| byte == b'\n') {
            wire.hears(&read[..end]).await;
            read.advance(end + 1);
        }
        if read.len() > MAX_ANSWER_BYTES {
            tracing::warn!(
                "{} reports more than {MAX_ANSWER_BYTES} bytes at once",
                wire.connections.address()
            );
            return;
        }
    }
}

/// A panic elsewhere leaves nothing half done in what is locked here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
