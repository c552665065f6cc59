//! The AWS API server moto.

use std::{path::Path, time::Duration};

use crate::{Launch, Server, ServerError, free_port};

/// It imports much before it listens.
const START: Duration = Duration::from_secs(60);

/// A moto server. It keeps what it is told in memory.
pub struct Moto {
    /// Its process: to pause, kill and restart.
    pub server: Server,
    /// Its address, `http://127.0.0.1:PORT`.
    pub address: String,
}

impl Moto {
    /// Starts one from what `cargo xtask testbed moto` fetched.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(assets: &Path, folder: &Path) -> Result<Self, ServerError> {
        let launch = |port: u16| Launch {
            name: "moto".to_owned(),
            command: vec![
                assets.join("venv/bin/python").display().to_string(),
                assets.join("venv/bin/moto_server").display().to_string(),
                "-H".to_owned(),
                "127.0.0.1".to_owned(),
                "-p".to_owned(),
                port.to_string(),
            ],
            env: Vec::new(),
            folder: folder.to_owned(),
        };
        let port = free_port().map_err(|source| ServerError::Start { name: "moto".to_owned(), source })?;
        let address = format!("http://127.0.0.1:{port}");
        let server = Server::start(launch(port), START, async || answers(&address).await).await?;
        Ok(Self { server, address })
    }

    /// Starts it again, at the same port and without what it was told.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        let address = &self.address;
        self.server.restart(START, async || answers(address).await).await
    }
}

async fn answers(address: &str) -> bool {
    let url = format!("{address}/moto-api/");
    reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success())
}
