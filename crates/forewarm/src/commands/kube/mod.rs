//! `forewarm kube`: what runs in a Kubernetes cluster, and what looks at one.

mod decided;
mod external_scaler;
mod metrics_api;

use clap::Subcommand;

use crate::exit::Failure;

/// What runs in a Kubernetes cluster, and what looks at one.
#[derive(Subcommand)]
pub(crate) enum KubeCommand {
    // Each is described where its arguments are.
    ExternalScaler(external_scaler::ExternalScalerArgs),
    MetricsApi(metrics_api::MetricsApiArgs),
}

pub(crate) fn kube(command: KubeCommand) -> Result<(), Failure> {
    match command {
        KubeCommand::ExternalScaler(args) => external_scaler::external_scaler(args),
        KubeCommand::MetricsApi(args) => metrics_api::metrics_api(args),
    }
}
