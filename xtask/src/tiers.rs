//! Tests by tier. A tier whose prerequisite is missing is skipped with the reason, and counted as such.

use std::{collections::BTreeMap, io::Write, path::PathBuf, process::Command};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    architecture,
    cargo::{cargo, root, run},
    programs::{self, Program},
    testbed::{self, Part},
};

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Only these tiers; default: all but keda.
    #[arg(long, value_enum)]
    tier: Vec<Tier>,
    /// Fail where a tier would be skipped.
    #[arg(long)]
    require_all: bool,
}

/// What is tested together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Tier {
    /// Formatting, clippy, documentation, the invariants of ARCHITECTURE.md.
    Lint,
    /// Every crate but the ones below.
    Unit,
    /// What the real HPA, KPA and KEDA decided, step by step.
    Conformance,
    /// The front door, over real sockets.
    Gateway,
    /// The binary as a user runs it: real processes, real load.
    Product,
    /// Brokers and servers that signals come from, healthy and broken. Downloads them at the first run.
    Components,
    /// Kubernetes: a real API server with the real controllers, built with Go at the first run.
    Kubernetes,
    /// KEDA's operator and metrics adapter in such a cluster, built at the first run. Only when asked for: it takes long.
    Keda,
}

impl Tier {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// What came of a tier.
#[derive(Clone, Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// What failed and what was skipped, to be said once more at the end.
    notes: Vec<String>,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.notes.extend(other.notes);
    }
}

/// Runs the tiers and prints their counts.
pub(crate) fn test(args: &TestArgs) -> Result<()> {
    let all = Tier::value_variants().iter().copied().filter(|tier| *tier != Tier::Keda);
    let tiers = if args.tier.is_empty() { all.collect() } else { args.tier.clone() };
    let mut results = BTreeMap::new();
    let mut suite = Suite::default();
    for tier in tiers {
        writeln!(std::io::stdout(), "\n=== {} ===", tier.name())?;
        let mut counts = run_tier(tier, &mut suite)?;
        if args.require_all {
            counts.failed += std::mem::take(&mut counts.skipped);
        }
        results.insert(tier, counts);
    }
    let mut total = Counts::default();
    writeln!(std::io::stdout(), "\n{:<12} {:>7} {:>7} {:>8}", "tier", "passed", "failed", "skipped")?;
    for (tier, counts) in &results {
        let Counts { passed, failed, skipped, .. } = counts;
        writeln!(std::io::stdout(), "{:<12} {passed:>7} {failed:>7} {skipped:>8}", tier.name())?;
        total.add(counts.clone());
    }
    for note in std::iter::once("").chain(total.notes.iter().map(String::as_str)) {
        writeln!(std::io::stdout(), "{note}")?;
    }
    writeln!(
        std::io::stdout(),
        "\n{} passed, {} failed, {} skipped",
        total.passed,
        total.failed,
        total.skipped
    )?;
    if total.failed > 0 {
        bail!("{} failed", total.failed);
    }
    Ok(())
}

fn run_tier(tier: Tier, suite: &mut Suite) -> Result<Counts> {
    match tier {
        Tier::Lint => lint(),
        Tier::Unit => suite.run(|program| !["forewarm", "gateway", "testbed"].contains(&&*program.package)),
        Tier::Conformance => {
            let arguments = ["test", "--release", "-p", "forewarm-core", "--test", "conformance"];
            counted(&mut cargo(&arguments))
        }
        Tier::Gateway => suite.run(|program| program.package == "gateway"),
        Tier::Product => {
            // Without one of them, the tests that need it say that they are skipped.
            Part::usual().for_each(|part| drop(testbed::fetch(part)));
            suite.run(|program| program.package == "forewarm")
        }
        Tier::Components => {
            with(&[Part::Prometheus, Part::Kafka, Part::Rabbitmq, Part::Moto, Part::Elasticmq], || {
                let others = [&IN_A_CLUSTER[..], &["keda"]].concat();
                suite.run(|program| program.package == "testbed" && !others.contains(&&*program.target))
            })
        }
        Tier::Kubernetes => with(&[Part::Kubernetes, Part::Helm], || {
            suite.run(|program| program.package == "testbed" && IN_A_CLUSTER.contains(&&*program.target))
        }),
        Tier::Keda => with(&[Part::Kubernetes, Part::Keda], || {
            suite.run(|program| program.package == "testbed" && program.target == "keda")
        }),
    }
}

/// Test programs that need a control plane of Kubernetes, or Helm.
const IN_A_CLUSTER: [&str; 2] = ["kubernetes", "helm"];

/// The test programs, built when the first is wanted.
#[derive(Default)]
struct Suite {
    programs: Option<Option<Vec<Program>>>,
}

impl Suite {
    /// Runs some programs and adds up what they say at their ends.
    fn run(&mut self, belongs: impl Fn(&Program) -> bool) -> Result<Counts> {
        if self.programs.is_none() {
            self.programs = Some(programs::build()?);
        }
        let Some(Some(programs)) = &self.programs else {
            let notes = vec!["FAILED: the tests do not build".to_owned()];
            return Ok(Counts { failed: 1, notes, ..Counts::default() });
        };
        let mut counts = Counts::default();
        for program in programs.iter().filter(|program| belongs(program)) {
            writeln!(std::io::stdout(), "\n--- {}: {} ---", program.package, program.target)?;
            counts.add(counted(&mut program.command())?);
        }
        if counts.passed + counts.failed + counts.skipped == 0 {
            bail!("a tier ran no test");
        }
        Ok(counts)
    }
}

/// Runs a tier that needs parts of the testbed, unless one of them cannot be had.
fn with(parts: &[Part], tier: impl FnOnce() -> Result<Counts>) -> Result<Counts> {
    match parts.iter().try_for_each(|part| testbed::fetch(*part).map(drop)) {
        Ok(_) => tier(),
        Err(error) => {
            writeln!(std::io::stdout(), "SKIPPED, the whole tier: {error:#}")?;
            Ok(Counts {
                skipped: 1,
                notes: vec![format!("skipped: a whole tier: {error:#}")],
                ..Counts::default()
            })
        }
    }
}

/// Each check counts as one.
fn lint() -> Result<Counts> {
    let mut counts = Counts::default();
    let checks: [(&str, &[&str]); 3] = [
        ("formatting", &["fmt", "--all", "--check"]),
        ("clippy", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        ("documentation", &["doc", "--workspace", "--no-deps", "--quiet"]),
    ];
    for (name, args) in checks {
        let mut command = cargo(args);
        command.env("RUSTDOCFLAGS", "-D warnings");
        let ok = run(&mut command)?.1;
        report(&mut counts, name, ok)?;
    }
    let architecture = architecture::check();
    if let Err(error) = &architecture {
        writeln!(std::io::stdout(), "{error:#}")?;
    }
    report(&mut counts, "architecture", architecture.is_ok())?;
    Ok(counts)
}

fn report(counts: &mut Counts, name: &str, ok: bool) -> Result<()> {
    writeln!(std::io::stdout(), "{name}: {}", if ok { "ok" } else { "FAILED" })?;
    if ok {
        counts.passed += 1;
    } else {
        counts.failed += 1;
        counts.notes.push(format!("FAILED: {name}"));
    }
    Ok(())
}

/// Runs tests and adds up what they say at their ends.
fn counted(command: &mut Command) -> Result<Counts> {
    command.env("FOREWARM_SHARED", shared()?);
    let (lines, ok) = run(command)?;
    let mut counts = Counts::default();
    lines.iter().filter_map(|line| closing_line(line)).for_each(|binary| counts.add(binary));
    // A test says why it cannot run here; it must not look as if it had passed.
    let said: Vec<&str> =
        lines.iter().map(|line| line.trim()).filter(|line| line.starts_with("skipped: ")).collect();
    let failed = lines.iter().filter_map(|line| line.strip_suffix(" ... FAILED")?.strip_prefix("test "));
    counts.notes.extend(said.iter().map(|line| (*line).to_owned()));
    counts.notes.extend(failed.map(|test| format!("FAILED: {test}")));
    let skipped = said.len() as u64;
    counts.skipped += skipped;
    counts.passed = counts.passed.saturating_sub(skipped);
    if !ok && counts.failed == 0 {
        // It did not even build, or died without a word.
        counts.failed = 1;
    }
    Ok(counts)
}

/// Where recorded traces and vectors lie, if they are there.
fn shared() -> Result<PathBuf> {
    let shared = std::env::var_os("FOREWARM_SHARED").map_or_else(|| root().join("../shared"), Into::into);
    // Test programs run in the folders of their packages.
    Ok(std::path::absolute(shared)?)
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …` and `3 passed, 0 failed, 1 skipped`.
fn closing_line(line: &str) -> Option<Counts> {
    let summary = match line.split_once("test result: ") {
        Some((_, rest)) => rest.split_once(". ")?.1,
        None => line,
    };
    let mut counts = Counts::default();
    let mut words = 0;
    for part in summary.split([';', ',']) {
        let (number, word) = part.trim().split_once(' ')?;
        let number = number.parse().ok();
        match (number, word) {
            (Some(number), "passed") => counts.passed = number,
            (Some(number), "failed") => counts.failed = number,
            (Some(number), "ignored" | "skipped") => counts.skipped = number,
            (Some(_), _) if words > 0 => {}
            _ if words >= 2 => break,
            _ => return None,
        }
        words += 1;
    }
    (words >= 2).then_some(counts)
}
