//! Exit codes that mean something, and errors as a person reads them.

use std::{io::Write, process::ExitCode};

/// It was tried and did not work: lost requests, findings, a mismatch.
pub(crate) const FAILED: u8 = 1;
/// The command line, a file or a value is wrong; nothing was changed. (clap uses the same code.)
pub(crate) const USAGE: u8 = 2;

/// An error that carries its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// What the user gave is wrong.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: USAGE, error: error.into() }
    }

    /// Prints the error with its sources and returns its code.
    pub(crate) fn exit(&self) -> ExitCode {
        // Nothing is left to do when even the error cannot be written.
        drop(writeln!(std::io::stderr(), "error: {:#}", self.error));
        ExitCode::from(self.code)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: FAILED, error: error.into() }
    }
}

/// Writes a line to standard output; a reader that went away (`| head`) is no error.
pub(crate) fn say(text: impl std::fmt::Display) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// Writes a result to a file.
pub(crate) fn write(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, format!("{}\n", text.trim_end()))
        .map_err(|error| Failure::usage(anyhow::anyhow!("cannot write {}: {error}", path.display())))
}
