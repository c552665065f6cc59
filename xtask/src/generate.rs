//! What is generated, and committed so that building and installing need no generator.

use anyhow::{Result, bail};

use crate::{
    cargo::{cargo, run},
    testbed::{Part, fetch},
};

/// Writes all of it. The tests that find it stale are also what makes it, so that the two cannot differ.
pub(crate) fn generate() -> Result<()> {
    fetch(Part::Helm)?;
    // The chart carries the resource, so that comes first.
    for test in ["generated", "crd", "helm"] {
        let mut command = cargo(&["test", "--workspace", "--test", test]);
        if !run(command.env("FOREWARM_WRITE_GENERATED", "1"))?.1 {
            bail!("what the test `{test}` makes was not generated");
        }
    }
    Ok(())
}
