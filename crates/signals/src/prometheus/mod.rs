//! One instant query to a Prometheus server, or to what speaks its API (Thanos, Mimir, VictoriaMetrics).
//!
//! One series is a value, none is absent, several are an error that says how to write the query: taking
//! one of them, or adding up what may not be additive, would be a guess.

mod answer;

use std::time::{Duration, SystemTime};

use forewarm_control::{
    Clock,
    ports::{FleetReplica, SignalSource},
};
use forewarm_core::{Missing, Signal};
use forewarm_manifest::signal::PrometheusSignal;
use futures_util::future::{BoxFuture, FutureExt};
use reqwest::{StatusCode, Url};

use crate::http::{AskError, Asker, Clients};

/// Largest answer that is read; one sample takes 200 bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Why a query cannot be asked at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The server's address is no URL, or none of HTTP.
    #[error("`serverAddress` is no address of a server; one looks like `http://prometheus:9090`")]
    ServerAddress,
    /// A query with nothing in it.
    #[error("`query` is empty; one looks like `sum(rate(http_requests_total[2m]))`")]
    EmptyQuery,
    /// TLS cannot be set up.
    #[error("cannot set up a client: {0}")]
    Client(String),
}

/// Asks a Prometheus server one query.
#[derive(Debug)]
pub struct PrometheusSource {
    asker: Asker,
    url: Url,
    query: PrometheusSignal,
    speed: f64,
}

impl PrometheusSource {
    /// A source that has not asked yet, with connections of its own.
    ///
    /// # Errors
    /// [`QueryError`] when the address or the query cannot be right.
    pub fn new(query: PrometheusSignal, timeout: Duration, clock: Clock) -> Result<Self, QueryError> {
        Self::with(&Clients::default(), query, timeout, clock)
    }

    pub(crate) fn with(
        clients: &Clients,
        query: PrometheusSignal,
        timeout: Duration,
        clock: Clock,
    ) -> Result<Self, QueryError> {
        if query.query.trim().is_empty() {
            return Err(QueryError::EmptyQuery);
        }
        let mut url = Url::parse(&query.server_address).map_err(|_| QueryError::ServerAddress)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(QueryError::ServerAddress);
        }
        url.path_segments_mut()
            .map_err(|()| QueryError::ServerAddress)?
            .pop_if_empty()
            .extend(["api", "v1", "query"]);
        url.query_pairs_mut().append_pair("query", &query.query).extend_pairs(&query.query_parameters);
        let asker = clients.asker(&url, &query.access, timeout).map_err(QueryError::Client)?;
        Ok(Self { asker, url, query, speed: clock.speed() })
    }

    async fn ask(&self) -> Result<Signal, Missing> {
        let asked = self.asker.get(self.url.clone(), None, MAX_BODY_BYTES).await;
        let (status, body) = asked.map_err(|error| match error {
            AskError::TooLarge { limit } => Missing::Failed(format!(
                "query `{}` gave an answer longer than {limit} bytes; add its series up by `sum(…)`",
                self.query.query
            )),
            AskError::Failed(_) | AskError::Refused { .. } => Missing::Failed(error.to_string()),
        })?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        read(status, &body, &self.query, |timestamp| age(now, timestamp, self.speed))
    }
}

/// What an answer means; `age` is that of a sample with a timestamp.
fn read(
    status: StatusCode,
    body: &[u8],
    query: &PrometheusSignal,
    age: impl Fn(f64) -> Duration,
) -> Result<Signal, Missing> {
    let samples = answer::samples(status, body).map_err(|error| Missing::Failed(error.to_string()))?;
    answer::signal(samples, query, age)
}

/// Age in modelled time of a sample, by a server whose clock may be ahead of ours: that is no age. A
/// timestamp of before the clocks is as old as can still be added to.
fn age(now: Duration, timestamp_seconds: f64, speed: f64) -> Duration {
    const OLDEST: Duration = Duration::from_secs(u32::MAX as u64);
    let seconds = (now.as_secs_f64() - timestamp_seconds) * speed;
    Duration::try_from_secs_f64(seconds.max(0.0)).map_or(OLDEST, |age| age.min(OLDEST))
}

/// What reads the bytes of strangers, for the fuzz targets only.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::*;

    /// What an answer with this status means to a query, in time that runs so fast.
    pub fn answer(status: u16, body: &[u8], query: &PrometheusSignal, speed: f64) -> Result<Signal, Missing> {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        read(status, body, query, |timestamp| age(Duration::from_secs(1 << 30), timestamp, speed))
    }
}

impl SignalSource for PrometheusSource {
    fn read<'a>(&'a self, _replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move { self.ask().await.unwrap_or_else(Signal::missing) }.boxed()
    }
}
