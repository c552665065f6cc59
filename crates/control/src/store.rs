//! State that survives a crash: an embedded database with the journal and the latest state of each scaler.
//!
//! Decisions that act are on disk before they are acted on. Evaluations that change nothing are written
//! without waiting for the disk: losing the last of them loses no decision.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use forewarm_core::{Decision, Observation, STATE_VERSION, ScalerId, ScalerSpec, ScalerState, Timestamp};
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::journal::Record;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SPECS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("specs");
const STATES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("states");
const JOURNAL: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("journal");

/// The file's layout; raised when an older program could not read it any more.
const FORMAT: u64 = 1;
/// Records between two checkpoints: what a replay has to go through at least.
const CHECKPOINT_EVERY: u64 = 1_000;
/// Records kept per scaler; with 1–2 KiB each, some 50–100 MiB at most.
const MAX_RECORDS: u64 = 50 * CHECKPOINT_EVERY;

/// Age of the records kept: a week's decisions can be explained and replayed, where [`MAX_RECORDS`] are not fewer.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The database of one controller.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Database,
}

/// Why the state cannot be used. Never answered by starting afresh: that would forget what was decided.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else has it open.
    #[error("the state file {} is in use by another forewarm; one controller at a time may hold it", .0.display())]
    InUse(PathBuf),
    /// It is not what was written.
    #[error(
        "the state file {} is damaged: {reason}; nothing was changed. Restore it from a backup, or move \
         it away to start without memory",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote it.
    #[error(
        "the state file {} has format {found}, and this forewarm reads up to {supported}; nothing was \
         changed. Run the newer forewarm again, or move the file away to start without memory",
        path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// What can be read.
        supported: u64,
    },
    /// The disk said no.
    #[error("cannot write the state file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Store {
    /// Opens the database in `directory`, and makes it if there is none.
    ///
    /// # Errors
    /// When it is in use, damaged, of a newer format, or cannot be written.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("state.redb");
        let io =
            |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Io { path: path.clone(), source };
        std::fs::create_dir_all(directory).map_err(|error| io(Box::new(error)))?;
        let database = match Database::create(&path) {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(StoreError::InUse(path)),
            Err(DatabaseError::Storage(redb::StorageError::Io(error)))
                if error.kind() != std::io::ErrorKind::InvalidData =>
            {
                return Err(io(Box::new(error)));
            }
            Err(error) => return Err(StoreError::Corrupt { path, reason: error.to_string() }),
        };
        let store = Self { path, database };
        store.check_format()?;
        Ok(store)
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(|error| self.io(error))?;
        {
            let mut meta = write.open_table(META).map_err(|error| self.corrupt(error))?;
            let found = meta.get("format").map_err(|error| self.corrupt(error))?.map(|value| value.value());
            match found {
                Some(found) if found > FORMAT => {
                    return Err(StoreError::NewerVersion {
                        path: self.path.clone(),
                        found,
                        supported: FORMAT,
                    });
                }
                Some(_) => {}
                None => {
                    meta.insert("format", FORMAT).map_err(|error| self.io(error))?;
                }
            }
            write.open_table(SPECS).map_err(|error| self.corrupt(error))?;
            write.open_table(STATES).map_err(|error| self.corrupt(error))?;
            write.open_table(JOURNAL).map_err(|error| self.corrupt(error))?;
        }
        write.commit().map_err(|error| self.io(error))
    }

    /// The state of a scaler as last written, and the specification it was decided under.
    ///
    /// # Errors
    /// When what was written cannot be read, or is of a newer format.
    pub fn load(&self, scaler: &ScalerId) -> Result<Option<(ScalerSpec, ScalerState)>, StoreError> {
        let read = self.database.begin_read().map_err(|error| self.io(error))?;
        let states = read.open_table(STATES).map_err(|error| self.corrupt(error))?;
        let specs = read.open_table(SPECS).map_err(|error| self.corrupt(error))?;
        let state = states.get(scaler.as_str()).map_err(|error| self.corrupt(error))?;
        let spec = specs.get(scaler.as_str()).map_err(|error| self.corrupt(error))?;
        let (Some(state), Some(spec)) = (state, spec) else { return Ok(None) };
        #[derive(serde::Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } =
            serde_json::from_slice(state.value()).map_err(|error| self.corrupt(error))?;
        if version > STATE_VERSION {
            return Err(StoreError::NewerVersion {
                path: self.path.clone(),
                found: version.into(),
                supported: STATE_VERSION.into(),
            });
        }
        let mut state: ScalerState =
            serde_json::from_slice(state.value()).map_err(|error| self.corrupt(error))?;
        // What is written of it from here on has all that this program's has.
        state.version = STATE_VERSION;
        let spec = serde_json::from_slice(spec.value()).map_err(|error| self.corrupt(error))?;
        Ok(Some((spec, state)))
    }

    /// Writes down what is asked for and remembered, as the start of what follows; on disk on return.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn checkpoint(&self, spec: &ScalerSpec, state: &ScalerState) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(|error| self.io(error))?;
        self.put_state(&write, spec, state)?;
        let record = Record::Checkpoint { spec: Box::new(spec.clone()), state: Box::new(state.clone()) };
        self.put_record(&write, &spec.scaler, &record)?;
        write.commit().map_err(|error| self.io(error))
    }

    /// Writes down a decision and the state after it; on disk on return if the decision acts.
    ///
    /// # Errors
    /// When it cannot be written: then it must not be acted on.
    pub fn decided(
        &self,
        spec: &ScalerSpec,
        state: &ScalerState,
        observation: &Observation,
        decision: &Decision,
    ) -> Result<(), StoreError> {
        let mut write = self.database.begin_write().map_err(|error| self.io(error))?;
        if !decision.acts() {
            write.set_durability(Durability::None).map_err(|error| self.io(error))?;
        }
        self.put_state(&write, spec, state)?;
        let record = Record::Decision {
            observation: Box::new(observation.clone()),
            decision: Box::new(decision.clone()),
        };
        let sequence = self.put_record(&write, &spec.scaler, &record)?;
        if sequence % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1 {
            let checkpoint =
                Record::Checkpoint { spec: Box::new(spec.clone()), state: Box::new(state.clone()) };
            let sequence = self.put_record(&write, &spec.scaler, &checkpoint)?;
            self.prune(&write, &spec.scaler, sequence, decision.at)?;
        }
        write.commit().map_err(|error| self.io(error))
    }

    /// Writes down what came of acting on the latest decision.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn outcome(&self, scaler: &ScalerId, error: Option<String>) -> Result<(), StoreError> {
        let mut write = self.database.begin_write().map_err(|error| self.io(error))?;
        // Not knowing the outcome after a crash is no loss: the fleet is looked at again.
        write.set_durability(Durability::None).map_err(|error| self.io(error))?;
        self.put_record(&write, scaler, &Record::Outcome { error })?;
        write.commit().map_err(|error| self.io(error))
    }

    /// The journal of a scaler, oldest first. It starts with a checkpoint.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn journal(&self, scaler: &ScalerId) -> Result<Vec<Record>, StoreError> {
        let read = self.database.begin_read().map_err(|error| self.io(error))?;
        let journal = read.open_table(JOURNAL).map_err(|error| self.corrupt(error))?;
        let range = journal
            .range((scaler.as_str(), 0)..=(scaler.as_str(), u64::MAX))
            .map_err(|error| self.corrupt(error))?;
        let mut records = Vec::new();
        for entry in range {
            let (_, value) = entry.map_err(|error| self.corrupt(error))?;
            records.push(serde_json::from_slice(value.value()).map_err(|error| self.corrupt(error))?);
        }
        let first = records.iter().position(|record| matches!(record, Record::Checkpoint { .. }));
        records.drain(..first.unwrap_or(records.len()));
        Ok(records)
    }

    /// The scalers that were ever decided on.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn scalers(&self) -> Result<Vec<ScalerId>, StoreError> {
        let read = self.database.begin_read().map_err(|error| self.io(error))?;
        let states = read.open_table(STATES).map_err(|error| self.corrupt(error))?;
        let mut scalers = Vec::new();
        for entry in states.iter().map_err(|error| self.corrupt(error))? {
            let (name, _) = entry.map_err(|error| self.corrupt(error))?;
            scalers.push(ScalerId::from(name.value()));
        }
        Ok(scalers)
    }

    fn put_state(
        &self,
        write: &redb::WriteTransaction,
        spec: &ScalerSpec,
        state: &ScalerState,
    ) -> Result<(), StoreError> {
        let name = spec.scaler.as_str();
        let mut states = write.open_table(STATES).map_err(|error| self.corrupt(error))?;
        let json = serde_json::to_vec(state).map_err(|error| self.io(error))?;
        states.insert(name, json.as_slice()).map_err(|error| self.io(error))?;
        let mut specs = write.open_table(SPECS).map_err(|error| self.corrupt(error))?;
        let json = serde_json::to_vec(spec).map_err(|error| self.io(error))?;
        specs.insert(name, json.as_slice()).map_err(|error| self.io(error))?;
        Ok(())
    }

    fn put_record(
        &self,
        write: &redb::WriteTransaction,
        scaler: &ScalerId,
        record: &Record,
    ) -> Result<u64, StoreError> {
        let name = scaler.as_str();
        let mut journal = write.open_table(JOURNAL).map_err(|error| self.corrupt(error))?;
        let last = journal
            .range((name, 0)..=(name, u64::MAX))
            .map_err(|error| self.corrupt(error))?
            .next_back()
            .transpose()
            .map_err(|error| self.corrupt(error))?
            .map(|(key, _)| key.value().1);
        let sequence = last.map_or(0, |last| last + 1);
        let json = serde_json::to_vec(record).map_err(|error| self.io(error))?;
        journal.insert((name, sequence), json.as_slice()).map_err(|error| self.io(error))?;
        Ok(sequence)
    }

    /// Drops the oldest records: those beyond [`MAX_RECORDS`], and those older than [`MAX_AGE`] up to the last
    /// checkpoint before the first younger one, so that what stays can be replayed.
    fn prune(
        &self,
        write: &redb::WriteTransaction,
        scaler: &ScalerId,
        newest: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let name = scaler.as_str();
        let mut journal = write.open_table(JOURNAL).map_err(|error| self.corrupt(error))?;
        let mut keep_from = newest.saturating_sub(MAX_RECORDS);
        let mut last_checkpoint = 0;
        let all = journal.range((name, 0)..=(name, newest)).map_err(|error| self.corrupt(error))?;
        for entry in all {
            let (key, value) = entry.map_err(|error| self.corrupt(error))?;
            match serde_json::from_slice(value.value()).map_err(|error| self.corrupt(error))? {
                Record::Checkpoint { .. } => last_checkpoint = key.value().1,
                Record::Decision { decision, .. } if now.since(decision.at) <= MAX_AGE => break,
                Record::Decision { .. } | Record::Outcome { .. } => {}
            }
        }
        keep_from = keep_from.max(last_checkpoint);
        journal.retain_in((name, 0)..(name, keep_from), |_, _| false).map_err(|error| self.io(error))
    }

    fn io(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        StoreError::Io { path: self.path.clone(), source: source.into() }
    }

    fn corrupt(&self, reason: impl std::fmt::Display) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), reason: reason.to_string() }
    }
}
