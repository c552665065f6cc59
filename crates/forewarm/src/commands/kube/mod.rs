//! `forewarm kube`: what runs in a Kubernetes cluster, and what looks at one.

mod metrics_api;

use clap::{Args, Subcommand};

use crate::exit::Failure;

/// Kubernetes: metrics for its own autoscalers.
#[derive(Args)]
pub(crate) struct KubeArgs {
    #[command(subcommand)]
    command: KubeCommand,
}

#[derive(Subcommand)]
enum KubeCommand {
    // Each is described where its arguments are.
    MetricsApi(metrics_api::MetricsApiArgs),
}

pub(crate) fn kube(args: KubeArgs) -> Result<(), Failure> {
    match args.command {
        KubeCommand::MetricsApi(args) => metrics_api::metrics_api(args),
    }
}
