//! What a fleet is told, and why it cannot be opened.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// How replicas are started and watched. Durations are modelled time.
#[derive(Clone, Debug)]
pub struct ProcessFleetConfig {
    /// Where the registry and the logs are kept. One fleet at a time may hold it.
    pub directory: PathBuf,
    /// The program and its arguments; `{port}` in an argument becomes the replica's port.
    pub command: Vec<String>,
    /// Environment in addition to this process's own; `{port}` is replaced here too. `PORT` is always set.
    pub environment: BTreeMap<String, String>,
    /// Where replicas run; `None`: where this process runs.
    pub working_directory: Option<PathBuf>,
    /// The port to serve at; 0: a free one for each replica.
    pub port: u16,
    /// Path that answers 200 once the replica serves.
    pub health_path: String,
    /// Time between two looks at a replica.
    pub probe_interval: Duration,
    /// Time a replica gets to end after SIGTERM, before SIGKILL.
    pub termination_grace: Duration,
    /// How many modelled seconds pass in one on the wall.
    pub speed: f64,
}

impl ProcessFleetConfig {
    /// Quick enough to notice readiness at once, rare enough to cost nothing.
    pub const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_millis(500);
    /// What Kubernetes gives a pod.
    pub const DEFAULT_TERMINATION_GRACE: Duration = Duration::from_secs(30);

    /// The defaults for a command.
    pub fn new(directory: PathBuf, command: Vec<String>) -> Self {
        Self {
            directory,
            command,
            environment: BTreeMap::new(),
            working_directory: None,
            port: 0,
            health_path: "/health".to_owned(),
            probe_interval: Self::DEFAULT_PROBE_INTERVAL,
            termination_grace: Self::DEFAULT_TERMINATION_GRACE,
            speed: 1.0,
        }
    }
}

/// Why a fleet cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no program to start.
    #[error("`command` is empty: it needs a program, such as [vllm, serve, …]")]
    NoCommand,
    /// Somebody else holds the directory.
    #[error("the fleet in {} is held by another forewarm", .0.display())]
    InUse(PathBuf),
    /// The registry is not what was written.
    #[error("the registry {} is damaged: {reason}; nothing was changed. Move it away to start without it", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("the registry {} has version {found}, and this forewarm reads up to {supported}; nothing was changed", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// What can be read.
        supported: u32,
    },
    /// The directory cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
