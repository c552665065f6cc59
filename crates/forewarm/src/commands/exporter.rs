//! `forewarm exporter`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use forewarm_exporter::{EngineAddress, Exporter, ExporterConfig};
use forewarm_signals::engine::EngineKind;

use crate::{
    commands::{engine_access::EngineAccessArgs, values},
    exit::Failure,
    lifecycle::{runtime, shutdown_on_signal},
};

/// Engine and GPU metrics for Prometheus.
///
/// Serves `llm_queue_depth` and `llm_gpu_memory_used_gb`, which queue-depth exporters of this kind have always
/// served, and the same and more under normalised names. No GPU, no driver or a dead engine is a state it
/// reports, never a 0.
#[derive(Args)]
#[command(after_help = "Example:\n  forewarm exporter --engine-url http://127.0.0.1:8000\n  \
    curl -s localhost:9091/metrics")]
pub(crate) struct ExporterArgs {
    /// An engine to ask; may be given several times.
    #[arg(long = "engine-url", value_name = "URL", default_value = "http://127.0.0.1:8000")]
    engine_urls: Vec<EngineAddress>,
    /// Which engine it is: vllm, sglang, tgi, triton or llamacpp.
    #[arg(long, default_value = "vllm", value_name = "KIND")]
    engine: EngineKind,
    #[command(flatten)]
    access: EngineAccessArgs,
    /// Where to serve.
    #[arg(long, default_value = "127.0.0.1:9091", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Time between two rounds.
    #[arg(long, value_parser = values::duration, default_value = "15s", value_name = "DURATION")]
    interval: Duration,
    /// The program that knows the GPUs.
    #[arg(long, default_value = "nvidia-smi", value_name = "PROGRAM")]
    nvidia_smi: PathBuf,
}

pub(crate) fn exporter(args: ExporterArgs) -> Result<(), Failure> {
    runtime(1)?.block_on(async {
        let shutdown = shutdown_on_signal()?;
        let exporter = Exporter::bind(ExporterConfig {
            listen: args.listen,
            engines: args.engine_urls,
            engine: args.engine,
            access: args.access.access(),
            interval: args.interval,
            nvidia_smi: args.nvidia_smi,
        })
        .await
        .map_err(Failure::usage)?;
        tracing::info!(listen = %exporter.address(), "the exporter listens");
        exporter.run(shutdown).await?;
        Ok(())
    })
}
