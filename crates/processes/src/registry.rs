//! The registry: which replicas exist, in a file that is written before anything acts.
//!
//! It is replaced as a whole by a rename, so that a reader finds the state before or after a change,
//! never half of one. A lock keeps a second controller away.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use forewarm_core::ReplicaId;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::procfs;

/// The version of the file's form that this program writes and reads.
const VERSION: u32 = 1;
/// Tries to get the lock, and the time between two of them.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_INTERVAL: Duration = Duration::from_millis(10);
/// Larger than any registry: about 300 bytes a replica.
const MOST_BYTES: u64 = 16 << 20;

/// Why the registry cannot be used. The file is left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Another controller has it.
    #[error("{path} is in use by another controller (process {holder}); give each its own state directory")]
    Locked {
        /// The lock.
        path: PathBuf,
        /// The other's process number, as it wrote it down.
        holder: String,
    },
    /// It is not what this program wrote.
    #[error("{path} is damaged; stop what still runs of it, then move the file away")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where and how.
        #[source]
        source: serde_json::Error,
    },
    /// A newer program wrote it.
    #[error("{path} has version {found}, this program knows up to {VERSION}; use the program that wrote it")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It could not be read or written.
    #[error("cannot use {path}")]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The registry's content.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Book {
    version: u32,
    /// The fleet's random name, in the environment of all its processes.
    pub(crate) fleet: String,
    /// The number of the next replica; only ever grows, so that no name is used twice.
    next: u64,
    /// What exists or is about to.
    pub(crate) replicas: BTreeMap<ReplicaId, Entry>,
}

/// One replica in the registry.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Entry {
    /// When it was asked for, in milliseconds since 1970.
    pub(crate) requested_at_millis: u64,
    /// Where it serves.
    pub(crate) port: u16,
    /// Its process; absent from the intention until the spawn is known to have worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<Identity>,
    /// Whether it was ready at any time.
    #[serde(default)]
    pub(crate) was_ready: bool,
    /// Whether it is to get no new requests.
    #[serde(default)]
    pub(crate) draining: bool,
    /// Whether it is to be stopped.
    #[serde(default)]
    pub(crate) stopping: bool,
    /// How long the finished stages of its start took.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) stages_seconds: BTreeMap<String, f64>,
}

/// One process for all time: a number alone is used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Identity {
    /// Its number.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot.
    pub(crate) start_ticks: u64,
    /// Which boot.
    pub(crate) boot: String,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

impl Book {
    /// Registers a replica that is about to be spawned.
    pub(crate) fn add(&mut self, requested_at_millis: u64, port: u16) -> ReplicaId {
        let id = self.take_name();
        let entry = Entry {
            requested_at_millis,
            port,
            process: None,
            was_ready: false,
            draining: false,
            stopping: false,
            stages_seconds: BTreeMap::new(),
        };
        self.replicas.insert(id.clone(), entry);
        id
    }

    /// A name that no replica had or will have.
    pub(crate) fn take_name(&mut self) -> ReplicaId {
        let id = ReplicaId::from(format!("r-{}", self.next));
        self.next += 1;
        id
    }

    /// The ports that are given away.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        self.replicas.values().map(|entry| entry.port).collect()
    }
}

/// The registry's file, the lock on it and its content.
#[derive(Debug)]
pub(crate) struct Registry {
    dir: PathBuf,
    book: Book,
    /// Held as long as the registry is: closing it releases the lock.
    _lock: File,
}

impl Registry {
    /// Locks and reads the registry of a state directory that exists; creates it when there is none.
    pub(crate) fn open(dir: &Path) -> Result<Self, RegistryError> {
        let lock = lock(&dir.join("lock"))?;
        let path = dir.join("registry.json");
        let in_path = |source| RegistryError::Io { path: path.clone(), source };
        let book = match read(&path) {
            Ok(text) => parse(&path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let fleet = procfs::random_name().map_err(in_path)?;
                let book = Book { version: VERSION, fleet, next: 0, replicas: BTreeMap::new() };
                write(dir, &book).map_err(in_path)?;
                book
            }
            Err(error) => return Err(in_path(error)),
        };
        Ok(Self { dir: dir.to_owned(), book, _lock: lock })
    }

    /// The content.
    pub(crate) fn book(&self) -> &Book {
        &self.book
    }

    /// Changes the content on disk, then in memory: after an error nothing has changed. Blocks for an fsync.
    pub(crate) fn update<T>(&mut self, change: impl FnOnce(&mut Book) -> T) -> io::Result<T> {
        let mut book = self.book.clone();
        let result = change(&mut book);
        write(&self.dir, &book)?;
        self.book = book;
        Ok(result)
    }
}

fn lock(path: &Path) -> Result<File, RegistryError> {
    let in_path = |source| RegistryError::Io { path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(in_path)?;
    let mut attempt = flock(&file, FlockOperation::NonBlockingLockExclusive);
    // A process that somebody spawns at this moment holds a copy of the lock between its fork and its exec.
    for _ in 0..LOCK_ATTEMPTS {
        if attempt != Err(rustix::io::Errno::WOULDBLOCK) {
            break;
        }
        std::thread::park_timeout(LOCK_INTERVAL);
        attempt = flock(&file, FlockOperation::NonBlockingLockExclusive);
    }
    match attempt {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            if (&file).take(32).read_to_string(&mut holder).is_err() || holder.is_empty() {
                "unknown".clone_into(&mut holder);
            }
            return Err(RegistryError::Locked { path: path.to_owned(), holder: holder.trim().to_owned() });
        }
        Err(error) => return Err(in_path(error.into())),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(in_path)?;
    Ok(file)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn parse(path: &Path, text: &[u8]) -> Result<Book, RegistryError> {
    let corrupt = |source| RegistryError::Corrupt { path: path.to_owned(), source };
    let VersionOnly { version } = serde_json::from_slice(text).map_err(corrupt)?;
    if version > VERSION {
        return Err(RegistryError::Newer { path: path.to_owned(), found: version });
    }
    serde_json::from_slice(text).map_err(corrupt)
}

fn write(dir: &Path, book: &Book) -> io::Result<()> {
    let new = dir.join("registry.json.new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(book)?)?;
    file.sync_all()?;
    fs::rename(&new, dir.join("registry.json"))?;
    // The rename itself must be on disk too before anything acts on it.
    File::open(dir)?.sync_all()
}
