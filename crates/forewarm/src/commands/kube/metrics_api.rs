//! `forewarm kube metrics-api`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use forewarm_core::ScalerId;
use forewarm_gateway::{ControlAccess, ControlToken, RemoteGateway, UpstreamTls};
use forewarm_metrics_api::{CertificateFiles, EngineOptions, MetricsApi, MetricsApiConfig, Queues};
use forewarm_signals::engine::EngineKind;
use futures_util::future::{BoxFuture, FutureExt, try_join_all};

use crate::{
    commands::values,
    exit::Failure,
    lifecycle::{runtime, shutdown_on_signal},
};

/// Serves engine metrics to HPAs, without Prometheus and without an adapter.
///
/// `custom.metrics.k8s.io` and `external.metrics.k8s.io`, behind the API server: engines are asked pod by pod when an
/// HPA asks. What an engine did not say is absent, so that the HPA holds. A cluster has one owner of each of the two:
/// register only what nobody serves.
#[derive(Args)]
#[command(after_help = "Example:\n  forewarm kube metrics-api --tls-cert tls.crt --tls-key tls.key\n  \
    kubectl get --raw '/apis/custom.metrics.k8s.io/v1beta2/namespaces/ai-serving/pods/*/vllm_pending_requests'")]
pub(crate) struct MetricsApiArgs {
    /// Where to serve.
    #[arg(long, default_value = "0.0.0.0:6443", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The certificate for the API server (PEM), for `SERVICE.NAMESPACE.svc`; read again when it changes.
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf,
    /// Its private key.
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf,
    /// Which engine pods run that have no annotation `forewarm.dev/engine`: vllm, sglang, tgi, triton or llamacpp.
    #[arg(long, default_value = "vllm", value_name = "KIND")]
    engine: EngineKind,
    /// The port of engines whose pods declare none and have no annotation `prometheus.io/port`.
    #[arg(long, default_value_t = 8000, value_name = "PORT")]
    engine_port: u16,
    /// How long a pod's last answer stands in for one that did not come.
    #[arg(long, value_parser = values::duration, default_value = "60s", value_name = "DURATION")]
    keep_for: Duration,
    /// The labels of dcgm-exporters, which know how busy each pod's GPUs are.
    #[arg(long, default_value = "app.kubernetes.io/name=dcgm-exporter", value_name = "SELECTOR")]
    gpu_exporters: String,
    /// The control address of a gateway, whose queue counts as pending for pods with the label `forewarm.dev/scaler`;
    /// `https://…` with TLS. May be repeated for gateways side by side.
    #[arg(long = "gateway", value_name = "ADDRESS")]
    gateways: Vec<String>,
    /// Who signs the gateways' certificates; default: whom the system trusts.
    #[arg(long, value_name = "FILE", requires = "gateways")]
    gateway_ca: Option<PathBuf>,
    /// What the gateways ask of their controllers.
    #[arg(long, env = "FOREWARM_CONTROL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    control_token: Option<String>,
}

pub(super) fn metrics_api(args: MetricsApiArgs) -> Result<(), Failure> {
    runtime(2)?.block_on(async {
        let shutdown = shutdown_on_signal()?;
        let queues = if args.gateways.is_empty() {
            None
        } else {
            let tls = UpstreamTls { ca: args.gateway_ca, server_name: None, identity: None };
            let access = ControlAccess::new(args.control_token.map(ControlToken::new), &tls);
            let access = access.map_err(Failure::usage)?;
            Some(Arc::new(GatewayQueues::new(args.gateways, access)) as Arc<dyn Queues>)
        };
        let client = kube::Client::try_default().await.context("cannot reach the cluster")?;
        let api = MetricsApi::bind(
            MetricsApiConfig {
                listen: args.listen,
                certificate: CertificateFiles { certificate: args.tls_cert, key: args.tls_key },
                engines: EngineOptions { kind: args.engine, port: args.engine_port, keep_for: args.keep_for },
                gpu_exporters: args.gpu_exporters,
                queues,
            },
            client,
        )
        .await?;
        tracing::info!(listen = %api.address(), "the metrics APIs listen");
        api.run(shutdown).await;
        Ok(())
    })
}

/// The queues of gateways side by side: a scaler's is the sum.
struct GatewayQueues {
    addresses: Vec<String>,
    access: ControlAccess,
    scalers: Mutex<BTreeMap<ScalerId, Gateways>>,
}

/// The gateways, as asked about one scaler.
type Gateways = Arc<Vec<RemoteGateway>>;

impl GatewayQueues {
    fn new(addresses: Vec<String>, access: ControlAccess) -> Self {
        Self { addresses, access, scalers: Mutex::default() }
    }

    fn gateways(&self, scaler: &ScalerId) -> Gateways {
        let mut scalers = self.scalers.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = scalers.entry(scaler.clone()).or_insert_with(|| {
            let gateway = |address: &String| RemoteGateway::new(scaler.clone(), address, &self.access);
            Arc::new(self.addresses.iter().map(gateway).collect())
        });
        Arc::clone(asked)
    }
}

impl Queues for GatewayQueues {
    fn queued<'a>(&'a self, scaler: &'a ScalerId) -> BoxFuture<'a, Result<u64, String>> {
        async move {
            let gateways = self.gateways(scaler);
            let reports = try_join_all(gateways.iter().map(RemoteGateway::report));
            let reports = reports.await.map_err(|error| error.to_string())?;
            Ok(reports.iter().map(|report| report.queued).sum())
        }
        .boxed()
    }
}
