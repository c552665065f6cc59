//! One round: every engine and every GPU read once, at the same time.

use std::collections::BTreeMap;

use forewarm_signals::engine::{EngineClient, EngineReading};
use futures_util::{StreamExt, stream};

use crate::{
    EngineAddress,
    gpu::{GpuReading, GpuSource},
};

/// Most engines asked at the same time.
const MAX_CONCURRENT: usize = 64;

/// What a round found.
#[derive(Debug)]
pub(crate) struct Round {
    /// By replica: its reading, or why there is none.
    pub(crate) engines: BTreeMap<String, Result<EngineReading, String>>,
    pub(crate) gpus: GpuReading,
}

/// Reads everything once. A source that fails leaves its reason, and the others untouched.
pub(crate) async fn round(client: &EngineClient, engines: &[EngineAddress], gpus: &GpuSource) -> Round {
    let addresses: Vec<EngineAddress> = engines.to_vec();
    let engines = stream::iter(addresses)
        .map(|engine| async move {
            let reading = client.read(engine.url()).await.map_err(|error| error.to_string());
            (engine.replica().to_owned(), reading)
        })
        .buffer_unordered(MAX_CONCURRENT)
        .collect();
    let (engines, gpus) = futures_util::future::join(engines, gpus.read()).await;
    Round { engines, gpus }
}

impl Round {
    /// Logs what is not as it was in the round `before`.
    pub(crate) fn log_changes(&self, before: Option<&Round>) {
        for (replica, reading) in &self.engines {
            let was = before.and_then(|before| before.engines.get(replica)).map(Result::is_ok);
            match reading {
                Ok(_) if was != Some(true) => tracing::info!(%replica, "engine answers"),
                Err(error) if was != Some(false) => {
                    tracing::warn!(%replica, %error, "engine does not answer")
                }
                Ok(_) | Err(_) => {}
            }
        }
        if before.is_some_and(|before| before.gpus.state() == self.gpus.state()) {
            return;
        }
        match &self.gpus {
            GpuReading::Gpus(gpus) => tracing::info!(count = gpus.len(), "GPUs are read"),
            GpuReading::NoDriver(reason) => tracing::warn!(%reason, "no GPU driver: no GPU metrics"),
            GpuReading::NoGpu => tracing::warn!("no GPU on this machine: no GPU metrics"),
            GpuReading::Failed(reason) => tracing::warn!(%reason, "GPUs cannot be read"),
        }
    }
}
