//! A replica's output: a file that the engine itself writes to, so that it needs no controller to go on.
//!
//! The controller reads along, picks out the stages an engine reports, and cuts the file when it grows.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Longer lines are not looked at: a stage's line has less than 100 bytes.
const LONGEST_STAGE_LINE: usize = 4096;
/// Most stages of one start that are kept: engines report about six.
const MOST_STAGES: usize = 64;
/// How much of the end of a log an error quotes: lines, and characters of each.
const QUOTED_LINES: usize = 10;
const QUOTED_CHARS: usize = 300;
/// Logs of ended replicas that are kept, each with what was cut from it: the last ones explain most.
const LOGS_KEPT: usize = 32;

/// A line such as `{"stage":"load","seconds":12.3}`; other fields are the engine's own business.
#[derive(Debug, Deserialize)]
struct StageLine {
    stage: String,
    seconds: f64,
}

/// Creates a replica's log for its process to append to. Appending lets the file be cut meanwhile.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Reads along in a log.
#[derive(Debug)]
pub(crate) struct LogTail {
    path: PathBuf,
    limit: u64,
    offset: u64,
    line: Vec<u8>,
    stages: usize,
}

impl LogTail {
    /// Reads from the log's start; cuts it above `limit` bytes.
    pub(crate) fn new(path: PathBuf, limit: u64) -> Self {
        Self { path, limit, offset: 0, line: Vec::new(), stages: 0 }
    }

    /// Where the log is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what was added since the last call and returns the stages in it, with their seconds.
    pub(crate) fn read(&mut self) -> io::Result<Vec<(String, f64)>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        if length < self.offset {
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut stages = Vec::new();
        let mut chunk = [0; 8192];
        // No further than the length seen above, so that an engine that prints without end cannot hold us.
        let mut rest = file.take(length - self.offset);
        loop {
            let count = rest.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            self.offset += count as u64;
            chunk[..count].iter().for_each(|&byte| stages.extend(self.push(byte)));
        }
        if self.offset > self.limit {
            self.cut()?;
        }
        Ok(stages)
    }

    fn push(&mut self, byte: u8) -> Option<(String, f64)> {
        if byte != b'\n' {
            if self.line.len() < LONGEST_STAGE_LINE {
                self.line.push(byte);
            }
            return None;
        }
        let line = std::mem::take(&mut self.line);
        let looks_like_it = line.starts_with(b"{") && self.stages < MOST_STAGES;
        let found: StageLine = looks_like_it.then(|| serde_json::from_slice(&line).ok())??;
        let valid = found.seconds.is_finite() && found.seconds >= 0.0;
        self.stages += usize::from(valid);
        valid.then_some((found.stage, found.seconds))
    }

    /// Keeps the newest half of the limit beside the log and empties the log. Lines that are printed in
    /// the moment between are lost, as with any log that is cut while its writer has it open.
    fn cut(&mut self) -> io::Result<()> {
        let mut kept = File::create(older(&self.path))?;
        io::copy(&mut last_bytes(&self.path, self.limit / 2)?, &mut kept)?;
        OpenOptions::new().write(true).open(&self.path)?.set_len(0)?;
        self.offset = 0;
        Ok(())
    }
}

/// The last lines of a log, shortened, for an error; empty when there are none.
pub(crate) fn last_lines(path: &Path) -> String {
    let mut bytes = Vec::new();
    let most = (QUOTED_LINES * QUOTED_CHARS) as u64;
    let read = last_bytes(path, most).and_then(|mut end| end.read_to_end(&mut bytes));
    if let Err(error) = read {
        return format!("(unreadable: {error})");
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shortened = lines[lines.len().saturating_sub(QUOTED_LINES)..]
        .iter()
        .map(|line| line.chars().take(QUOTED_CHARS).collect::<String>());
    shortened.collect::<Vec<_>>().join("\n")
}

/// Removes the oldest logs of replicas that `exists` does not know.
pub(crate) fn remove_old(dir: &Path, exists: impl Fn(&str) -> bool) -> io::Result<()> {
    let mut ended = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")) else {
            continue;
        };
        if !exists(name) {
            ended.push((fs::metadata(&path)?.modified()?, path));
        }
    }
    ended.sort();
    let surplus = ended.len().saturating_sub(LOGS_KEPT);
    for (_, path) in &ended[..surplus] {
        fs::remove_file(path)?;
        match fs::remove_file(older(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("log.old")
}

fn last_bytes(path: &Path, count: u64) -> io::Result<io::Take<File>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(count)))?;
    Ok(file.take(count))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn stages_are_found_once_even_in_halves_and_between_noise() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = create(&dir.path().join("r-0.log")).unwrap();
        let mut tail = LogTail::new(dir.path().join("r-0.log"), 4096);
        write!(file, "INFO loading\n{{\"stage\":\"pull\",\"seconds\":1.5}}\n{{\"stage\":\"lo").unwrap();
        assert_eq!(tail.read().unwrap(), [("pull".to_owned(), 1.5)]);
        write!(file, "ad\",\"seconds\":2}}\n{{\"stage\":\"bad\",\"seconds\":-1}}\n{{}}\n").unwrap();
        assert_eq!(tail.read().unwrap(), [("load".to_owned(), 2.0)]);
        assert!(tail.read().unwrap().is_empty());
    }

    #[test]
    fn a_log_that_grows_is_cut_and_its_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r-0.log");
        let mut file = create(&path).unwrap();
        let mut tail = LogTail::new(path.clone(), 4096);
        for round in 0..50 {
            writeln!(file, "{round} {}", "x".repeat(500)).unwrap();
            tail.read().unwrap();
            let both = [&path, &older(&path)].map(|path| fs::metadata(path).map_or(0, |meta| meta.len()));
            assert!(both[0] <= 4096 + 512 && both[1] <= 2048, "{both:?}");
        }
        writeln!(file, "{{\"stage\":\"load\",\"seconds\":3}}").unwrap();
        assert_eq!(tail.read().unwrap(), [("load".to_owned(), 3.0)], "reading goes on after a cut");
    }

    #[test]
    fn an_error_quotes_the_end_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r-0.log");
        let mut file = create(&path).unwrap();
        for line in 0..1000 {
            writeln!(file, "line {line} {}", "y".repeat(1000)).unwrap();
        }
        writeln!(file, "CUDA out of memory").unwrap();
        let quoted = last_lines(&path);
        assert!(quoted.ends_with("CUDA out of memory"));
        assert!(quoted.len() <= QUOTED_LINES * (QUOTED_CHARS + 1));
    }

    #[test]
    fn only_logs_of_ended_replicas_go() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..40 {
            create(&dir.path().join(format!("r-{number}.log"))).unwrap();
        }
        remove_old(dir.path(), |name| name == "r-0").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), LOGS_KEPT + 1);
        assert!(dir.path().join("r-0.log").exists());
    }
}
