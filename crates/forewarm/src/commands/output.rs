//! `--output` of the commands that tell something.

use clap::ValueEnum;

/// What is printed.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}
