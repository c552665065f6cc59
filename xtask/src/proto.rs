//! Generated code, which is committed so that building needs no generator.

use anyhow::{Result, bail};

use crate::cargo::{cargo, run};

/// Writes it. The test that finds it stale is also what makes it, so that the two cannot differ.
pub(crate) fn proto() -> Result<()> {
    let mut command = cargo(&["test", "-p", "forewarm-external-scaler", "--test", "generated"]);
    if !run(command.env("FOREWARM_WRITE_GENERATED", "1"))?.1 {
        bail!("the code was not generated");
    }
    Ok(())
}
