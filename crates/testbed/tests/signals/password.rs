//! A password in a file, that a test changes.

use std::time::Duration;

use forewarm_manifest::signal::{Basic, Credential};
use forewarm_testbed::Proxy;
use tempfile::TempDir;

/// A password as sources find it; the file goes with this value.
pub(crate) struct Password {
    folder: TempDir,
    right: &'static str,
}

impl Password {
    pub(crate) fn new(right: &'static str) -> Self {
        let password = Self { folder: tempfile::tempdir().unwrap(), right };
        password.write(right);
        password
    }

    /// Who shows it.
    pub(crate) fn of(&self, username: &str) -> Basic {
        let from_file = self.folder.path().join("password");
        Basic { username: Credential::Plain(username.to_owned()), password: Credential::File { from_file } }
    }

    /// Makes it wrong for whoever connects from now on; nobody keeps an old connection.
    pub(crate) async fn spoil(&self, network: &Proxy) {
        self.write("of yesterday");
        reconnect(network).await;
    }

    /// Makes it right again.
    pub(crate) async fn restore(&self, network: &Proxy) {
        self.write(self.right);
        reconnect(network).await;
    }

    fn write(&self, password: &str) {
        std::fs::write(self.folder.path().join("password"), password).unwrap();
    }
}

async fn reconnect(network: &Proxy) {
    network.cut();
    tokio::time::sleep(Duration::from_millis(50)).await;
    network.mend();
}
