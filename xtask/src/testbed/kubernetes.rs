//! The Kubernetes control plane and KWOK, built from the Go modules in `e2e/`.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::succeed;
use crate::cargo::root;

/// Programs that are one: they take their part from their name.
const PARTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Builds into `folder`, which works as a `KUBEBUILDER_ASSETS` folder too. Takes about twelve minutes of CPU
/// where Go has not built any of it before.
pub(super) fn build(folder: &Path) -> Result<()> {
    let control_plane = root().join("e2e/control-plane");
    let version = output(go(&control_plane).args(["list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"]))?;
    let version = version.trim();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("`{version}` is no version of Kubernetes")
    };
    let base = "k8s.io/component-base/version";
    // What a server says it is comes from the linker, as in a release of it.
    let stamped = format!(
        "-s -w -X {base}.gitVersion={version} -X {base}.gitMajor={major} -X {base}.gitMinor={minor} \
         -X k8s.io/client-go/pkg/version.gitVersion={version}"
    );
    let first = folder.join(PARTS[0]);
    compile(&control_plane, &stamped, &first, ".")?;
    for part in &PARTS[1..] {
        std::fs::hard_link(&first, folder.join(part))?;
    }
    compile(&control_plane, "-s -w", &folder.join("etcd"), "go.etcd.io/etcd/server/v3")?;
    compile(&control_plane, &stamped, &folder.join("kubectl"), "k8s.io/kubernetes/cmd/kubectl")?;
    compile(&root().join("e2e/kwok"), "-s -w", &folder.join("kwok"), "sigs.k8s.io/kwok/cmd/kwok")
}

fn compile(module: &Path, linker: &str, program: &Path, package: &str) -> Result<()> {
    let mut command = go(module);
    command.args(["build", "-trimpath", "-ldflags", linker, "-o"]).arg(program).arg(package);
    succeed(&mut command)
}

fn go(module: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(module).env("CGO_ENABLED", "0").env("GOFLAGS", "-buildvcs=false -mod=readonly");
    command
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot run go")?;
    if !output.status.success() {
        bail!("go failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
