//! `forewarm engine`.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use forewarm_engine::{ColdStart, EngineConfig, EngineProfile, LoadingBehaviour};

use crate::{
    commands::values,
    exit::Failure,
    lifecycle::{runtime, shutdown_on_signal},
};

/// A GPU-free engine with vLLM's API, metrics, timing and cold start.
///
/// It batches requests as a real engine does and takes as long, on a machine without a GPU: for demos,
/// load tests, and trying a policy before it spends money.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    forewarm engine --port 8000 --model llama3\n  \
    forewarm engine --profile llama2-70b-h100-tp8 --cold-start 240s --speed 20\n  \
    curl -s localhost:8000/v1/models")]
pub(crate) struct EngineArgs {
    /// The port to listen on.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: std::net::IpAddr,
    /// The name of the served model.
    #[arg(long, default_value = "forewarm")]
    model: String,
    /// How fast the imitated engine is: `simple`, or a GPU and model that were measured.
    #[arg(long, default_value = "simple")]
    profile: String,
    /// Requests at a time, for the `simple` profile.
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Mean time from the process's start to readiness; 0s: ready at once. Single starts differ, as real
    /// ones do.
    #[arg(long, value_parser = values::duration, default_value = "0s", value_name = "DURATION")]
    cold_start: Duration,
    /// Makes a share of the starts fail, from 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    start_failures: f64,
    /// What clients see during the cold start: nothing listens (vllm), or 503 (llamacpp).
    #[arg(long, default_value = "vllm", value_name = "ENGINE")]
    loading: Loading,
    /// Refuse more requests than this with 503, as vLLM's `--max-num-queued-reqs`.
    #[arg(long, value_name = "N")]
    max_num_queued_reqs: Option<u32>,
    /// Time that requests get to finish after SIGTERM, as vLLM's `--shutdown-timeout`. At 0s, vLLM's default,
    /// they hang.
    #[arg(long, value_parser = values::duration, default_value = "0s", value_name = "DURATION")]
    shutdown_timeout: Duration,
    /// Divides every modelled time.
    #[arg(long, value_parser = values::speed, default_value = "1")]
    speed: f64,
    /// Makes the cold start repeat; default: another one each time.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Loading {
    Vllm,
    Llamacpp,
}

pub(crate) fn engine(args: EngineArgs) -> Result<(), Failure> {
    let config = config(args)?;
    runtime(1)?.block_on(async {
        let shutdown = shutdown_on_signal()?;
        forewarm_engine::run(config, shutdown).await?;
        Ok(())
    })
}

fn config(args: EngineArgs) -> Result<EngineConfig, Failure> {
    let profile = match (args.profile.as_str(), args.slots) {
        ("simple", Some(slots)) => EngineProfile::simple(slots),
        (name, None) => EngineProfile::named(name).map_err(Failure::usage)?,
        (name, Some(_)) => {
            return Err(Failure::usage(anyhow::anyhow!(
                "`--slots` belongs to `--profile simple`, not to `{name}`"
            )));
        }
    };
    let seed = args.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let mut cold_start = if args.cold_start.is_zero() {
        ColdStart::default()
    } else {
        ColdStart::typical().scaled_to_mean(args.cold_start)
    };
    if let Some(last) = cold_start.stages.last_mut() {
        last.failure_probability = args.start_failures;
    }
    let config = EngineConfig {
        listen: SocketAddr::from((args.host, args.port)),
        model: args.model,
        profile,
        speed: args.speed,
        cold_start: cold_start.with_seed(seed),
        loading: match args.loading {
            Loading::Vllm => LoadingBehaviour::Vllm,
            Loading::Llamacpp => LoadingBehaviour::LlamaCpp,
        },
        max_num_queued_reqs: args.max_num_queued_reqs,
        shutdown_timeout_seconds: args.shutdown_timeout.as_secs_f64(),
    };
    config.validate().map_err(Failure::usage)?;
    Ok(config)
}
