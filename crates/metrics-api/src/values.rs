//! The value of a metric: for each pod, or for all behind an object.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use forewarm_core::ScalerId;
use forewarm_signals::engine::{EngineMetric, EngineSignal, ScrapeError};
use kube::Client;

use crate::{
    Metric, Queues,
    engines::{Engines, PodValues, Value},
    gpu::Gpus,
    pods::{self, Behind, Choice, ReadyPod},
};

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoValue {
    /// The API server does not say which pods there are.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// Engines cannot be asked at all.
    #[error("engines cannot be asked: {0}")]
    Client(#[from] ScrapeError),
    /// Somebody who has a share of the value did not say it.
    #[error("{0}")]
    Unknown(String),
}

/// Where values come from.
pub(crate) struct Values {
    pub(crate) client: Client,
    pub(crate) engines: Engines,
    pub(crate) gpus: Gpus,
    pub(crate) queues: Option<Arc<dyn Queues>>,
}

impl Values {
    /// The value of each pod that has one.
    pub(crate) async fn by_pod(&self, choice: &Choice, metric: Metric) -> Result<PodValues, NoValue> {
        let pods = pods::ready(&self.client, choice, self.engines.options()).await?;
        match metric {
            Metric::Engine(signal) => Ok(self.engines.read(choice, &pods, signal).await?),
            Metric::GpuUtilization => {
                let mut busy = self.gpus.read(&choice.namespace).await?;
                busy.retain(|name, _| pods.iter().any(|pod| pod.name == *name));
                Ok(busy)
            }
            Metric::Pending => {
                let mut values = self.engines.read(choice, &pods, WAITING).await?;
                let shares = self.shares(&pods).await;
                for pod in &pods {
                    let Some(scaler) = &pod.scaler else { continue };
                    match shares.get(scaler) {
                        // What waits at the gateway belongs to nobody yet: the ready ones share it.
                        Some(Ok(share)) => {
                            if let Some(value) = values.get_mut(&pod.name) {
                                value.value += share;
                            }
                        }
                        // Without it the value would look like less load.
                        Some(Err(_)) | None => {
                            values.remove(&pod.name);
                        }
                    }
                }
                Ok(values)
            }
        }
    }

    /// The value of all pods behind an object together. Without one pod's share there is none: it would look
    /// like less load.
    pub(crate) async fn total(&self, behind: &Behind, metric: Metric) -> Result<Value, NoValue> {
        let Behind { choice, scaler } = behind;
        let pods = pods::ready(&self.client, choice, self.engines.options()).await?;
        let (values, queued) = match metric {
            Metric::Engine(signal) => (self.engines.read(choice, &pods, signal).await?, None),
            Metric::GpuUtilization => (self.gpus.read(&choice.namespace).await?, None),
            Metric::Pending => {
                let queued = match scaler.as_ref().or_else(|| pods.first()?.scaler.as_ref()) {
                    None => None,
                    Some(scaler) => Some(self.queued(scaler).await.map_err(NoValue::Unknown)?),
                };
                (self.engines.read(choice, &pods, WAITING).await?, queued)
            }
        };
        let nobody = || NoValue::Unknown(format!("none of the {choice} is ready"));
        let mut total = Value { value: queued.unwrap_or_default(), age: Duration::ZERO, window: None };
        if pods.is_empty() && queued.is_none() {
            return Err(nobody());
        }
        for pod in &pods {
            let unsaid = || NoValue::Unknown(format!("pod {} does not say", pod.name));
            let value = values.get(&pod.name).ok_or_else(unsaid)?;
            total.value += value.value;
            total.age = total.age.max(value.age);
            total.window = total.window.max(value.window);
        }
        Ok(total)
    }

    /// Each ready pod's share of what waits at the gateway, by scaler.
    async fn shares(&self, pods: &[ReadyPod]) -> BTreeMap<ScalerId, Result<f64, String>> {
        let mut ready: BTreeMap<ScalerId, f64> = BTreeMap::new();
        for scaler in pods.iter().filter_map(|pod| pod.scaler.as_ref()) {
            *ready.entry(scaler.clone()).or_default() += 1.0;
        }
        let mut shares = BTreeMap::new();
        for (scaler, count) in ready {
            let share = self.queued(&scaler).await.map(|queued| queued / count);
            if let Err(error) = &share {
                tracing::warn!(%scaler, error, "nobody knows what waits at the gateway");
            }
            shares.insert(scaler, share);
        }
        shares
    }

    async fn queued(&self, scaler: &ScalerId) -> Result<f64, String> {
        let Some(queues) = &self.queues else {
            return Err(format!(
                "pods serve the scaler `{scaler}`, and no gateway is known that has its queue"
            ));
        };
        queues.queued(scaler).await.map(|queued| queued as f64)
    }
}

const WAITING: EngineSignal = EngineSignal::Metric(EngineMetric::Waiting);
