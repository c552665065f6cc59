//! Fuzzing: what the tests and examples already have is the corpus, and each target runs for a while.
//!
//! Without a sanitizer: `unsafe` is forbidden in every crate, so what is to be found are panics, overflows (debug
//! assertions are on), broken invariants, and inputs that take too long or too much memory. That needs no nightly.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    cargo::{cargo, root},
    literals,
};

/// The cargo-fuzz that is installed where there is none.
const CARGO_FUZZ: &str = "0.13.2";
/// Longest input that is made up: what is quadratic shows, and a run stays fast.
const MAX_INPUT_BYTES: u32 = 16 * 1024;
/// An input that takes longer is a finding.
const MAX_SECONDS: u32 = 10;
/// A target that takes more is a finding.
const MAX_MEMORY_MIB: u32 = 2_048;

/// Each target, and where its seeds are: whole files of data, and the text literals of Rust files.
const TARGETS: &[(&str, &[&str])] = &[
    ("manifest", &["examples", "crates/manifest/tests"]),
    ("scaler", &["examples", "crates/manifest/tests/scaler.rs", "crates/manifest/tests/convert.rs"]),
    ("observations", &["crates/manifest/tests/observations.rs", "crates/core/tests/pipeline.rs"]),
    ("quantity", &["crates/core/src/quantity.rs", "crates/manifest/src/quantity.rs"]),
    ("duration", &["crates/manifest/src/quantity.rs"]),
    ("formula", &["crates/core/src/peers/keda/formula"]),
    ("conformance", &["fuzz/seeds/conformance", "crates/core/tests/conformance_hpa.rs"]),
    ("schedule", &["crates/core/tests/calendar.rs"]),
    ("value_location", &["crates/manifest/tests/signals.rs"]),
    ("promql", &["crates/manifest/src/lint/rules/promql.rs", "crates/manifest/tests/support"]),
    ("exposition", &["crates/signals/tests/text.rs", "crates/signals/tests/readings.rs"]),
    ("prometheus_answer", &["fuzz/seeds/prometheus_answer", "crates/signals/tests/prometheus.rs"]),
    ("hook_answer", &["crates/hooks/src/protocol.rs", "crates/hooks/tests/exec.rs"]),
    ("trace", &["crates/workload/tests", "fuzz/seeds/trace"]),
    ("model", &["crates/gateway/src/ask.rs", "crates/gateway/tests"]),
    ("http_framing", &["crates/gateway/tests/gateway/smuggling.rs", "fuzz/seeds/http_framing"]),
    ("http_answer", &["crates/gateway/src/http1/tests/replica.rs", "crates/gateway/src/http1/chunked.rs"]),
    (
        "http_request",
        &[
            "crates/gateway/src/http1/tests/client.rs",
            "crates/gateway/tests/gateway/smuggling.rs",
            "fuzz/seeds/http_framing",
        ],
    ),
    ("event_stream", &["crates/gateway/src/sse.rs", "crates/load/src/sse.rs"]),
    ("kpa_config", &["fuzz/seeds/kpa_config", "crates/core/src/peers/kpa/config.rs"]),
];

#[derive(Args)]
pub(crate) struct FuzzArgs {
    /// Only these targets; default: all.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS.iter().map(|(name, _)| *name)))]
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs the targets one after the other, on one core.
pub(crate) fn fuzz(args: &FuzzArgs) -> Result<()> {
    if !succeeds(cargo(&["fuzz", "--version"]).stdout(std::process::Stdio::null()))? {
        let install = ["install", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked"];
        if !succeeds(&mut cargo(&install))? {
            bail!("cargo {} failed", install.join(" "));
        }
    }
    // What is fuzzed is built from the very versions that are shipped.
    std::fs::copy(root().join("Cargo.lock"), root().join("fuzz/Cargo.lock"))
        .context("cannot copy Cargo.lock")?;
    let mut failed = Vec::new();
    for (name, seeds) in TARGETS {
        if !args.targets.is_empty() && !args.targets.iter().any(|target| target == name) {
            continue;
        }
        let count = seed(name, seeds)?;
        writeln!(std::io::stdout(), "\n=== {name}: {count} seeds, {} s ===", args.seconds)?;
        if !succeeds(&mut run(name, args.seconds))? {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("found something in {}: the inputs are in fuzz/artifacts", failed.join(", "));
    }
    Ok(())
}

fn run(target: &str, seconds: u32) -> Command {
    let mut command =
        cargo(&["fuzz", "run", "--sanitizer", "none", "--target-dir", "target/fuzz", target, "--"]);
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={MAX_INPUT_BYTES}"),
        format!("-timeout={MAX_SECONDS}"),
        format!("-rss_limit_mb={MAX_MEMORY_MIB}"),
        "-print_final_stats=1".into(),
        "-verbosity=0".into(),
    ]);
    command
}

fn succeeds(command: &mut Command) -> Result<bool> {
    let program = command.get_program().to_string_lossy().into_owned();
    Ok(command.status().with_context(|| format!("cannot run {program}"))?.success())
}

/// Writes the seeds of a target into its corpus, beside what earlier runs found.
fn seed(target: &str, sources: &[&str]) -> Result<usize> {
    let corpus = root().join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&corpus)?;
    let mut count = 0;
    for source in sources {
        for file in files(&root().join(source))? {
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let is_rust = file.extension().is_some_and(|extension| extension == "rs");
            let seeds = if is_rust { literals::of(&text) } else { vec![text] };
            for seed in seeds.iter().filter(|seed| seed.len() <= MAX_INPUT_BYTES as usize) {
                let mut hasher = DefaultHasher::new();
                seed.hash(&mut hasher);
                std::fs::write(corpus.join(format!("seed-{:016x}", hasher.finish())), seed)?;
                count += 1;
            }
        }
    }
    Ok(count)
}

/// The file, or the files in the folder and below.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        found.extend(files(&entry?.path())?);
    }
    Ok(found)
}
