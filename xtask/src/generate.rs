//! What is generated, and committed so that building and installing need no generator.

use anyhow::{Result, bail};

use crate::{
    cargo::{cargo, run},
    testbed::{Part, fetch},
};

/// Writes all of it. The tests that find it stale are also what makes it, so that the two cannot differ.
pub(crate) fn generate() -> Result<()> {
    fetch(Part::Helm)?;
    for (package, test) in [("forewarm-external-scaler", "generated"), ("forewarm-testbed", "helm")] {
        let mut command = cargo(&["test", "-p", package, "--test", test]);
        if !run(command.env("FOREWARM_WRITE_GENERATED", "1"))?.1 {
            bail!("`{test}` of {package} was not generated");
        }
    }
    Ok(())
}
