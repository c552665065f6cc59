//! `forewarm kube`: what runs in a cluster.

mod decided;
mod external_scaler;

use clap::Subcommand;

use crate::exit::Failure;

/// What runs in a Kubernetes cluster.
#[derive(Subcommand)]
pub(crate) enum KubeCommand {
    // Each is described where its arguments are.
    ExternalScaler(external_scaler::ExternalScalerArgs),
}

pub(crate) fn kube(command: KubeCommand) -> Result<(), Failure> {
    match command {
        KubeCommand::ExternalScaler(args) => external_scaler::external_scaler(args),
    }
}
