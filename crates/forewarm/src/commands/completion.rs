//! `forewarm completion`.

use clap::Args;

/// Prints a completion script for a shell.
#[derive(Args)]
#[command(after_help = "Example:\n  forewarm completion bash > /etc/bash_completion.d/forewarm")]
pub(crate) struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(crate) fn completion(args: &CompletionArgs, mut command: clap::Command) {
    clap_complete::generate(args.shell, &mut command, "forewarm", &mut std::io::stdout());
}
