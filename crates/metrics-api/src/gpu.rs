//! How busy each pod's GPUs are, from the dcgm-exporters of the cluster.

use std::{collections::BTreeMap, time::Duration};

use forewarm_signals::{
    dcgm::{DcgmClient, PodName},
    engine::ScrapeError,
};
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};
use tokio::{sync::Mutex, time::Instant};

use crate::engines::{PodValues, Value};

/// The port of a dcgm-exporter.
const PORT: u16 = 9400;
/// An exporter looks at its GPUs every 30 s; autoscalers that ask at the same time are given the same.
const FRESH: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Exporters asked at the same time.
const CONCURRENT: usize = 64;

/// The exporters that a label selector finds, in whichever namespace.
pub(crate) struct Gpus {
    client: Client,
    exporters: String,
    dcgm: DcgmClient,
    last: Mutex<Option<(Instant, BTreeMap<PodName, f64>)>>,
}

impl Gpus {
    pub(crate) fn new(client: Client, exporters: String) -> Result<Self, ScrapeError> {
        Ok(Self { client, exporters, dcgm: DcgmClient::new(TIMEOUT)?, last: Mutex::default() })
    }

    /// Percent of the time that each pod's GPUs were busy. The pods of an exporter that does not answer are
    /// not there.
    pub(crate) async fn read(&self, namespace: &str) -> Result<PodValues, kube::Error> {
        let mut last = self.last.lock().await;
        if last.as_ref().is_none_or(|(at, _)| at.elapsed() >= FRESH) {
            *last = Some((Instant::now(), self.ask().await?));
        }
        let Some((at, busy)) = last.as_ref() else { return Ok(PodValues::new()) };
        let age = at.elapsed();
        let of_namespace = busy.iter().filter(|((pod_namespace, _), _)| pod_namespace == namespace);
        let value = |busy: &f64| Value { value: *busy, age, window: None };
        Ok(of_namespace.map(|((_, pod), busy)| (pod.clone(), value(busy))).collect())
    }

    async fn ask(&self) -> Result<BTreeMap<PodName, f64>, kube::Error> {
        let list = ListParams::default().labels(&self.exporters).match_any();
        let exporters = Api::<Pod>::all(self.client.clone()).list(&list).await?;
        let addresses = exporters.items.iter().filter_map(|pod| {
            let ip = pod.status.as_ref()?.pod_ip.as_deref()?;
            Some((pod.name_any(), format!("http://{ip}:{PORT}/metrics")))
        });
        let pages = stream::iter(addresses.collect::<Vec<_>>())
            .map(|(exporter, url)| async move { (exporter, self.dcgm.utilization(&url).await) })
            .buffer_unordered(CONCURRENT)
            .collect::<Vec<_>>()
            .await;
        let mut all = BTreeMap::new();
        for (exporter, page) in pages {
            match page {
                Ok(busy) => all.extend(busy),
                Err(error) => tracing::warn!(exporter, %error, "no metrics of GPUs"),
            }
        }
        Ok(all)
    }
}
