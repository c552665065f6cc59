//! `forewarm decide --conformance`: recorded runs of the peers' own code, replayed through ours.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use forewarm_core::peers::vectors::{Account, VectorKind};

use crate::exit::{Failure, say};

/// Differences of a file that are printed; the rest is counted.
const SHOWN: usize = 10;

pub(super) fn run(folder: &Path) -> Result<(), Failure> {
    let files = files(folder).map_err(Failure::usage)?;
    let mut total = Account::default();
    for file in &files {
        let account = check(file)?;
        total.scenarios += account.scenarios;
        total.scenarios_matched += account.scenarios_matched;
        total.steps += account.steps;
        total.steps_matched += account.steps_matched;
    }
    say(format!("total: {total}"));
    let failed = total.scenarios - total.scenarios_matched;
    if failed > 0 {
        Err(anyhow!("{failed} of {} scenarios came out differently", total.scenarios).into())
    } else {
        Ok(())
    }
}

/// The files of vectors, told by their names.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = folder.display();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {name}"))?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.sort();
    files.retain(|file| {
        let name = file_name(file);
        let is_one = name.ends_with(".jsonl") || name.ends_with(".jsonl.zst");
        let is_known = VectorKind::of_file(&name).is_some();
        if is_one && !is_known {
            say(format!("{name}: left out, no peer's vectors begin with this name"));
        }
        is_one && is_known
    });
    if files.is_empty() {
        return Err(anyhow!("{name} has no vectors: hpa*, kpa* or keda*, .jsonl or .jsonl.zst"));
    }
    Ok(files)
}

fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn check(file: &Path) -> anyhow::Result<Account> {
    let name = file_name(file);
    let cannot = || format!("cannot read {}", file.display());
    let opened = File::open(file).with_context(cannot)?;
    let reader: Box<dyn BufRead> = if name.ends_with(".zst") {
        Box::new(BufReader::new(zstd::Decoder::new(opened).with_context(cannot)?))
    } else {
        Box::new(BufReader::new(opened))
    };
    let mut account = Account::default();
    let mut differences = 0;
    let Some(kind) = VectorKind::of_file(&name) else { return Ok(account) };
    for (number, line) in reader.lines().enumerate() {
        let line = line.with_context(cannot)?;
        if line.trim().is_empty() {
            continue;
        }
        for difference in account.replay(kind, &line) {
            differences += 1;
            if differences <= SHOWN {
                say(format!("{name}:{}: {difference}", number + 1));
            }
        }
    }
    if differences > SHOWN {
        say(format!("{name}: {} more differences", differences - SHOWN));
    }
    say(format!("{name}: {account}"));
    Ok(account)
}
