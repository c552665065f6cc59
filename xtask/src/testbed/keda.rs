//! KEDA's operator and metrics adapter, built from the Go module in `e2e/keda`.

use std::path::Path;

use anyhow::{Context, Result};

use super::go;
use crate::cargo::root;

const MODULE: &str = "github.com/kedacore/keda/v2";

/// Builds into `folder`, and puts KEDA's resource definitions beside. Takes a quarter of an hour of CPU where Go has not
/// built any of it before: all clouds' libraries are in it.
pub(super) fn build(folder: &Path) -> Result<()> {
    let module = root().join("e2e/keda");
    let version = go::output(&module, &["list", "-m", "-f", "{{.Version}}", MODULE])?;
    let linker = format!("-s -w -X {MODULE}/version.Version={}", version.trim_start_matches('v'));
    for program in ["operator", "adapter"] {
        let package = format!("{MODULE}/cmd/{program}");
        go::build(&module, &linker, &folder.join(format!("keda-{program}")), &package)?;
    }
    let sources = go::output(&module, &["list", "-m", "-f", "{{.Dir}}", MODULE])?;
    let definitions = Path::new(&sources).join("config/crd/bases");
    let copies = folder.join("crd");
    std::fs::create_dir_all(&copies)?;
    for file in
        std::fs::read_dir(&definitions).with_context(|| format!("cannot list {}", definitions.display()))?
    {
        let file = file?;
        // Read and written: files of Go's module cache are read-only, and a copy would be too.
        std::fs::write(copies.join(file.file_name()), std::fs::read(file.path())?)?;
    }
    Ok(())
}
