//! Real servers for tests: started from ordinary packages, paused, killed, restarted, and gone with the test.
//!
//! `cargo xtask testbed` gets what they are started from. A test whose server was not fetched prints
//! `skipped: ` and [`NotFetched`], and returns.

pub mod control_plane;
mod server;

use std::path::{Path, PathBuf};

pub use server::{Launch, Server, ServerError, free_port};

/// A folder of the testbed that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{part} is not here: `cargo xtask testbed {part}` gets it")]
pub struct NotFetched {
    part: String,
}

/// Where `cargo xtask testbed PART` puts what it gets.
///
/// # Errors
/// When it is not there.
pub fn assets(part: &str) -> Result<PathBuf, NotFetched> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testbed").join(part);
    // Written when the part is complete, so that half a download does not count.
    if folder.join("complete").exists() { Ok(folder) } else { Err(NotFetched { part: part.to_owned() }) }
}
