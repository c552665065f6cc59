//! What workers did, in files that outlive them.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// Jobs finish once there is a file of this name.
pub(crate) const GATE: &str = "gate";

/// Where workers write what they do.
pub(crate) struct Account {
    folder: tempfile::TempDir,
}

/// A message that was done.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) message: u32,
    /// Whether the broker may have given it to somebody before: it says so, or did not answer to their acknowledgement.
    pub(crate) redelivered: bool,
}

impl Account {
    pub(crate) fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["done", "told", "unanswered", "taken"] {
            File::create(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Every time that a message was done, in that order.
    pub(crate) fn done(&self) -> Vec<Done> {
        let text = std::fs::read_to_string(self.folder.path().join("done")).unwrap();
        // A line that is being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| {
                let (message, redelivered) = line.split_once(' ').unwrap();
                Done { message: message.parse().unwrap(), redelivered: redelivered == "again" }
            })
            .collect()
    }

    /// Those that had been done before.
    pub(crate) fn done_again(&self) -> Vec<Done> {
        let mut seen = std::collections::BTreeSet::new();
        self.done().into_iter().filter(|done| !seen.insert(done.message)).collect()
    }

    /// Workers that were told to take no more while they had a message.
    pub(crate) fn told_while_busy(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("told")).unwrap().lines().count()
    }

    /// Messages that jobs have taken.
    pub(crate) fn taken(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("taken")).unwrap().lines().count()
    }

    /// Lets jobs finish.
    pub(crate) fn open_gate(&self) {
        File::create(self.folder.path().join(GATE)).unwrap();
    }

    /// Waits for what workers of other processes write.
    pub(crate) async fn until(&self, predicate: impl Fn() -> bool) {
        while !predicate() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Writes a line at the end of a file, whole.
pub(crate) fn note(folder: &Path, name: &str, line: &str) {
    let mut file = File::options().append(true).open(folder.join(name)).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Whether a file has this line.
pub(crate) fn noted(folder: &Path, name: &str, line: &str) -> bool {
    std::fs::read_to_string(folder.join(name)).unwrap().lines().any(|own| own == line)
}
