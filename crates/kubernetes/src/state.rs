//! A scaler's memory as text of bounded size, for the status of its object.
//!
//! JSON with numbers rounded to what matters, compressed. What is still too large forgets detail, what costs the least
//! to learn again first.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use forewarm_core::ScalerState;
use serde_json::{Number, Value};

/// Bytes of text that a state takes at most: ten thousand of them are 80 MiB of the API server's storage.
pub const MAX_BYTES: usize = 8 << 10;
/// Bytes of JSON that are read at most, so that a forged state cannot fill the memory.
const MAX_JSON_BYTES: usize = 1 << 20;
/// The densest level that is still fast on some KiB.
const LEVEL: i32 = 9;
/// Decimal places that are kept of a number: a thousandth of a second or of a request is nothing.
const DECIMALS: i32 = 3;
/// Digits that are kept of a number below 1.
const DIGITS: i32 = 4;

/// Why a state cannot be used; the controller then begins without one.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is not what [`encode`] writes.
    #[error("the state in the object's status is damaged: {0}")]
    Damaged(String),
    /// It is of another version of forewarm.
    #[error("the state in the object's status is of another version: {0}")]
    Version(#[source] serde_json::Error),
}

/// The state as text of at most [`MAX_BYTES`].
///
/// # Errors
/// When it cannot be written, which would be a bug.
pub fn encode(state: &ScalerState) -> Result<String, serde_json::Error> {
    let text = pack(state)?;
    if text.len() <= MAX_BYTES {
        return Ok(text);
    }
    let mut less = state.clone();
    let mut text = text;
    while text.len() > MAX_BYTES && less.forget_detail() {
        text = pack(&less)?;
    }
    Ok(text)
}

fn pack(state: &ScalerState) -> Result<String, serde_json::Error> {
    let mut value = serde_json::to_value(state)?;
    round(&mut value);
    let json = serde_json::to_vec(&value)?;
    let packed = zstd::bulk::compress(&json, LEVEL).map_err(serde_json::Error::io)?;
    Ok(STANDARD.encode(packed))
}

/// The state that [`encode`] wrote.
///
/// # Errors
/// When it is damaged, or of another version.
pub fn decode(text: &str) -> Result<ScalerState, StateError> {
    let damaged = |error: &dyn std::fmt::Display| StateError::Damaged(error.to_string());
    let packed = STANDARD.decode(text).map_err(|error| damaged(&error))?;
    let json = zstd::bulk::decompress(&packed, MAX_JSON_BYTES).map_err(|error| damaged(&error))?;
    serde_json::from_slice(&json).map_err(StateError::Version)
}

/// Leaves of each number what is worth its place. Counters stay what they are: a difference of two of them counts.
fn round(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(round),
        Value::Object(fields) => fields.values_mut().for_each(round),
        Value::Number(number) => {
            if let Some(exact) = number.as_f64().filter(|exact| number.is_f64() && *exact != 0.0) {
                let magnitude = exact.abs().log10().ceil();
                let decimals = if magnitude < 1.0 { DIGITS - magnitude as i32 } else { DECIMALS };
                let factor = 10_f64.powi(decimals.clamp(DECIMALS, 300));
                let rounded = (exact * factor).round() / factor;
                if let Some(rounded) = Number::from_f64(rounded) {
                    *number = rounded;
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
