//! YAML (and JSON, its subset) as a tree that knows where each value stands in the text.
//!
//! The only module that names the YAML library. It reads hostile text in bounded time and memory: the
//! text, the depth and the number of nodes (aliases expanded) are limited. Scalars stay text here; what
//! they mean is for the reader of a field to say, because `5`, `"5"` and `5000m` are all one quantity.

mod node;
mod parse;

use serde::Serialize;

pub use node::{Entry, Node, Scalar, Span, Value};
pub use parse::{MAX_DEPTH, MAX_NODES, MAX_TEXT_BYTES, YamlError, parse};

/// A value as YAML text.
///
/// # Errors
/// When the value cannot be written as YAML, such as a map with a key that is no scalar.
pub fn write(value: &impl Serialize) -> Result<String, WriteError> {
    serde_saphyr::to_string(value).map_err(|error| WriteError(error.to_string()))
}

/// A value that YAML cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be written as YAML: {0}")]
pub struct WriteError(String);
