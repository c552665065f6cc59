//! The OpenAI-compatible surface as vLLM shapes it: what requests ask for, how answers and errors look, byte by byte.
//! Nothing here knows sockets or time.

mod error;
mod request;
mod response;

pub(crate) use error::ApiError;
pub(crate) use request::{CompletionRequest, Kind};
pub(crate) use response::{Answer, StreamPieces, model_list};
