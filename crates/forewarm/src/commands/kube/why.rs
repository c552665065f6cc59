//! `forewarm kube why`.

use anyhow::{Context, anyhow};
use clap::Args;
use forewarm_kubernetes::why;
use kube::Client;

use crate::{
    commands::output::Output,
    exit::{Failure, say},
    lifecycle::runtime,
};

/// Tells why an InferenceScaler has the number of replicas that it has.
///
/// Shows the last decisions with every step, the conditions, and the Events, as the cluster has them.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    forewarm kube why llama3 -n ai-serving\n  \
    forewarm kube why llama3 -n ai-serving --output json | jq '.status.decisions[0]'")]
pub(crate) struct WhyArgs {
    /// The InferenceScaler.
    name: String,
    /// Its namespace; default: the kubeconfig's.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// What to print; JSON has the status as the object has it, and the Events.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,
}

pub(crate) fn why(args: &WhyArgs) -> Result<(), Failure> {
    runtime(1)?.block_on(async {
        let client = Client::try_default().await.context("there is no cluster to be found")?;
        let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        match why::ask(client, &namespace, &args.name).await {
            Ok(told) => {
                match args.output {
                    Output::Text => say(told.text()),
                    Output::Json => {
                        say(serde_json::to_string_pretty(&told).context("what was told cannot be written")?);
                    }
                }
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
