//! `forewarm kube controller`.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use clap::Args;
use forewarm_admin::{Admin, AdminConfig, Dashboard};
use forewarm_aws::AwsSources;
use forewarm_control::ports::Gateway;
use forewarm_core::ScalerId;
use forewarm_gateway::{ControlAccess, ControlToken, RemoteGateway, UpstreamTls};
use forewarm_kubernetes::{
    controller::{Controller, Options},
    gateways::{Connect, GatewayOptions},
    lease::LeaseOptions,
};
use kube::Client;

use crate::{
    exit::Failure,
    lifecycle::{runtime, shutdown_on_signal},
    wire::OtherGateway,
};

/// Scales what the cluster's InferenceScalers name.
///
/// Watches them, their targets and pods, asks the engines or Prometheus, and the gateways that it finds by their
/// labels; decides, and writes the number of replicas to the target's scale subresource. Several of these take turns
/// by a Lease. Finds the cluster by its service account, or by a kubeconfig.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    forewarm kube crd | kubectl apply --server-side -f -\n  \
    forewarm kube controller --namespace ai-serving\n  \
    kubectl get inferencescalers\n  \
    forewarm kube why llama3 -n ai-serving\n\n\
    What it may do is in deploy/helm; docs/kubernetes.md says how it decides who goes.")]
pub(crate) struct ControllerArgs {
    /// Scale in this namespace only; default: in all.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// /metrics, /healthz and /readyz.
    #[arg(long, default_value = "127.0.0.1:9180", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Labels of the gateways' pods; empty: look for none.
    #[arg(long, default_value = GatewayOptions::SELECTOR, value_name = "SELECTOR")]
    gateway_selector: String,
    /// Their namespace; default: the one that this runs in.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    gateway_namespace: Option<String>,
    /// A gateway at a fixed control address. May be repeated.
    #[arg(long = "gateway", value_name = "ADDRESS")]
    gateways: Vec<String>,
    /// Who signs the gateways' certificates; default: whom the system trusts.
    #[arg(long, value_name = "FILE")]
    gateway_ca: Option<PathBuf>,
    /// The name in their certificates, if it is not the one in the address.
    #[arg(long, value_name = "NAME")]
    gateway_server_name: Option<String>,
    /// What gateways ask of their controllers.
    #[arg(long, env = "FOREWARM_CONTROL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    control_token: Option<String>,
    /// Where the Lease is; default: the namespace that this runs in.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
    /// Its name. Controllers of one name take turns.
    #[arg(long, default_value = "forewarm-controller", value_name = "NAME")]
    lease_name: String,
    /// Who holds the Lease; no two alike. Default: the pod's name, or made from the process.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: Option<String>,
}

/// Connects to gateways of other pods.
struct Remote(ControlAccess);

impl Connect for Remote {
    fn gateway(&self, scaler: &ScalerId, address: &str) -> Arc<dyn Gateway> {
        Arc::new(OtherGateway(RemoteGateway::new(scaler.clone(), address, &self.0)))
    }
}

pub(crate) fn controller(args: ControllerArgs) -> Result<(), Failure> {
    runtime(2)?.block_on(async {
        let shutdown = shutdown_on_signal()?;
        let client = Client::try_default().await.context("there is no cluster to be found")?;
        let tls = UpstreamTls { ca: args.gateway_ca, server_name: args.gateway_server_name, identity: None };
        let token = args.control_token.map(ControlToken::new);
        let access = ControlAccess::new(token, &tls).map_err(Failure::usage)?;
        let own = client.default_namespace().to_owned();
        let lease_namespace = args.lease_namespace.unwrap_or_else(|| own.clone());
        let identity = args.identity.unwrap_or_else(identity);
        let options = Options {
            namespace: args.namespace,
            lease: LeaseOptions::new(&lease_namespace, &args.lease_name, identity),
            gateways: GatewayOptions {
                selector: Some(args.gateway_selector).filter(|selector| !selector.is_empty()),
                namespace: Some(args.gateway_namespace.unwrap_or(own)),
                addresses: args.gateways,
            },
            hold: Options::HOLD,
        };
        let controller =
            Controller::new(options, client, Arc::new(Remote(access))).reading(AwsSources::default());
        let mut admin = AdminConfig { address: args.admin, ..AdminConfig::new(Dashboard::new()) };
        let metrics = controller.metrics();
        admin.metrics = admin.metrics.beside(move || metrics.page());
        let readiness = admin.readiness.clone();
        let admin = Admin::bind(admin).await.map_err(Failure::usage)?;
        let admin = tokio::spawn(admin.run(shutdown.clone()));
        let told = shutdown.clone();
        tokio::spawn(async move {
            told.cancelled().await;
            readiness.drain();
        });
        controller.run(shutdown).await?;
        admin.await?;
        Ok(())
    })
}

/// A name that no other process has.
fn identity() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("forewarm-{}-{}", std::process::id(), since.as_nanos())
}
