//! A fleet in a directory of its own, waited for by its events, and the proof that nothing is left of it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use forewarm_control::ports::{EndedReplica, Fleet as _, FleetError, FleetReplica, FleetView};
use forewarm_core::{FailedStart, Phase, Placement, ReplicaId};
use forewarm_processes::{OpenError, ProcessFleet, ProcessFleetConfig, Shutdown};
use tempfile::TempDir;

use crate::engine;

/// Only a broken fleet takes this long; the machine may be busy.
const SAFETY_NET: Duration = Duration::from_secs(60);

/// A configuration whose engine behaves like this.
pub(crate) fn config(dir: &Path, behaviour: &str) -> ProcessFleetConfig {
    let mut config = ProcessFleetConfig::new(engine::command(), dir.to_owned());
    config.env.extend([engine::environment(behaviour)]);
    config.health.interval = Duration::from_millis(20);
    config
}

/// A configuration that runs a shell script.
pub(crate) fn script(dir: &Path, script: &str) -> ProcessFleetConfig {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    ProcessFleetConfig { command, ..config(dir, "") }
}

/// A fleet under test.
pub(crate) struct Watched {
    pub(crate) fleet: ProcessFleet,
    pub(crate) failed: Vec<FailedStart>,
    pub(crate) ended: Vec<EndedReplica>,
    dir: PathBuf,
}

impl Watched {
    pub(crate) fn open(config: ProcessFleetConfig) -> Result<Self, OpenError> {
        let dir = config.state_dir.clone();
        let fleet = ProcessFleet::open(config)?;
        Ok(Self { fleet, failed: Vec::new(), ended: Vec::new(), dir })
    }

    pub(crate) async fn start(&self, count: u32) -> Result<(), FleetError> {
        self.fleet.apply(&Placement { start: count, ..Placement::default() }).await
    }

    pub(crate) async fn drain(&self, id: &str) {
        let drain = vec![ReplicaId::from(id)];
        self.fleet.apply(&Placement { drain, ..Placement::default() }).await.unwrap();
    }

    pub(crate) async fn revive(&self, id: &str) {
        let revive = vec![ReplicaId::from(id)];
        self.fleet.apply(&Placement { revive, ..Placement::default() }).await.unwrap();
    }

    pub(crate) async fn stop(&self, id: &str) {
        let stop = vec![ReplicaId::from(id)];
        self.fleet.apply(&Placement { stop, ..Placement::default() }).await.unwrap();
    }

    pub(crate) async fn look(&mut self) -> FleetView {
        let view = self.fleet.observe().await.unwrap();
        self.failed.extend(view.failed_starts.iter().cloned());
        self.ended.extend(view.ended.iter().cloned());
        view
    }

    /// Looks after each event until the replicas are as wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&[FleetReplica]) -> bool) -> Vec<FleetReplica> {
        let wait = async {
            loop {
                let view = self.look().await;
                if wanted(&view.replicas) {
                    return view.replicas;
                }
                self.fleet.changed().await;
            }
        };
        tokio::time::timeout(SAFETY_NET, wait).await.expect("the fleet comes to the wanted state")
    }

    /// Waits until there are this many replicas and all are in this phase.
    pub(crate) async fn all(&mut self, count: usize, phase: Phase) -> Vec<FleetReplica> {
        self.until(|seen| seen.len() == count && seen.iter().all(|replica| replica.phase == phase)).await
    }

    pub(crate) async fn none(&mut self) {
        self.until(<[_]>::is_empty).await;
    }

    /// Stops everything and proves that nothing is left.
    pub(crate) async fn close(mut self) {
        self.fleet.shutdown(Shutdown::StopAll).await.unwrap();
        assert!(self.look().await.replicas.is_empty());
        self.assert_nothing_runs();
    }

    pub(crate) fn assert_nothing_runs(&self) {
        let left = processes(&self.dir);
        assert!(left.is_empty(), "still running: {left:?}");
    }
}

impl Drop for Watched {
    /// A test that fails leaves nothing running either.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for pid in processes(&self.dir) {
                if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
                }
            }
        }
    }
}

/// The registry of a state directory.
pub(crate) fn registry(dir: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(dir.join("registry.json")).unwrap()).unwrap()
}

/// Changes the registry of a state directory that nobody has open.
pub(crate) fn edit_registry(dir: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let mut registry = registry(dir);
    edit(&mut registry);
    fs::write(dir.join("registry.json"), registry.to_string()).unwrap();
}

/// The process number that the registry has for a replica.
pub(crate) fn pid(dir: &Path, id: &str) -> u64 {
    registry(dir)["replicas"][id]["process"]["pid"].as_u64().unwrap()
}

/// Whether there is a process of this number, be it a zombie.
pub(crate) fn exists(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// All running processes that carry the name of the directory's fleet.
pub(crate) fn processes(dir: &Path) -> Vec<u64> {
    let name = format!("FOREWARM_FLEET={}", registry(dir)["fleet"].as_str().unwrap());
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u64 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
        environ.split(|&byte| byte == 0).any(|pair| pair == name.as_bytes()).then_some(pid)
    });
    numbers.collect()
}

/// A directory that goes with the test.
pub(crate) fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// An error with its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", source.unwrap_or_default())
}
