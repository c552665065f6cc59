//! Whatever the manifests in `deploy` start is a command line that this program takes.

use std::{path::Path, process::Command};

use serde_json::Value;

#[test]
fn manifests_start_what_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = [
        "deploy/manifests/forewarm.yaml",
        "deploy/manifests/external-scaler.yaml",
        "crates/testbed/tests/helm/everything.yaml",
    ];
    let mut commands = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        for container in
            objects.iter().filter_map(|object| object.pointer("/spec/template/spec/containers/0"))
        {
            let args = container["args"].as_array().unwrap();
            commands.push(args.iter().map(|arg| arg.as_str().unwrap().to_owned()).collect::<Vec<_>>());
        }
    }
    assert!(commands.len() >= 6, "{commands:?}");
    for args in commands {
        // With `--help` at the end everything before it is read, and nothing is done.
        let output = Command::new(env!("CARGO_BIN_EXE_forewarm")).args(&args).arg("--help").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let unknown = ["gateway", "--lisen=0.0.0.0:8080", "--help"];
    let output = Command::new(env!("CARGO_BIN_EXE_forewarm")).args(unknown).output().unwrap();
    assert!(!output.status.success(), "what is unknown is refused before the help is shown");
}
