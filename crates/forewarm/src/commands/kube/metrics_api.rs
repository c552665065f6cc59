//! `forewarm kube metrics-api`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use forewarm_core::ScalerId;
use forewarm_gateway::{ControlAccess, ControlToken, RemoteGateway, UpstreamTls};
use forewarm_kubernetes::gateways::{GatewayOptions, discover};
use forewarm_metrics_api::{CertificateFiles, EngineOptions, MetricsApi, MetricsApiConfig, Queues};
use forewarm_signals::engine::EngineKind;
use futures_util::future::{BoxFuture, FutureExt, try_join_all};
use tokio::sync::watch;

use crate::{
    commands::{engine_access::SchemedEngineArgs, values},
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
    #[command(flatten)]
    access: SchemedEngineArgs,
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
    /// Labels of the gateways' pods, whose queues count as well; default: none are looked for.
    #[arg(long, value_name = "SELECTOR")]
    gateway_selector: Option<String>,
    /// Their namespace; default: the one that this runs in.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    gateway_namespace: Option<String>,
    /// Who signs the gateways' certificates; default: whom the system trusts.
    #[arg(long, value_name = "FILE")]
    gateway_ca: Option<PathBuf>,
    /// The name in their certificates, if it is not the one in the address.
    #[arg(long, value_name = "NAME")]
    gateway_server_name: Option<String>,
    /// What the gateways ask of their controllers.
    #[arg(long, env = "FOREWARM_CONTROL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    control_token: Option<String>,
}

pub(super) fn metrics_api(args: MetricsApiArgs) -> Result<(), Failure> {
    runtime(2)?.block_on(async {
        let shutdown = shutdown_on_signal()?;
        let client = kube::Client::try_default().await.context("cannot reach the cluster")?;
        let tls = UpstreamTls { ca: args.gateway_ca, server_name: args.gateway_server_name, identity: None };
        let access = ControlAccess::new(args.control_token.map(ControlToken::new), &tls);
        let access = access.map_err(Failure::usage)?;
        let are_there = !args.gateways.is_empty() || args.gateway_selector.is_some();
        let gateways = GatewayOptions {
            namespace: Some(args.gateway_namespace.unwrap_or_else(|| client.default_namespace().to_owned())),
            selector: args.gateway_selector,
            addresses: args.gateways,
        };
        let queues = are_there.then(|| {
            let (found, addresses) = watch::channel(BTreeSet::new());
            tokio::spawn(discover(client.clone(), gateways, found));
            Arc::new(GatewayQueues { addresses, access, scalers: Mutex::default() }) as Arc<dyn Queues>
        });
        let api = MetricsApi::bind(
            MetricsApiConfig {
                listen: args.listen,
                certificate: CertificateFiles { certificate: args.tls_cert, key: args.tls_key },
                engines: EngineOptions {
                    kind: args.engine,
                    port: args.engine_port,
                    access: args.access.access()?,
                    keep_for: args.keep_for,
                },
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
    addresses: watch::Receiver<BTreeSet<String>>,
    access: ControlAccess,
    scalers: Mutex<BTreeMap<ScalerId, Gateways>>,
}

/// The gateways by their address, as asked about one scaler.
type Gateways = BTreeMap<String, Arc<RemoteGateway>>;

impl GatewayQueues {
    fn gateways(&self, scaler: &ScalerId) -> Vec<Arc<RemoteGateway>> {
        let addresses = self.addresses.borrow();
        let mut scalers = self.scalers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = scalers.entry(scaler.clone()).or_default();
        known.retain(|address, _| addresses.contains(address));
        for address in addresses.iter() {
            known
                .entry(address.clone())
                .or_insert_with(|| Arc::new(RemoteGateway::new(scaler.clone(), address, &self.access)));
        }
        known.values().cloned().collect()
    }
}

impl Queues for GatewayQueues {
    fn queued<'a>(&'a self, scaler: &'a ScalerId) -> BoxFuture<'a, Result<u64, String>> {
        async move {
            let gateways = self.gateways(scaler);
            if gateways.is_empty() {
                // Whoever waits there waits at one that is not to be seen.
                return Err("no gateway is ready".to_owned());
            }
            let reports = try_join_all(gateways.iter().map(|gateway| gateway.report()));
            let reports = reports.await.map_err(|error| error.to_string())?;
            Ok(reports.iter().map(|report| report.queued).sum())
        }
        .boxed()
    }
}
