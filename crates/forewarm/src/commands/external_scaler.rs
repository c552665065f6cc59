//! The port for KEDA of a command that decides.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use forewarm_control::Snapshot;
use forewarm_core::ScalerId;
use forewarm_external_scaler::{Reading, Readings, ScalerConfig, ScalerServer, ServeError};
use tokio::{sync::watch, time::Instant};

use crate::commands::edge;

/// Age at which a decision counts as missing: four times that between two decisions when nothing changes.
const MAX_AGE: Duration = Duration::from_secs(60);

/// Where KEDA asks, and what it has to show.
#[derive(Args)]
#[group(skip)]
pub(crate) struct ExternalScalerArgs {
    /// Where KEDA asks (gRPC) for the decided number of replicas, in triggers of type `external-push`; default: nowhere.
    #[arg(long, value_name = "ADDRESS")]
    external_scaler: Option<SocketAddr>,
    /// The certificate for KEDA (PEM): TLS; read again for each connection.
    #[arg(long, value_name = "FILE", requires_all = ["external_scaler", "external_scaler_key"])]
    external_scaler_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "external_scaler_cert")]
    external_scaler_key: Option<PathBuf>,
    /// Who signs the certificate that KEDA has to show.
    #[arg(long, value_name = "FILE", requires = "external_scaler_cert")]
    external_scaler_client_ca: Option<PathBuf>,
}

impl ExternalScalerArgs {
    /// Takes the port, if one is asked for.
    pub(crate) async fn bind(&self, readings: &Readings) -> Result<Option<ScalerServer>, ServeError> {
        let Some(listen) = self.external_scaler else { return Ok(None) };
        let (cert, key) = (self.external_scaler_cert.clone(), self.external_scaler_key.clone());
        let tls = edge::files(cert, key, self.external_scaler_client_ca.clone());
        let config = ScalerConfig { listen, tls, namespaced: false, max_age: MAX_AGE };
        ScalerServer::bind(config, readings.clone()).await.map(Some)
    }
}

/// Tells what a controller decides, as long as it does.
pub(crate) fn tell(
    readings: Readings,
    scaler: ScalerId,
    mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
) {
    tokio::spawn(async move {
        while snapshots.changed().await.is_ok() {
            let reading = snapshots.borrow_and_update().as_deref().map(reading);
            if let Some(reading) = reading {
                readings.publish(scaler.as_str(), reading);
            }
        }
    });
}

fn reading(snapshot: &Snapshot) -> Reading {
    let report = snapshot.report.as_ref();
    Reading {
        desired: Some(snapshot.decision.to.0),
        queued: report.map(|report| report.queued as f64),
        in_flight: report.map(|report| report.in_flight_sum() as f64),
        at: Some(Instant::now()),
    }
}
