//! The Kubernetes control plane and KWOK, built from the Go modules in `e2e/`.

use std::path::Path;

use anyhow::{Result, bail};

use super::go;
use crate::cargo::root;

/// Programs that are one: they take their part from their name.
const PARTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Builds into `folder`, which works as a `KUBEBUILDER_ASSETS` folder too. Takes about twelve minutes of CPU
/// where Go has not built any of it before.
pub(super) fn build(folder: &Path) -> Result<()> {
    let control_plane = root().join("e2e/control-plane");
    let version = go::output(&control_plane, &["list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"])?;
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
    go::build(&control_plane, &stamped, &first, ".")?;
    for part in &PARTS[1..] {
        std::fs::hard_link(&first, folder.join(part))?;
    }
    go::build(&control_plane, "-s -w", &folder.join("etcd"), "go.etcd.io/etcd/server/v3")?;
    go::build(&control_plane, &stamped, &folder.join("kubectl"), "k8s.io/kubernetes/cmd/kubectl")?;
    go::build(&root().join("e2e/kwok"), "-s -w", &folder.join("kwok"), "sigs.k8s.io/kwok/cmd/kwok")
}
