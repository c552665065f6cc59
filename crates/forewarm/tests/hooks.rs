//! The binary with a fleet behind a webhook: the receiver that the documentation shows.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const SECRET: (&str, &str) = ("FOREWARM_HOOK_SECRET", "swordfish");
/// Longest wait on the wall, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that goes with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The receiver, and a manifest that names it; `None` where there is no Python.
fn receiver(folder: &Path) -> Option<(Running, PathBuf)> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hooks.md");
    let text = std::fs::read_to_string(docs).unwrap();
    let program = text.split_once("```python\n").unwrap().1.split_once("```").unwrap().0;
    let mut command = Command::new("python3");
    command.args(["-c", program]).env(SECRET.0, SECRET.1).env("PORT", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = match command.spawn() {
        Ok(child) => Running(child),
        Err(error) => {
            eprintln!("skipped: python3: {error}");
            return None;
        }
    };
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening at ").unwrap();
    let manifest = folder.join("forewarm.yaml");
    let text = format!(
        "\
apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {{name: hooked}}
spec:
  target: {{webhook: {{url: '{url}', secret: {{fromEnv: {}}}}}}}
  replicas: {{min: 2, max: 4}}
  policy: {{queueDepth: {{}}}}
",
        SECRET.0
    );
    std::fs::write(&manifest, text).unwrap();
    Some((running, manifest))
}

fn forewarm(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forewarm"));
    command.args(args).env(SECRET.0, SECRET.1).stdin(Stdio::null());
    command
}

fn hook_test(manifest: &Path) -> Output {
    forewarm(&["hook", "test", "-f", manifest.to_str().unwrap()]).output().unwrap()
}

/// Runs the controller until it logs a decision.
fn run_until_decided(manifest: &Path, state: &Path, more: &[&str]) -> Running {
    let mut command = forewarm(&["run", "-f", manifest.to_str().unwrap()]);
    command.args(["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--state-dir"]).arg(state).args(more);
    let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let log = BufReader::new(running.0.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("decision")), "it decides");
    // It must not be stopped by a pipe that nobody reads.
    std::thread::spawn(move || lines.for_each(drop));
    running
}

#[test]
fn a_dry_run_changes_nothing_and_a_run_starts_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_receiver, manifest)) = receiver(folder.path()) else { return };
    let shown = || String::from_utf8(hook_test(&manifest).stdout).unwrap();
    let nothing =
        "hooked\n  observe: 0 replicas, 0 ready\n  apply, one more replica in a dry run: it would be done\n";
    assert_eq!(shown(), nothing);

    let dry = run_until_decided(&manifest, &folder.path().join("dry"), &["--dry-run"]);
    assert_eq!(shown(), nothing, "decided, not done");
    drop(dry);

    let _real = run_until_decided(&manifest, &folder.path().join("real"), &[]);
    let deadline = Instant::now() + PATIENCE;
    while !shown().contains("2 replicas, 2 ready") {
        assert!(Instant::now() < deadline, "{}", shown());
    }
}

#[test]
fn a_hook_that_does_not_work_is_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let Some((receiver, manifest)) = receiver(folder.path()) else { return };
    let output =
        forewarm(&["hook", "test", "-f", manifest.to_str().unwrap()]).env(SECRET.0, "another").output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("observe: failed: cannot reach the fleet: answered 401"), "{text}");
    assert_eq!(output.status.code(), Some(1));
    drop(receiver);
    let output = hook_test(&manifest);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("observe: failed: cannot reach the fleet: no connection: "), "{text}");
    assert_eq!(output.status.code(), Some(1));
    let output = forewarm(&["hook", "test", "-f", manifest.to_str().unwrap()]).env_remove(SECRET.0).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("the secret in $FOREWARM_HOOK_SECRET: environment variable not found"), "{text}");
    assert_eq!(output.status.code(), Some(2));
}
