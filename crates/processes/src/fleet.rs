//! The fleet itself: opens its state, does what a placement says, shows what there is.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use forewarm_control::ports::{Fleet, FleetError, FleetView};
use forewarm_core::{Placement, ReplicaId};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ConfigError, ProcessFleetConfig, RegistryError, health, launch, live::Live, process, procfs,
    registry::Registry,
};

/// Why a fleet cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting cannot work.
    #[error("the target's processes cannot be run")]
    Config(#[from] ConfigError),
    /// The registry cannot be used.
    #[error("the registry of processes cannot be used")]
    Registry(#[from] RegistryError),
    /// The state directory cannot be used.
    #[error("cannot use the state directory {path}")]
    StateDir {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `/proc`, or a process that is to be adopted, cannot be read.
    #[error("cannot see which processes run")]
    Processes(#[source] io::Error),
    /// The client for health probes could not be made.
    #[error("cannot make a client for health probes")]
    Client(#[source] reqwest::Error),
}

/// What becomes of the replicas when the controller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// They are stopped: `SIGTERM`, then `SIGKILL` after the grace. Nothing is drained.
    StopAll,
    /// They go on, and the next controller on the same state directory adopts them.
    KeepRunning,
}

/// Processes of this machine as replicas.
///
/// When it is dropped the processes go on, as if the controller had been killed.
#[derive(Debug)]
pub struct ProcessFleet {
    shared: Arc<Shared>,
}

/// What the fleet and the keepers of its replicas share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ProcessFleetConfig,
    /// Where the logs are.
    pub(crate) logs: PathBuf,
    /// The fleet's random name.
    pub(crate) fleet: String,
    /// The name of this boot.
    pub(crate) boot: String,
    pub(crate) http: reqwest::Client,
    /// The keepers.
    pub(crate) tasks: TaskTracker,
    /// Tells the keepers to leave their processes alone from now on.
    pub(crate) detach: CancellationToken,
    /// Locked across an fsync, so only by threads that may block; before `live` where both are needed.
    registry: Mutex<Registry>,
    /// Locked for moments only.
    live: Mutex<Live>,
    closed: AtomicBool,
    generation: watch::Sender<u64>,
    observed: AtomicU64,
}

impl ProcessFleet {
    /// Opens the fleet of a state directory and takes over what still runs of it. Blocks for a few file
    /// operations; must be called within a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// A setting that cannot work, a state directory in use by another controller, a registry that is
    /// damaged or of a newer version (it is left as it is, and so are the processes).
    pub fn open(mut config: ProcessFleetConfig) -> Result<Self, OpenError> {
        config.check()?;
        let in_dir = |source| OpenError::StateDir { path: config.state_dir.clone(), source };
        std::fs::create_dir_all(config.state_dir.join("logs")).map_err(in_dir)?;
        // `/proc` shows paths in this form.
        let dir = std::fs::canonicalize(&config.state_dir).map_err(in_dir)?;
        let registry = Registry::open(&dir)?;
        config.state_dir = dir;
        let shared = Arc::new(Shared {
            logs: config.state_dir.join("logs"),
            fleet: registry.book().fleet.clone(),
            boot: procfs::boot().map_err(OpenError::Processes)?,
            http: health::client(&config).map_err(OpenError::Client)?,
            tasks: TaskTracker::new(),
            detach: CancellationToken::new(),
            live: Mutex::default(),
            closed: AtomicBool::new(false),
            generation: watch::Sender::new(0),
            observed: AtomicU64::new(0),
            registry: Mutex::new(registry),
            config,
        });
        let fleet = Self { shared };
        let strays =
            launch::adopt(&fleet.shared, &mut fleet.shared.lock_registry()).map_err(OpenError::Processes)?;
        if !strays.is_empty() {
            tracing::warn!(?strays, "killing what ended replicas left behind");
            fleet.shared.tasks.spawn(async move {
                if let Err(error) = process::kill(strays).await {
                    tracing::error!(%error, "cannot kill a stray process");
                }
            });
        }
        Ok(fleet)
    }

    /// Ends the fleet: starts nothing any more, and returns once every replica is gone, or left alone.
    ///
    /// # Errors
    /// What cannot be written down; the replicas are stopped all the same.
    pub async fn shutdown(&self, mode: Shutdown) -> Result<(), FleetError> {
        let shared = Arc::clone(&self.shared);
        let written = tokio::task::spawn_blocking(move || {
            let mut registry = shared.lock_registry();
            shared.closed.store(true, Ordering::SeqCst);
            if mode == Shutdown::KeepRunning {
                shared.detach.cancel();
                return Ok(());
            }
            let written =
                registry.update(|book| book.replicas.values_mut().for_each(|entry| entry.stopping = true));
            shared.with_live(|live| {
                for replica in live.replicas.values_mut() {
                    replica.leaving = true;
                    replica.stop.cancel();
                }
            });
            written.map_err(launch::unwritten)
        });
        let written = written.await.map_err(|error| FleetError::Unreachable(error.into()))?;
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        written
    }
}

impl Drop for ProcessFleet {
    fn drop(&mut self) {
        self.shared.detach.cancel();
    }
}

impl Fleet for ProcessFleet {
    fn observe(&self) -> BoxFuture<'_, Result<FleetView, FleetError>> {
        let generation = *self.shared.generation.borrow();
        self.shared.observed.store(generation, Ordering::SeqCst);
        let view = self.shared.peek_live(|live| live.view(&self.shared.config));
        std::future::ready(Ok(view)).boxed()
    }

    fn apply<'a>(&'a self, placement: &'a Placement) -> BoxFuture<'a, Result<(), FleetError>> {
        let (shared, placement) = (Arc::clone(&self.shared), placement.clone());
        async move {
            // On a thread of its own it also runs to its end when nobody waits for it any more.
            tokio::task::spawn_blocking(move || shared.apply(&placement))
                .await
                .map_err(|error| FleetError::Unreachable(error.into()))?
        }
        .boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        let mut generation = self.shared.generation.subscribe();
        async move {
            let is_new = |generation: &u64| *generation != self.shared.observed.load(Ordering::SeqCst);
            if generation.wait_for(is_new).await.is_err() {
                // Without a sender nothing changes any more; the sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

impl Shared {
    fn apply(self: &Arc<Self>, placement: &Placement) -> Result<(), FleetError> {
        let mut registry = self.lock_registry();
        if self.closed.load(Ordering::SeqCst) {
            let reason = "the fleet has been shut down".to_owned();
            return if placement.start == 0 { Ok(()) } else { Err(FleetError::CannotStart { reason }) };
        }
        self.mark(&mut registry, placement).map_err(launch::unwritten)?;
        if placement.start > 0 {
            launch::start(self, &mut registry, placement.start)?;
        }
        Ok(())
    }

    /// Writes down who serves again, who drains and who stops, then tells the keepers.
    fn mark(&self, registry: &mut Registry, placement: &Placement) -> io::Result<()> {
        let replicas = &registry.book().replicas;
        let revives =
            |id: &&ReplicaId| replicas.get(*id).is_some_and(|entry| entry.draining && !entry.stopping);
        let drains = |id: &&ReplicaId| replicas.get(*id).is_some_and(|entry| !entry.draining);
        let stops = |id: &&ReplicaId| replicas.get(*id).is_some_and(|entry| !entry.stopping);
        let revive: Vec<ReplicaId> = placement.revive.iter().filter(revives).cloned().collect();
        let drain: Vec<ReplicaId> = placement.drain.iter().filter(drains).cloned().collect();
        let stop: Vec<ReplicaId> = placement.stop.iter().filter(stops).cloned().collect();
        if revive.is_empty() && drain.is_empty() && stop.is_empty() {
            return Ok(());
        }
        registry.update(|book| {
            for (id, entry) in &mut book.replicas {
                entry.draining = drain.contains(id) || (entry.draining && !revive.contains(id));
                entry.stopping |= stop.contains(id);
            }
        })?;
        self.with_live(|live| {
            for (id, replica) in &mut live.replicas {
                let leaves = drain.contains(id) || stop.contains(id);
                replica.leaving = leaves || (replica.leaving && !revive.contains(id));
                if drain.contains(id) {
                    replica.drain.cancel();
                }
                if stop.contains(id) {
                    replica.stop.cancel();
                }
            }
        });
        Ok(())
    }

    /// Where a replica's output goes.
    pub(crate) fn log_path(&self, id: &ReplicaId) -> PathBuf {
        self.logs.join(Path::new(id.as_str()).with_extension("log"))
    }

    /// Changes what is seen, and says so.
    pub(crate) fn with_live<T>(&self, change: impl FnOnce(&mut Live) -> T) -> T {
        let result = self.peek_live(change);
        self.generation.send_modify(|generation| *generation += 1);
        result
    }

    /// Looks at what is seen.
    pub(crate) fn peek_live<T>(&self, look: impl FnOnce(&mut Live) -> T) -> T {
        look(&mut self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The registry. Only on a thread that may block.
    pub(crate) fn lock_registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs file operations aside; an error is logged, `what` says of what, and `None` returned.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Option<T> {
        let result = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|done| done);
        result.inspect_err(|error| tracing::error!(%error, "cannot {what}")).ok()
    }
}
