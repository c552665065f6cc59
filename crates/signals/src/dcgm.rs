//! How busy the GPUs of each pod are, from the page of a node's dcgm-exporter.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Client;

use crate::{
    engine::{
        ReadingError, ScrapeError,
        client::{address, page},
    },
    http,
    text::{Format, Samples},
};

/// Percent of the time in which a kernel ran, for each GPU.
const UTILIZATION: &str = "DCGM_FI_DEV_GPU_UTIL";

/// A pod, by namespace and name.
pub type PodName = (String, String);

/// Asks dcgm-exporters.
#[derive(Clone, Debug)]
pub struct DcgmClient {
    client: Client,
    timeout: Duration,
}

impl DcgmClient {
    /// A client that waits for an answer for at most `timeout`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(timeout: Duration) -> Result<Self, ScrapeError> {
        let client = http::client().map_err(|error| ScrapeError::Unreachable(http::cause(error)))?;
        Ok(Self { client, timeout })
    }

    /// Percent of the time that the GPUs of each pod were busy, their mean where it has several.
    ///
    /// # Errors
    /// [`ScrapeError`], which says why there is no reading.
    pub async fn utilization(&self, url: &str) -> Result<BTreeMap<PodName, f64>, ScrapeError> {
        let (page, format) = page(self.client.get(address(url)?), self.timeout).await?;
        utilization(&page, format).map_err(ScrapeError::Page)
    }
}

/// Reads a page. GPUs that no pod has are left out.
///
/// # Errors
/// When a line that counts is broken.
pub fn utilization(page: &[u8], format: Format) -> Result<BTreeMap<PodName, f64>, ReadingError> {
    let mut sums: BTreeMap<PodName, (f64, f64)> = BTreeMap::new();
    for sample in Samples::of(page, format, |name| name == UTILIZATION) {
        let sample = sample.map_err(ReadingError::Line)?;
        let label = |name| sample.labels.get(name).unwrap_or_default().into_owned();
        let pod = (label("namespace"), label("pod"));
        if !pod.1.is_empty() && sample.value.is_finite() {
            let (sum, count) = sums.entry(pod).or_default();
            *sum += sample.value;
            *count += 1.0;
        }
    }
    Ok(sums.into_iter().map(|(pod, (sum, count))| (pod, sum / count)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_with_several_gpus_has_their_mean_and_a_free_gpu_belongs_to_nobody() {
        let page = "\
            # TYPE DCGM_FI_DEV_GPU_UTIL gauge\n\
            DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",namespace=\"ai\",pod=\"a\"} 80\n\
            DCGM_FI_DEV_GPU_UTIL{gpu=\"1\",namespace=\"ai\",pod=\"a\"} 60\n\
            DCGM_FI_DEV_GPU_UTIL{gpu=\"2\",namespace=\"ai\",pod=\"b\"} 0\n\
            DCGM_FI_DEV_GPU_UTIL{gpu=\"3\",namespace=\"\",pod=\"\"} 5\n\
            DCGM_FI_DEV_FB_USED{gpu=\"0\",namespace=\"ai\",pod=\"a\"} 1000\n";
        let busy = utilization(page.as_bytes(), Format::Prometheus).unwrap();
        let pod = |name: &str| ("ai".to_owned(), name.to_owned());
        assert_eq!(busy, BTreeMap::from([(pod("a"), 70.0), (pod("b"), 0.0)]));
    }
}
