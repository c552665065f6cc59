//! Real servers for tests: started from ordinary packages, paused, killed, restarted, and gone with the test.
//!
//! `cargo xtask testbed` gets what they are started from. A test whose server was not fetched prints
//! `skipped: ` and [`NotFetched`], and returns.

mod certificates;
mod cloud;
pub mod control_plane;
mod elasticmq;
mod encrypted;
pub mod helm;
pub mod kafka;
mod keda;
mod moto;
mod page;
pub mod prometheus;
mod proxy;
pub mod rabbitmq;
mod server;

use std::path::{Path, PathBuf};

pub use certificates::Certificates;
pub use cloud::{Cloud, CloudError, Faults, Machine};
pub use elasticmq::ElasticMq;
pub use encrypted::Encrypted;
pub use keda::Keda;
pub use moto::Moto;
pub use page::Page;
pub use proxy::Proxy;
pub use server::{Launch, Server, ServerError, free_port};

/// A folder of the testbed that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{part} is not here: `cargo xtask testbed {part}` gets it")]
pub struct NotFetched {
    part: String,
}

/// Why a server of the testbed is not there.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    /// What it is started from was not fetched.
    #[error(transparent)]
    NotFetched(#[from] NotFetched),
    /// It does not start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A file or a socket.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It answers otherwise than it should.
    #[error("{0}")]
    Answer(String),
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
