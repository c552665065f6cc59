//! The fleet: what there is, and what is done about it.

use std::{
    collections::BTreeMap,
    fs::File,
    net::TcpListener,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use forewarm_control::ports::{Fleet, FleetError, FleetReplica, FleetView};
use forewarm_core::{FailedStart, Phase, Placement, ReplicaId};
use futures_util::future::{BoxFuture, FutureExt};
use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};
use tokio::{process::Command, sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{OpenError, ProcessFleetConfig},
    log::Log,
    process,
    registry::{Entry, Identity, Registry},
    supervise::Supervised,
};

/// Failed starts that wait to be reported.
const MAX_REPORTED: usize = 100;

/// Processes on this machine, as a [`Fleet`].
#[derive(Debug)]
pub struct ProcessFleet {
    shared: Arc<Shared>,
    /// Held for as long as the fleet is open.
    _lock: File,
}

/// What happens to replicas when their controller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// They are stopped.
    Stop,
    /// They run on, and the next controller adopts them.
    Keep,
}

/// What the fleet and its supervisors share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ProcessFleetConfig,
    pub(crate) http: reqwest::Client,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    registry: Registry,
    live: BTreeMap<ReplicaId, Live>,
    failed_starts: Vec<FailedStart>,
}

/// A replica that is watched.
#[derive(Debug)]
struct Live {
    phase: Phase,
    stages: BTreeMap<String, f64>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl ProcessFleet {
    /// Opens the fleet in a directory: adopts the replicas that still run, forgets those that do not, and
    /// stops marked processes that nobody knows. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the directory is in use, cannot be used, or has a registry that cannot be read.
    pub fn open(mut config: ProcessFleetConfig) -> Result<Self, OpenError> {
        if config.command.first().is_none_or(|program| program.trim().is_empty()) {
            return Err(OpenError::NoCommand);
        }
        let io = |path: &std::path::Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        std::fs::create_dir_all(&config.directory).map_err(io(&config.directory))?;
        config.directory = config.directory.canonicalize().map_err(io(&config.directory))?;
        let lock_path = config.directory.join("fleet.lock");
        let lock = File::create(&lock_path).map_err(io(&lock_path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| OpenError::InUse(config.directory.clone()))?;
        let registry = Registry::load(&config.directory)?;
        let http = reqwest::Client::builder().pool_max_idle_per_host(1).no_proxy().build();
        let http = http.map_err(|error| OpenError::Io {
            path: config.directory.clone(),
            source: std::io::Error::other(error),
        })?;
        let state = Mutex::new(State { registry, ..State::default() });
        let shared = Arc::new(Shared { config, http, state, changed: Notify::new() });
        shared.adopt().map_err(io(&shared.config.directory))?;
        Ok(Self { shared, _lock: lock })
    }

    /// Ends the watching; on [`OnExit::Stop`] stops every replica and waits until it has ended.
    pub async fn shutdown(&self, on_exit: OnExit) {
        let tasks: Vec<JoinHandle<()>> = {
            let mut state = self.shared.lock();
            state
                .live
                .values_mut()
                .filter_map(|live| {
                    match on_exit {
                        OnExit::Stop => live.stop.cancel(),
                        OnExit::Keep => live.task.iter().for_each(JoinHandle::abort),
                    }
                    live.task.take()
                })
                .collect()
        };
        for task in tasks {
            // An aborted task is what `Keep` asks for.
            drop(task.await);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what an earlier controller left.
    fn adopt(self: &Arc<Self>) -> std::io::Result<()> {
        let marked: BTreeMap<ReplicaId, Identity> =
            process::marked(&self.config.directory).into_iter().collect();
        let mut state = self.lock();
        for (id, identity) in &marked {
            if !state.registry.replicas.contains_key(id) {
                tracing::warn!(
                    replica = id.as_str(),
                    pid = identity.pid,
                    "stopping a replica that nobody knows"
                );
                process::signal(*identity, Signal::KILL);
            }
        }
        let entries = std::mem::take(&mut state.registry.replicas);
        for (id, mut entry) in entries {
            // The mark counts, not the number: a process id may have been given to somebody else.
            let Some(&identity) = marked.get(&id) else {
                tracing::info!(replica = id.as_str(), "a replica has ended while no controller ran");
                continue;
            };
            tracing::info!(replica = id.as_str(), pid = identity.pid, "adopting a replica that still runs");
            entry.process = Some(identity);
            let phase = if entry.was_ready { Phase::Ready } else { Phase::Provisioning };
            self.watch(&mut state, &id, &entry, identity, None, phase);
            state.registry.replicas.insert(id, entry);
        }
        state.registry.save(&self.config.directory)
    }

    fn watch(
        self: &Arc<Self>,
        state: &mut State,
        id: &ReplicaId,
        entry: &Entry,
        identity: Identity,
        child: Option<tokio::process::Child>,
        phase: Phase,
    ) {
        let stop = CancellationToken::new();
        let supervised = Supervised {
            id: id.clone(),
            port: entry.port,
            identity,
            child,
            log: Log::new(&self.config.directory, id.as_str()),
            phase,
            was_ready: entry.was_ready,
            stop: stop.clone(),
        };
        let task = Some(tokio::spawn(supervised.run(Arc::clone(self))));
        state.live.insert(id.clone(), Live { phase, stages: BTreeMap::new(), stop, task });
    }

    /// Starts one replica: written down first, then spawned, then written down again with its process.
    fn start(self: &Arc<Self>) -> Result<(), FleetError> {
        let unreachable = |error: std::io::Error| FleetError::Unreachable(Box::new(error));
        let mut state = self.lock();
        let port = self.free_port(&state)?;
        let id = ReplicaId::from(format!("r-{}", state.registry.next));
        state.registry.next += 1;
        let requested_at = unix_millis();
        let entry = Entry { port, requested_at, process: None, was_ready: false, draining: false };
        state.registry.replicas.insert(id.clone(), entry.clone());
        state.registry.save(&self.config.directory).map_err(unreachable)?;
        let spawned = self.spawn(&id, port);
        let spawned = spawned.and_then(|child| {
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
            // It may have ended already: then its number is all there is, and waiting tells the rest.
            let identity =
                pid.map(|pid| process::identify(pid).unwrap_or(Identity { pid, started_ticks: 0 }));
            identity.map(|identity| (child, identity)).ok_or_else(|| FleetError::CannotStart {
                reason: format!("`{}` ended before it had a process id", self.config.command[0]),
            })
        });
        match spawned {
            Ok((child, identity)) => {
                let entry = Entry { process: Some(identity), ..entry };
                state.registry.replicas.insert(id.clone(), entry.clone());
                self.watch(&mut state, &id, &entry, identity, Some(child), Phase::Provisioning);
                state.registry.save(&self.config.directory).map_err(unreachable)
            }
            Err(error) => {
                state.registry.replicas.remove(&id);
                state.failed_starts.push(FailedStart {
                    id,
                    phase: Phase::Requested,
                    error: error.to_string(),
                });
                state.registry.save(&self.config.directory).map_err(unreachable)?;
                Err(error)
            }
        }
    }

    fn free_port(&self, state: &State) -> Result<u16, FleetError> {
        let taken = |port| state.registry.replicas.values().any(|entry| entry.port == port);
        if self.config.port != 0 {
            return if taken(self.config.port) {
                let reason = format!(
                    "`port` is {}, and a replica is using it; use port 0 and `{{port}}` in the command for more than one",
                    self.config.port
                );
                Err(FleetError::CannotStart { reason })
            } else {
                Ok(self.config.port)
            };
        }
        for _ in 0..100 {
            let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
            let port = port.map_err(|error| FleetError::Unreachable(Box::new(error)))?.port();
            if !taken(port) {
                return Ok(port);
            }
        }
        Err(FleetError::OutOfCapacity { wanted: 1, reason: "no free port on this machine".to_owned() })
    }

    fn spawn(&self, id: &ReplicaId, port: u16) -> Result<tokio::process::Child, FleetError> {
        let with_port = |text: &str| text.replace("{port}", &port.to_string());
        let program = &self.config.command[0];
        let cannot = |error: std::io::Error| FleetError::CannotStart {
            reason: format!("`{program}`: {error}; is it installed, and on the PATH?"),
        };
        let log = Log::new(&self.config.directory, id.as_str()).create().map_err(cannot)?;
        let mut command = Command::new(program);
        command
            .args(self.config.command[1..].iter().map(|argument| with_port(argument)))
            .envs(self.config.environment.iter().map(|(name, value)| (name, with_port(value))))
            .env("PORT", port.to_string())
            .env(process::REPLICA, id.as_str())
            .env(process::FLEET, &self.config.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(cannot)?)
            .stderr(log)
            // Its own group: a Ctrl-C in the controller's terminal is not meant for it.
            .process_group(0);
        if let Some(directory) = &self.config.working_directory {
            command.current_dir(directory);
        }
        command.spawn().map_err(cannot)
    }

    pub(crate) fn set_phase(&self, id: &ReplicaId, phase: Phase) {
        {
            let mut state = self.lock();
            if let Some(live) = state.live.get_mut(id) {
                live.phase = phase;
            }
            if phase == Phase::Ready
                && let Some(entry) = state.registry.replicas.get_mut(id)
                && !std::mem::replace(&mut entry.was_ready, true)
                && let Err(error) = state.registry.save(&self.config.directory)
            {
                tracing::warn!(%error, "cannot write the registry");
            }
        }
        self.changed.notify_one();
    }

    pub(crate) fn set_stages(&self, id: &ReplicaId, stages: &BTreeMap<String, f64>) {
        if let Some(live) = self.lock().live.get_mut(id)
            && &live.stages != stages
        {
            live.stages.clone_from(stages);
        }
    }

    pub(crate) fn ended(&self, id: &ReplicaId, failed: Option<FailedStart>) {
        {
            let mut state = self.lock();
            state.live.remove(id);
            state.registry.replicas.remove(id);
            if state.failed_starts.len() < MAX_REPORTED {
                state.failed_starts.extend(failed);
            }
            if let Err(error) = state.registry.save(&self.config.directory) {
                tracing::warn!(%error, "cannot write the registry");
            }
        }
        self.changed.notify_one();
    }

    fn view(&self) -> FleetView {
        let mut state = self.lock();
        let now = unix_millis();
        let replicas = state
            .live
            .iter()
            .filter_map(|(id, live)| {
                let entry = state.registry.replicas.get(id)?;
                let age = Duration::from_millis(now.saturating_sub(entry.requested_at));
                let leaving = entry.draining || live.stop.is_cancelled();
                Some(FleetReplica {
                    id: id.clone(),
                    phase: if leaving { Phase::Draining } else { live.phase },
                    age: age.mul_f64(self.config.speed),
                    address: Some(format!("127.0.0.1:{}", entry.port)),
                    stages_seconds: live.stages.clone(),
                })
            })
            .collect();
        FleetView { replicas, failed_starts: std::mem::take(&mut state.failed_starts) }
    }

    fn carry_out(self: &Arc<Self>, placement: &Placement) -> Result<(), FleetError> {
        {
            let mut state = self.lock();
            for id in &placement.drain {
                if let Some(entry) = state.registry.replicas.get_mut(id) {
                    entry.draining = true;
                }
            }
            if !placement.drain.is_empty() {
                let saved = state.registry.save(&self.config.directory);
                saved.map_err(|error| FleetError::Unreachable(Box::new(error)))?;
            }
            placement.stop.iter().filter_map(|id| state.live.get(id)).for_each(|live| live.stop.cancel());
        }
        (0..placement.start).try_for_each(|_| self.start())
    }
}

impl Fleet for ProcessFleet {
    fn observe(&self) -> BoxFuture<'_, Result<FleetView, FleetError>> {
        std::future::ready(Ok(self.shared.view())).boxed()
    }

    fn apply<'a>(&'a self, placement: &'a Placement) -> BoxFuture<'a, Result<(), FleetError>> {
        let result = self.shared.carry_out(placement);
        self.shared.changed.notify_one();
        std::future::ready(result).boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.shared.changed.notified().boxed()
    }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
