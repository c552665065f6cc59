//! From a burst of requests to the write of `/scale`, in a real cluster: forewarm's controller and gateway beside
//! the real HPA, and beside KEDA's own operator.
//!
//! Prints one JSON row a line, for `cargo xtask bench kube`. Everything is as it is shipped: the programs of this
//! package as processes, a real API server, the HPA controller at its default period of 15 s, KEDA at its default
//! polling interval of 30 s. Each burst has a Deployment of its own, because a controller that has just begun takes
//! nothing away for a while. Bursts come at random moments of a time that is many periods long, so that they find each
//! autoscaler in every phase and do not measure each other. The clock starts when the first request of the burst leaves
//! its client, or when the engine's queue shows it (for who sees nothing else), and stops when the API server tells a
//! watcher the new number of replicas.

mod engines;
mod objects;
mod stage;

use std::{io::Write, path::Path, time::Duration};

use anyhow::Result;
use forewarm_metrics_api::SERVED;
use forewarm_testbed::{
    Keda, Server,
    control_plane::{Aggregation, ControlPlane, ControlPlaneError, ControlPlaneOptions},
};
use objects::{By, From};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use stage::{NAMESPACE, Stage, local};
use tokio::task::JoinSet;

/// The HPA controller's default.
const HPA_PERIOD: Duration = Duration::from_secs(15);
/// Until KEDA has looked once as well: its default polling interval.
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// Bursts for each kind of autoscaler.
const BURSTS: usize = 30;
/// The time that they are spread over: ten periods of the HPA's, five of KEDA's.
const SPREAD: Duration = HPA_PERIOD.saturating_mul(10);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    skip_unbuilt(runtime.block_on(bench()), "burst to /scale")
}

/// A row that says why there is no figure, where a part of the testbed was never built.
fn skip_unbuilt(came: Result<()>, name: &str) -> Result<()> {
    match came.map_err(anyhow::Error::downcast::<ControlPlaneError>) {
        Ok(()) => Ok(()),
        Err(Ok(ControlPlaneError::NotFetched(why))) => {
            print(&json!({"name": name, "skipped": why.to_string()}))
        }
        Err(Ok(error)) => Err(error.into()),
        Err(Err(error)) => Err(error),
    }
}

fn print(row: &Value) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{row}")?)
}

async fn bench() -> Result<()> {
    let plane = ControlPlane::start(ControlPlaneOptions { hpa_sync_period: HPA_PERIOD }).await?;
    let folder = tempfile::tempdir()?;
    let mut stage = Stage::start(&plane, folder.path()).await?;
    let (metrics, _serving) = serve_metrics(&plane, &stage, folder.path()).await?;
    let [ours, hpa] = measure(&mut stage, From::One, [By::Forewarm, By::Hpa]).await?;
    rows(From::One, &ours, &[("HPA at 15 s on forewarm's metrics", &hpa)])?;
    // A cluster gets its metrics from one of the two.
    metrics.end().await?;
    skip_unbuilt(beside_keda(&plane, &mut stage, &ours).await, "burst to /scale, beside KEDA")
}

/// KEDA at its default polling interval, and its HPA at the default of HPAs.
async fn beside_keda(plane: &ControlPlane, stage: &mut Stage<'_>, ours: &[f64]) -> Result<()> {
    let _keda = Keda::start(plane).await?;
    let (at, admin) = (local()?, local()?);
    let (listen, told) = (at.to_string(), admin.to_string());
    let scaler =
        ["kube", "external-scaler", "--listen", &listen, "--admin", &told, "--lease-namespace", NAMESPACE];
    let _scaler = stage.program("external-scaler", &scaler, at).await?;
    let keda = [By::KedaOnForewarm { at }, By::Keda { at: stage.numbers }];
    let names = ["KEDA on forewarm's decisions, pushed", "KEDA on the same numbers"];
    let [following, alone] = measure(stage, From::One, keda).await?;
    rows(From::One, ours, &[(names[0], &following), (names[1], &alone)])?;
    let [ours, following, alone] = measure(stage, From::Zero, [By::Forewarm, keda[0], keda[1]]).await?;
    rows(From::Zero, &ours, &[(names[0], &following), (names[1], &alone)])
}

/// forewarm's metrics for HPAs, behind the API server.
async fn serve_metrics<'a>(
    plane: &'a ControlPlane,
    stage: &Stage<'_>,
    folder: &Path,
) -> Result<(Aggregation<'a>, Server)> {
    let identity = plane.server_identity(&[&plane.aggregated_name()])?;
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    std::fs::write(&certificate, identity.certificate)?;
    std::fs::write(&key, identity.key)?;
    let address = local()?;
    let [listen, certificate, key] =
        [address.to_string(), certificate.display().to_string(), key.display().to_string()];
    let api = ["kube", "metrics-api", "--listen", &listen, "--tls-cert", &certificate, "--tls-key", &key];
    let server = stage.program("metrics-api", &api, address).await?;
    Ok((plane.aggregate(&SERVED, address.port()).await?, server))
}

/// Seconds of each burst, for each kind of autoscaler.
async fn measure<const N: usize>(stage: &mut Stage<'_>, from: From, by: [By; N]) -> Result<[Vec<f64>; N]> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut bursts = by.map(|_| Vec::new());
    for number in 0..BURSTS {
        for (by, bursts) in by.iter().zip(&mut bursts) {
            bursts.push(stage.burst(*by, from, number, SPREAD.mul_f64(random.random())).await?);
        }
    }
    stage.looked_once().await?;
    tokio::time::sleep(FIRST_LOOK).await;
    let running = bursts.map(|bursts| bursts.into_iter().collect::<JoinSet<_>>());
    let mut seconds = by.map(|_| Vec::new());
    for (mut running, seconds) in running.into_iter().zip(&mut seconds) {
        while let Some(burst) = running.join_next().await {
            seconds.push(burst??);
        }
    }
    stage.clear().await?;
    Ok(seconds)
}

fn rows(from: From, ours: &[f64], peers: &[(&str, &[f64])]) -> Result<()> {
    for (peer, theirs) in peers {
        for q in [0.5, 0.99] {
            let (forewarm, theirs) = (quantile(ours, q), quantile(theirs, q));
            print(&json!({
                "name": format!("burst to /scale from {}, p{} of {}", from.word(), q * 100.0, ours.len()),
                "figure": forewarm * 1e3, "unit": "ms",
                "peer": peer, "peer_figure": theirs * 1e3, "ratio": forewarm / theirs,
            }))?;
        }
    }
    Ok(())
}

fn quantile(seconds: &[f64], q: f64) -> f64 {
    let mut seconds = seconds.to_vec();
    seconds.sort_by(f64::total_cmp);
    seconds[((q * seconds.len() as f64).ceil() as usize).clamp(1, seconds.len()) - 1]
}
