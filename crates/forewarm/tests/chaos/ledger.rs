//! What each replica did with each request, written down before it does it: it outlives `kill -9`.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Result, Write},
    path::{Path, PathBuf},
};

/// Something that a replica did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Deed {
    /// It has read the request.
    Took = b't',
    /// It is about to send the first byte of an answer's body.
    Began = b'b',
    /// It has sent the last byte of a whole answer.
    Ended = b'e',
    /// It breaks the connection on purpose before the first byte.
    Refused = b'r',
    /// It breaks the connection on purpose after the first byte.
    Cut = b'c',
}

impl Deed {
    const ALL: [Deed; 5] = [Deed::Took, Deed::Began, Deed::Ended, Deed::Refused, Deed::Cut];
}

/// One replica's ledger.
pub(crate) struct Ledger(File);

impl Ledger {
    /// A ledger of this process in the directory.
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join(std::process::id().to_string());
        Ok(Self(OpenOptions::new().create(true).append(true).open(path)?))
    }

    /// Notes a deed; when it returns, the note outlives this process.
    pub(crate) fn note(&self, deed: Deed, request: u64) -> Result<()> {
        let mut record = [deed as u8; 9];
        record[1..].copy_from_slice(&request.to_le_bytes());
        (&self.0).write_all(&record)
    }
}

/// What all replicas together did with one request.
#[derive(Clone, Copy, Default)]
pub(crate) struct Deeds {
    /// Replicas that read it.
    pub(crate) took: u32,
    /// Replicas that began an answer.
    pub(crate) began: u32,
    /// Replicas that sent a whole one.
    pub(crate) ended: u32,
    pub(crate) refused: u32,
    pub(crate) cut: u32,
}

impl Deeds {
    /// Whether an answer was begun and not ended.
    pub(crate) fn was_broken_off(&self) -> bool {
        self.began > self.ended
    }
}

/// Reads all ledgers in the directory.
pub(crate) fn read(directory: &Path) -> Result<HashMap<u64, Deeds>> {
    let mut all: HashMap<u64, Deeds> = HashMap::new();
    for path in files(directory)? {
        for record in std::fs::read(path)?.chunks_exact(9) {
            let Ok(request) = record[1..].try_into().map(u64::from_le_bytes) else { continue };
            let deeds = all.entry(request).or_default();
            match Deed::ALL.into_iter().find(|deed| *deed as u8 == record[0]) {
                Some(Deed::Took) => deeds.took += 1,
                Some(Deed::Began) => deeds.began += 1,
                Some(Deed::Ended) => deeds.ended += 1,
                Some(Deed::Refused) => deeds.refused += 1,
                Some(Deed::Cut) => deeds.cut += 1,
                None => {}
            }
        }
    }
    Ok(all)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}
