//! CloudWatch's SDK speaks CBOR, which moto does not: between them it becomes JSON, and back.

use axum::http::{HeaderValue, header};
use ciborium::Value;
use serde_json::{Map, Number, Value as Json};

use super::http::Call;

/// CBOR's tag of seconds since 1970.
const TIME: u64 = 1;
/// Fields that are times, or lists of them.
const TIMES: [&str; 4] = ["Timestamp", "Timestamps", "StartTime", "EndTime"];
/// Fields that are no whole numbers even when they look like some.
const FLOATS: [&str; 2] = ["Value", "Values"];
/// What the JSON protocol calls the service.
const TARGET: &str = "GraniteServiceVersion20100801";

/// What CBOR is called.
pub(super) const CBOR: &str = "application/cbor";

impl Call {
    /// The same call in JSON; `None` for one that is no CBOR.
    pub(super) fn as_json(&self) -> Option<Self> {
        if self.headers.get(header::CONTENT_TYPE)?.as_bytes() != CBOR.as_bytes() {
            return None;
        }
        let body: Value = ciborium::from_reader(&self.body[..]).ok()?;
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.0"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/x-amz-json-1.0"));
        headers.insert("x-amz-target", format!("{TARGET}.{}", self.action).parse().ok()?);
        Some(Self {
            service: self.service.clone(),
            action: self.action.clone(),
            parameters: Vec::new(),
            method: self.method.clone(),
            path: "/".to_owned(),
            headers,
            body: json(body).to_string().into(),
        })
    }
}

/// An answer in JSON as CBOR; what is no JSON is empty.
pub(super) fn from_json(text: &[u8]) -> Vec<u8> {
    let value = serde_json::from_slice(text).unwrap_or(Json::Object(Map::new()));
    let mut bytes = Vec::new();
    // Writing to memory does not fail.
    drop(ciborium::into_writer(&cbor("", value), &mut bytes));
    bytes
}

fn json(value: Value) -> Json {
    match value {
        Value::Text(text) => Json::String(text),
        Value::Bool(flag) => Json::Bool(flag),
        Value::Integer(number) => i64::try_from(number).map_or(Json::Null, Json::from),
        Value::Float(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        Value::Tag(_, inner) => json(*inner),
        Value::Array(items) => items.into_iter().map(json).collect(),
        Value::Map(fields) => {
            let named = |(name, value): (Value, Value)| Some((name.into_text().ok()?, json(value)));
            Json::Object(fields.into_iter().filter_map(named).collect())
        }
        Value::Null | Value::Bytes(_) => Json::Null,
        _ => Json::Null,
    }
}

/// `name` is that of the field.
fn cbor(name: &str, value: Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(flag),
        Json::String(text) => Value::Text(text),
        Json::Array(items) => Value::Array(items.into_iter().map(|item| cbor(name, item)).collect()),
        Json::Object(fields) => Value::Map(
            fields.into_iter().map(|(name, value)| (Value::Text(name.clone()), cbor(&name, value))).collect(),
        ),
        Json::Number(number) => {
            let float = Value::Float(number.as_f64().unwrap_or_default());
            match number.as_i64() {
                _ if TIMES.contains(&name) => Value::Tag(TIME, Box::new(float)),
                Some(whole) if !FLOATS.contains(&name) => Value::Integer(whole.into()),
                Some(_) | None => float,
            }
        }
    }
}
