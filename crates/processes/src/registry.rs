//! What is written down about replicas before anything happens to them, so that a restart finds them.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use forewarm_core::ReplicaId;
use serde::{Deserialize, Serialize};

use crate::config::OpenError;

/// Raised when an older program could not read the file any more.
const VERSION: u32 = 1;

/// All replicas of a fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Registry {
    pub(crate) version: u32,
    /// Number of the next replica: names are never used twice.
    pub(crate) next: u64,
    pub(crate) replicas: BTreeMap<ReplicaId, Entry>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { version: VERSION, next: 0, replicas: BTreeMap::new() }
    }
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) port: u16,
    /// Milliseconds since the Unix epoch.
    pub(crate) requested_at: u64,
    /// Absent between the intention and the process.
    pub(crate) process: Option<Identity>,
    pub(crate) was_ready: bool,
    pub(crate) draining: bool,
}

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks between boot and start.
    pub(crate) started_ticks: u64,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("replicas.json")
}

impl Registry {
    /// Reads the registry; an absent one is empty.
    pub(crate) fn load(directory: &Path) -> Result<Self, OpenError> {
        let path = path(directory);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(OpenError::Io { path, source }),
        };
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let corrupt =
            |error: serde_json::Error| OpenError::Corrupt { path: path.clone(), reason: error.to_string() };
        let Version { version: found } = serde_json::from_slice(&text).map_err(corrupt)?;
        if found > VERSION {
            return Err(OpenError::NewerVersion { path, found, supported: VERSION });
        }
        serde_json::from_slice(&text).map_err(corrupt)
    }

    /// Writes the registry; on disk on return, and never half.
    pub(crate) fn save(&self, directory: &Path) -> std::io::Result<()> {
        let (path, fresh) = (path(directory), directory.join("replicas.json.new"));
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        std::fs::File::open(directory)?.sync_all()
    }
}
