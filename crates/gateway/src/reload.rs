//! Files that are read again when they change: keys and certificates.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{keys::Keys, tls::Tls};

/// Time between two looks. Looking works with every file system, and with files that are replaced by links, as
/// Kubernetes does with its secrets.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Asks a gateway to read its keys and certificates again, now.
#[derive(Clone, Debug, Default)]
pub struct Reloader(Arc<Notify>);

impl Reloader {
    /// Returns at once; what could not be read is in the log, and what was there before stays.
    pub fn reload(&self) {
        self.0.notify_one();
    }
}

/// What a gateway reads from files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Followed {
    pub(crate) keys: Option<Arc<Keys>>,
    pub(crate) tls: Vec<Arc<Tls>>,
}

impl Followed {
    /// Reads again what has changed, until cancelled.
    pub(crate) async fn follow(self, reloader: Reloader, ended: CancellationToken) {
        let mut seen = self.marks();
        loop {
            let asked = tokio::select! {
                () = ended.cancelled() => return,
                () = reloader.0.notified() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            // Looked at before it is read: a change in between is read once too often, never missed.
            let marks = self.marks();
            if asked || marks != seen {
                self.reload();
                seen = marks;
            }
        }
    }

    fn reload(&self) {
        if let Some(Err(error)) = self.keys.as_ref().map(|keys| keys.reload()) {
            tracing::error!(%error, "the keys stay as they were");
        }
        for tls in &self.tls {
            match tls.reload() {
                Ok(()) => tracing::info!("the certificate was read again"),
                Err(error) => tracing::error!(%error, "the certificate stays as it was"),
            }
        }
    }

    fn marks(&self) -> Vec<Option<Mark>> {
        let keys = self.keys.iter().map(|keys| keys.path());
        keys.chain(self.tls.iter().flat_map(|tls| tls.paths())).map(mark).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_none() && self.tls.is_empty()
    }
}

/// What tells two versions of a file apart.
type Mark = (PathBuf, std::time::SystemTime, u64);

fn mark(path: &Path) -> Option<Mark> {
    // The real path, too: a link that leads elsewhere is a change, whatever the dates are.
    let path = std::fs::canonicalize(path).ok()?;
    let metadata = std::fs::metadata(&path).ok()?;
    Some((path, metadata.modified().ok()?, metadata.len()))
}
