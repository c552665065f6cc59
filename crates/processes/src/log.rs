//! A replica's output: a file, because a pipe would break with the controller.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Largest log; then it starts anew. An engine that logs each request fills it in hours.
const MAX_BYTES: u64 = 32 << 20;
/// Bytes of the end that are quoted in an error.
const QUOTED_BYTES: u64 = 1_024;
/// Bytes read at a time.
const CHUNK_BYTES: u64 = 256 << 10;

/// The file of one replica.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    read: u64,
    line: Vec<u8>,
    /// Finished stages of the start, in modelled seconds, as the engine says.
    pub(crate) stages: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct StageLine {
    stage: String,
    seconds: f64,
}

impl Log {
    pub(crate) fn new(directory: &Path, replica: &str) -> Self {
        let path = directory.join("logs").join(format!("{replica}.log"));
        Self { path, read: 0, line: Vec::new(), stages: BTreeMap::new() }
    }

    /// Opens it for a new process.
    pub(crate) fn create(&self) -> std::io::Result<File> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        OpenOptions::new().create(true).append(true).open(&self.path)
    }

    /// Reads what came since the last time, for stage lines such as `{"stage":"load","seconds":12.3}`; keeps
    /// the file bounded.
    pub(crate) fn follow(&mut self) {
        let Ok(mut file) = File::open(&self.path) else { return };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        if length < self.read {
            self.read = 0;
        }
        let mut bytes = Vec::new();
        let reading = file
            .seek(SeekFrom::Start(self.read))
            .and_then(|_| file.take(CHUNK_BYTES).read_to_end(&mut bytes));
        if reading.is_err() {
            return;
        }
        self.read += bytes.len() as u64;
        for byte in bytes {
            if byte != b'\n' {
                // A stage line is short; what is longer is something else.
                if self.line.len() < 256 {
                    self.line.push(byte);
                }
                continue;
            }
            if let Ok(StageLine { stage, seconds }) = serde_json::from_slice(&self.line)
                && seconds.is_finite()
                && self.stages.len() < 16
            {
                self.stages.insert(stage, seconds);
            }
            self.line.clear();
        }
        if length > MAX_BYTES
            && let Ok(file) = OpenOptions::new().write(true).open(&self.path)
            && file.set_len(0).is_ok()
        {
            self.read = 0;
        }
    }

    /// The last lines, and where the rest is.
    pub(crate) fn tail(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(&self.path) {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            let start = length.saturating_sub(QUOTED_BYTES);
            if file.seek(SeekFrom::Start(start)).and_then(|_| file.read_to_end(&mut text)).is_err() {
                text.clear();
            }
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        let quoted: Vec<&str> = lines.into_iter().rev().collect();
        if quoted.is_empty() {
            format!("it wrote nothing to {}", self.path.display())
        } else {
            format!("its last words: {} (all of them: {})", quoted.join(" | "), self.path.display())
        }
    }
}
