//! Alive or not, ready or not, and what is still missing, by name.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

/// What has to be ready before the process is. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    pending: BTreeMap<String, u32>,
    draining: bool,
}

/// Something that is not ready yet. Dropping it says that it is, unless the thread panics.
#[derive(Debug)]
#[must_use = "what is dropped at once blocks nothing"]
pub struct ReadyToken {
    name: String,
    readiness: Readiness,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadinessView {
    pub(crate) status: &'static str,
    pub(crate) pending: Vec<String>,
}

impl Readiness {
    /// Nothing to wait for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds readiness back until the token is marked or dropped. A name may be held more than once.
    pub fn token(&self, name: impl Into<String>) -> ReadyToken {
        let name = name.into();
        *self.lock().pending.entry(name.clone()).or_default() += 1;
        ReadyToken { name, readiness: self.clone() }
    }

    /// The process stops in order: it is not ready any more, for good.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    /// Whether nothing is pending and the process does not drain.
    pub fn is_ready(&self) -> bool {
        let state = self.lock();
        state.pending.is_empty() && !state.draining
    }

    pub(crate) fn view(&self) -> ReadinessView {
        let state = self.lock();
        let status = match (state.draining, state.pending.is_empty()) {
            (true, _) => "draining",
            (false, true) => "ready",
            (false, false) => "starting",
        };
        ReadinessView { status, pending: state.pending.keys().cloned().collect() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadyToken {
    /// It is ready.
    pub fn ready(self) {
        tracing::debug!(part = self.name, "ready");
    }
}

impl Drop for ReadyToken {
    fn drop(&mut self) {
        // A part that dies on its way up has not become ready.
        if std::thread::panicking() {
            return;
        }
        let mut state = self.readiness.lock();
        if let Some(count) = state.pending.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                state.pending.remove(&self.name);
            }
        }
    }
}
