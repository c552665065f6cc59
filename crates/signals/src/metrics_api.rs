//! A number in somebody's JSON.

use std::time::Duration;

use forewarm_control::ports::{FleetReplica, SignalSource};
use forewarm_core::{Missing, Signal, quantity::Quantity};
use forewarm_manifest::signal::{ApiKeyPlace, MetricsApiSignal, ValueLocation};
use futures_util::future::{BoxFuture, FutureExt};
use reqwest::{StatusCode, Url};
use serde_json::Value;

use crate::{
    http::{Asker, Clients},
    secret::reveal,
};

/// Largest answer that is read.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Asks an address for JSON with a number in it.
#[derive(Debug)]
pub(crate) struct MetricsApiSource {
    asker: Asker,
    url: Url,
    signal: MetricsApiSignal,
}

impl MetricsApiSource {
    pub(crate) fn new(
        clients: &Clients,
        signal: MetricsApiSignal,
        timeout: Duration,
    ) -> Result<Self, String> {
        let url = Url::parse(&signal.url).map_err(|error| format!("`url`: {error}"))?;
        Ok(Self { asker: clients.asker(&url, &signal.access, timeout)?, url, signal })
    }

    async fn ask(&self) -> Result<Signal, Missing> {
        let failed = |error: String| Missing::Failed(error);
        let mut url = self.url.clone();
        let mut header = None;
        if let Some(key) = &self.signal.api_key {
            let secret = reveal(&key.api_key).map_err(failed)?;
            match key.method {
                ApiKeyPlace::Header => header = Some((key.key_param_name.as_str(), secret)),
                ApiKeyPlace::Query => {
                    url.query_pairs_mut().append_pair(&key.key_param_name, &secret);
                }
            }
        }
        let header = header.as_ref().map(|(name, value)| (*name, value.as_str()));
        let asked = self.asker.get(url, header, MAX_BODY_BYTES).await;
        let (status, body) = asked.map_err(|error| failed(error.to_string()))?;
        number(status, &body, &self.signal.value_location).map(Signal::value)
    }
}

/// The number at `location`.
fn number(status: StatusCode, body: &[u8], location: &ValueLocation) -> Result<f64, Missing> {
    if !status.is_success() {
        return Err(Missing::Failed(format!("HTTP {status}")));
    }
    let document: Value = serde_json::from_slice(body)
        .map_err(|error| Missing::Failed(format!("the answer is no JSON: {error}")))?;
    let value = match location.find(&document) {
        Some(value) => value,
        None => {
            let end = location.end(&document);
            return Err(Missing::Failed(format!("there is nothing at `{location}` in the answer: {end}")));
        }
    };
    let number = match &value {
        Value::Number(number) => number.as_f64(),
        // As Kubernetes writes amounts: `500m`, `2Ki`.
        Value::String(text) => text.parse::<Quantity>().ok().map(Quantity::to_f64),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number.filter(|number| number.is_finite()).ok_or_else(|| {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::String(_) => "text that is no number",
            Value::Array(_) => "a list (`#` behind it gives how many)",
            Value::Object(_) => "an object",
            Value::Number(_) => "a number that is not finite",
        };
        Missing::Failed(format!("at `{location}` is {kind}, and a number is needed"))
    })
}

impl SignalSource for MetricsApiSource {
    fn read<'a>(&'a self, _replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move { self.ask().await.unwrap_or_else(Signal::missing) }.boxed()
    }
}
