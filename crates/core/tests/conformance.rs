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

use forewarm_core::peers::vectors::{self, Report, VectorKind};

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
        let tally = check(file, out)?;
        passed += tally.scenarios_matched;
        failed += tally.scenarios - tally.scenarios_matched;
    }
    if passed + failed == 0 {
        writeln!(out, "no vectors in {}", folder.display())?;
        failed = 1;
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(failed == 0)
}

#[derive(Default)]
struct Tally {
    scenarios: usize,
    scenarios_matched: usize,
    steps: usize,
    steps_matched: usize,
    shown: usize,
}

fn check(file: &Path, out: &mut impl Write) -> io::Result<Tally> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut tally = Tally::default();
    let Some(kind) = VectorKind::of_file(&name) else {
        writeln!(out, "{name}: no peer's vectors begin with this name")?;
        return Ok(Tally { scenarios: 1, ..tally });
    };
    let opened = File::open(file)?;
    let reader: Box<dyn BufRead> = if name.ends_with(".zst") {
        Box::new(BufReader::new(zstd::Decoder::new(opened)?))
    } else {
        Box::new(BufReader::new(opened))
    };
    for (number, line) in reader.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        tally.scenarios += 1;
        match vectors::replay(kind, &line) {
            Ok(report) => tally.count(&name, &report, out)?,
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                writeln!(out, "{name}:{}: {error}: {source}", number + 1)?;
            }
        }
    }
    let Tally { scenarios, scenarios_matched, steps, steps_matched, shown } = &tally;
    if *shown > SHOWN {
        writeln!(out, "{name}: {} more differences", shown - SHOWN)?;
    }
    writeln!(
        out,
        "{name}: {scenarios_matched}/{scenarios} scenarios, {steps_matched}/{steps} steps matched"
    )?;
    Ok(tally)
}

impl Tally {
    fn count(&mut self, file: &str, report: &Report, out: &mut impl Write) -> io::Result<()> {
        let mut matched = true;
        for step in &report.steps {
            self.steps += 1;
            if step.mismatches.is_empty() {
                self.steps_matched += 1;
                continue;
            }
            matched = false;
            for mismatch in &step.mismatches {
                self.shown += 1;
                if self.shown <= SHOWN {
                    writeln!(out, "{file}: {} {}: {mismatch}", report.name, step.label)?;
                    for reason in &step.reasons {
                        writeln!(out, "    {reason}")?;
                    }
                }
            }
        }
        // A scenario without a single step proves nothing.
        self.scenarios_matched += usize::from(matched && !report.steps.is_empty());
        Ok(())
    }
}
