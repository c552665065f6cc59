//! `forewarm kube why`.

use anyhow::{Context, anyhow};
use clap::Args;
use forewarm_kubernetes::why;
use kube::Client;

use crate::{
    exit::{Failure, say},
    lifecycle::runtime,
};

/// Tells why an InferenceScaler has the number of replicas that it has.
///
/// Shows the last decisions with every step, the conditions, and the Events, as the cluster has them.
#[derive(Args)]
#[command(after_help = "Example:\n  forewarm kube why llama3 -n ai-serving")]
pub(crate) struct WhyArgs {
    /// The InferenceScaler.
    name: String,
    /// Its namespace; default: the kubeconfig's.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

pub(crate) fn why(args: &WhyArgs) -> Result<(), Failure> {
    runtime(1)?.block_on(async {
        let client = Client::try_default().await.context("there is no cluster to be found")?;
        let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        match why::ask(client, &namespace, &args.name).await {
            Ok(told) => {
                say(told.text());
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Err(Failure::usage(anyhow!(
                "there is no InferenceScaler `{}` in the namespace `{namespace}`",
                args.name
            ))),
            Err(error) => Err(error.into()),
        }
    })
}
