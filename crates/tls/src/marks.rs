//! Whether files have changed.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What tells two versions of some files apart, for who looks again and again. Looking works with every file system, and
/// with files that are replaced by links, as Kubernetes does with its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks(Vec<Option<Mark>>);

type Mark = (PathBuf, SystemTime, u64);

impl Marks {
    /// Those of the files as they are now. Look first and read then: a change in between is read once too often, never
    /// missed.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        Self(files.into_iter().map(mark).collect())
    }
}

fn mark(path: &Path) -> Option<Mark> {
    // The real path, too: a link that leads elsewhere is a change, whatever the dates are.
    let path = std::fs::canonicalize(path).ok()?;
    let metadata = std::fs::metadata(&path).ok()?;
    Some((path, metadata.modified().ok()?, metadata.len()))
}
