//! The invariants of ARCHITECTURE.md that a manifest or a file can break.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::Path,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cargo::{cargo, root};

/// Which of our crates each of our crates may name. Lower tiers first; nothing points up.
const LAYERS: &[(&str, &[&str])] = &[
    ("forewarm-core", &[]),
    ("forewarm-testbed", &[]),
    ("forewarm-tls", &[]),
    ("forewarm-workload", &[]),
    ("forewarm-engine", &[]),
    ("forewarm-sim", &["forewarm-core", "forewarm-workload"]),
    ("forewarm-manifest", &["forewarm-core", "forewarm-workload"]),
    ("forewarm-gateway", &["forewarm-core", "forewarm-tls"]),
    ("forewarm-admin", &["forewarm-core"]),
    ("forewarm-control", &["forewarm-core"]),
    ("forewarm-load", &["forewarm-workload"]),
    ("forewarm-signals", &["forewarm-core", "forewarm-manifest", "forewarm-control"]),
    ("forewarm-processes", &["forewarm-core", "forewarm-control"]),
    ("forewarm-testkit", &["forewarm-core", "forewarm-control"]),
    ("forewarm-exporter", &["forewarm-core", "forewarm-signals"]),
    ("forewarm-kubernetes", &["forewarm-core", "forewarm-manifest", "forewarm-control", "forewarm-signals"]),
    ("forewarm-external-scaler", &["forewarm-tls"]),
    ("forewarm-metrics-api", &["forewarm-core", "forewarm-control", "forewarm-signals", "forewarm-tls"]),
    ("forewarm-aws", &["forewarm-core", "forewarm-manifest", "forewarm-control", "forewarm-signals"]),
    ("forewarm-hooks", &["forewarm-core", "forewarm-manifest", "forewarm-control"]),
];

/// What a crate without I/O must not name.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio-util",
    "futures-util",
    "hyper",
    "hyper-util",
    "http",
    "axum",
    "reqwest",
    "kube",
    "k8s-openapi",
    "rustix",
    "socket2",
    "tracing",
    "redb",
];
/// Randomness, which the core does not have either.
const RANDOM: &[&str] = &["rand", "rand_chacha", "rand_distr", "getrandom"];

/// Crates that must not be in the tree at all, and why.
const BANNED: &[(&str, &str)] = &[
    ("ring", "a second cryptography provider beside aws-lc-rs"),
    ("openssl", "a second TLS stack beside rustls"),
    ("openssl-sys", "a second TLS stack beside rustls"),
    ("native-tls", "a second TLS stack beside rustls"),
    ("serde_yaml", "deprecated; YAML is read by serde-saphyr"),
    ("serde_yml", "RUSTSEC-2025-0068"),
    ("chrono", "time is jiff's"),
    ("async-std", "a second runtime beside tokio"),
];

/// Above this a file has more than one purpose.
const MAX_LINES: usize = 800;
/// Names that say nothing.
const NAMELESS: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "types"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Checks everything and lists every breach.
pub(crate) fn check() -> Result<()> {
    let output = cargo(&["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let members: BTreeSet<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
    let ours: Vec<&Package> =
        metadata.packages.iter().filter(|package| members.contains(package.id.as_str())).collect();
    let mut breaches = Vec::new();
    layers(&ours, &mut breaches);
    purity(&ours, &mut breaches);
    lints(&ours, &mut breaches)?;
    bans(&mut breaches)?;
    files(&root().join("crates"), &mut breaches)?;
    files(&root().join("xtask"), &mut breaches)?;
    if breaches.is_empty() {
        writeln!(std::io::stdout(), "architecture: {} crates keep to their layers", ours.len())?;
        return Ok(());
    }
    bail!("{} breaches of ARCHITECTURE.md:\n  {}", breaches.len(), breaches.join("\n  "))
}

/// `cargo tree` rather than the metadata, which also lists what no feature turns on.
fn bans(breaches: &mut Vec<String>) -> Result<()> {
    let tree = ["tree", "--workspace", "--target", "all", "--prefix", "none", "--format", "{p}", "--locked"];
    let output = cargo(&tree).output().context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let names: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    for (name, why) in BANNED.iter().filter(|(name, _)| names.contains(name)) {
        breaches.push(format!("`{name}` is in the dependency tree: {why}"));
    }
    Ok(())
}

/// Dependencies between our crates, tests apart: they may use what they like.
fn layers(ours: &[&Package], breaches: &mut Vec<String>) {
    let names: BTreeSet<&str> = ours.iter().map(|package| package.name.as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    for package in ours.iter().filter(|package| !matches!(package.name.as_str(), "forewarm" | "xtask")) {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            breaches
                .push(format!("`{}` has no place in the layers of xtask/src/architecture.rs", package.name));
            continue;
        };
        for dependency in normal(package) {
            if names.contains(dependency) && !allowed.contains(&dependency) {
                breaches.push(format!("`{}` names `{dependency}`, which is not below it", package.name));
            }
        }
    }
}

fn purity(ours: &[&Package], breaches: &mut Vec<String>) {
    for package in ours {
        let banned: Vec<&str> = match package.name.as_str() {
            "forewarm-core" => IMPURE.iter().chain(RANDOM).copied().collect(),
            "forewarm-workload" | "forewarm-sim" | "forewarm-manifest" => {
                IMPURE.iter().copied().filter(|name| *name != "tracing").collect()
            }
            _ => continue,
        };
        for dependency in normal(package).filter(|dependency| banned.contains(dependency)) {
            breaches.push(format!("`{}` names `{dependency}`: it has no I/O, clock or async", package.name));
        }
    }
}

fn normal(package: &Package) -> impl Iterator<Item = &str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.is_none())
        .map(|dependency| dependency.name.as_str())
}

fn lints(ours: &[&Package], breaches: &mut Vec<String>) -> Result<()> {
    for package in ours {
        if !std::fs::read_to_string(&package.manifest_path)?.contains("[lints]\nworkspace = true") {
            breaches.push(format!("`{}` does not take the workspace's lints", package.name));
        }
    }
    Ok(())
}

fn files(directory: &Path, breaches: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.is_dir() {
            if stem != "target" {
                files(&path, breaches)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let lines = std::fs::read_to_string(&path)?.lines().count();
            if lines > MAX_LINES {
                breaches.push(format!("{} has {lines} lines, {MAX_LINES} at most", path.display()));
            }
            if NAMELESS.contains(&stem) {
                breaches.push(format!("{} is named after nothing in particular", path.display()));
            }
        }
    }
    Ok(())
}
