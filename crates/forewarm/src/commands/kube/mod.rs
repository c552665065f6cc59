//! `forewarm kube`: what runs in a Kubernetes cluster, and what looks at one.

mod controller;
mod decided;
mod external_scaler;
mod metrics_api;
mod why;

use clap::Subcommand;

use crate::exit::{Failure, say};

/// What runs in a Kubernetes cluster, and what looks at one.
#[derive(Subcommand)]
pub(crate) enum KubeCommand {
    // Each is described where its arguments are.
    Controller(controller::ControllerArgs),
    Why(why::WhyArgs),
    /// Prints the resource `InferenceScaler`, for `kubectl apply --server-side -f -`.
    Crd,
    ExternalScaler(external_scaler::ExternalScalerArgs),
    MetricsApi(metrics_api::MetricsApiArgs),
}

pub(crate) fn kube(command: KubeCommand) -> Result<(), Failure> {
    match command {
        KubeCommand::Controller(args) => controller::controller(args),
        KubeCommand::Why(args) => why::why(&args),
        KubeCommand::Crd => {
            say(forewarm_kubernetes::resource::crd_yaml()?.trim_end());
            Ok(())
        }
        KubeCommand::ExternalScaler(args) => external_scaler::external_scaler(args),
        KubeCommand::MetricsApi(args) => metrics_api::metrics_api(args),
    }
}
