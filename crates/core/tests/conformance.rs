//! Replays recorded runs of the peers' own code through ours.
//!
//! A target of its own: `cargo test --release --test conformance`. Reads every `*.jsonl.zst` of
//! `FOREWARM_CONFORMANCE_DIR` (default: `shared/conformance` beside the repository) and fails on any
//! difference, on a file of no known kind, and on an empty folder.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use forewarm_core::peers::vectors::{Account, VectorKind};

/// Differences printed in full; the rest is only counted.
const SHOWN: usize = 10;

fn main() -> ExitCode {
    match run(&mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to be told when even this fails.
            drop(writeln!(io::stderr(), "conformance: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(out: &mut impl Write) -> io::Result<bool> {
    let (folder, chosen) = match std::env::var_os("FOREWARM_CONFORMANCE_DIR") {
        Some(folder) => (PathBuf::from(folder), true),
        None => (Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"), false),
    };
    if !chosen && !folder.is_dir() {
        writeln!(out, "skipped: {} not found, and FOREWARM_CONFORMANCE_DIR is not set", folder.display())?;
        writeln!(out, "0 passed, 0 failed, 1 skipped")?;
        return Ok(true);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    files.retain(|file| {
        let name = file.to_string_lossy();
        name.ends_with(".jsonl.zst") || name.ends_with(".jsonl")
    });
    files.sort();
    let (mut passed, mut failed) = (0, 0);
    for file in &files {
        let account = check(file, out)?;
        passed += account.scenarios_matched;
        failed += account.scenarios - account.scenarios_matched;
    }
    if passed + failed == 0 {
        writeln!(out, "no vectors in {}", folder.display())?;
        failed = 1;
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(failed == 0)
}

fn check(file: &Path, out: &mut impl Write) -> io::Result<Account> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut account = Account::default();
    let Some(kind) = VectorKind::of_file(&name) else {
        writeln!(out, "{name}: no peer's vectors begin with this name")?;
        return Ok(Account { scenarios: 1, ..account });
    };
    let opened = File::open(file)?;
    let reader: Box<dyn BufRead> = if name.ends_with(".zst") {
        Box::new(BufReader::new(zstd::Decoder::new(opened)?))
    } else {
        Box::new(BufReader::new(opened))
    };
    let mut shown = 0;
    for (number, line) in reader.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        for difference in account.replay(kind, &line) {
            shown += 1;
            if shown <= SHOWN {
                writeln!(out, "{name}:{}: {difference}", number + 1)?;
            }
        }
    }
    if shown > SHOWN {
        writeln!(out, "{name}: {} more differences", shown - SHOWN)?;
    }
    writeln!(out, "{name}: {account}")?;
    Ok(account)
}
