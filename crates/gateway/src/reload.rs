//! Files that are read again when they change: keys and certificates.

use std::{sync::Arc, time::Duration};

use forewarm_tls::{Marks, ServerTls};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::keys::Keys;

/// Time between two looks.
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
    pub(crate) tls: Vec<Arc<ServerTls>>,
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
            let marks = self.marks();
            if asked || marks != seen {
                self.reload_keys();
                seen = marks;
            }
            for tls in &self.tls {
                match if asked { tls.reload().map(|()| true) } else { tls.refresh() } {
                    Ok(false) => {}
                    Ok(true) => tracing::info!("the certificate was read again"),
                    Err(error) => tracing::error!(%error, "the certificate stays as it was"),
                }
            }
        }
    }

    fn reload_keys(&self) {
        if let Some(Err(error)) = self.keys.as_ref().map(|keys| keys.reload()) {
            tracing::error!(%error, "the keys stay as they were");
        }
    }

    fn marks(&self) -> Marks {
        Marks::of(self.keys.iter().map(|keys| keys.path()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_none() && self.tls.is_empty()
    }
}
