//! `forewarm kube external-scaler`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use forewarm_admin::{Admin, AdminConfig, Dashboard};
use forewarm_external_scaler::{Readings, ScalerConfig, ScalerServer};
use kube::Client;

use crate::{
    commands::{edge, kube::decided},
    exit::Failure,
    lifecycle::{runtime, shutdown_on_signal},
};

/// Age at which the controller's last sign of life, and with it every decision, counts as missing.
const MAX_AGE: Duration = Duration::from_secs(60);

/// Answers KEDA with the number of replicas that the controller decided.
///
/// Reads the status of InferenceScalers, and the Lease of the controller, so that a decision counts only while
/// somebody decides. Put `mode: Shadow` into an InferenceScaler whose target KEDA scales.
#[derive(Args)]
#[command(after_help = "Example:\n  forewarm kube external-scaler --listen 0.0.0.0:9190\n\n\
    A trigger of type `external-push` in a ScaledObject, with the metadata\n  \
    scalerAddress: forewarm-external-scaler.forewarm.svc:9190\n  scaler: NAME of an InferenceScaler beside it")]
pub(crate) struct ExternalScalerArgs {
    /// Where KEDA connects.
    #[arg(long, default_value = "127.0.0.1:9190", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The certificate for KEDA (PEM): TLS; read again for each connection.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Who signs the certificate that KEDA has to show.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// /healthz, /readyz and /metrics.
    #[arg(long, default_value = "127.0.0.1:9180", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Where the controller has its Lease; default: the namespace that this runs in.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
    /// The name of its Lease.
    #[arg(long, default_value = "forewarm-controller", value_name = "NAME")]
    lease_name: String,
}

pub(crate) fn external_scaler(args: ExternalScalerArgs) -> Result<(), Failure> {
    runtime(2)?.block_on(async {
        let shutdown = shutdown_on_signal()?;
        let client = Client::try_default().await.context("there is no cluster to be found")?;
        let readings = Readings::default();
        let tls = edge::files(args.tls_cert, args.tls_key, args.client_ca);
        let config = ScalerConfig { listen: args.listen, tls, namespaced: true, max_age: MAX_AGE };
        let server = ScalerServer::bind(config, readings.clone()).await.map_err(Failure::usage)?;
        let admin = AdminConfig { address: args.admin, ..AdminConfig::new(Dashboard::new()) };
        let readiness = admin.readiness.clone();
        // KEDA should not find a server that knows no scaler yet.
        let listed = readiness.token("the list of InferenceScalers");
        let admin = Admin::bind(admin).await.map_err(Failure::usage)?;
        tokio::spawn(admin.run(shutdown.clone()));
        let namespace = args.lease_namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        tokio::spawn(decided::confirm(client.clone(), namespace, args.lease_name, readings.clone()));
        tokio::spawn(decided::follow(client, readings, listed));
        tracing::info!(listen = %server.local_addr()?, "the external scaler listens");
        let told = shutdown.clone();
        tokio::spawn(async move {
            told.cancelled().await;
            readiness.drain();
        });
        server.serve(shutdown).await?;
        Ok(())
    })
}
