//! `forewarm demo`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use forewarm_control::{Clock, Snapshot};
use forewarm_core::{
    Bounds, ColdStartSpec, Decision, Environment, Policy, PreWarm, QueueDepth, Requests, ScalerId,
    ScalerSpec,
    pool::{Concurrency, QueueLimits, Tenants},
};
use forewarm_gateway::{Gateway, GatewayConfig};
use forewarm_load::{LoadConfig, LoadProgress, LoadReport};
use forewarm_processes::{ProcessFleet, ProcessFleetConfig, Shutdown};
use forewarm_workload::{Workload, WorkloadSource};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    commands::values,
    exit::{Failure, say},
    lag::LagMeter,
    lifecycle::{runtime, shutdown_on_signal},
    meter::PhaseMeter,
    page::{Followed, Page},
    progress::Progress,
    report::{ColdStartSeconds, DemoReport, Latencies, ReplicaSeconds, Speed, static_fleet},
    wire::{self, LocalGateway, Parts},
};

/// Shows everything on this machine: load, gateway, replicas, decisions, a live page.
///
/// Starts with no replica at all. A burst of requests arrives, is held while the first replica loads its
/// model, and is served; then a swell like a working day. Replicas are real processes (forewarm's own
/// GPU-free engine), and time is compressed.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    forewarm demo\n  \
    forewarm demo --duration 60s --headless --report report.json\n  \
    forewarm demo --trace azure2023_conv.csv --speed 20\n\n\
    Exits with 0 when no request was lost.")]
pub(crate) struct DemoArgs {
    /// A request trace (Azure, BurstGPT, Mooncake or plain CSV; .zst and .gz too) instead of the built-in
    /// workload; `demo:7` is the built-in one with another seed.
    #[arg(long, value_name = "FILE", default_value = "demo")]
    trace: String,
    /// How long to send requests, on the wall. Default: the whole trace, or one round of the built-in workload.
    #[arg(long, value_parser = values::duration, value_name = "DURATION")]
    duration: Option<Duration>,
    /// Divides every modelled time: at 20, a cold start of 4 minutes takes 12 seconds.
    #[arg(long, value_parser = values::speed, default_value = "20")]
    speed: f64,
    /// Mean modelled time from asking for a replica until it serves.
    #[arg(long, value_parser = values::duration, default_value = "240s", value_name = "DURATION")]
    cold_start: Duration,
    /// The most replicas.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    max: u32,
    /// Replicas kept at all times; 0 shows the burst on an idle fleet.
    #[arg(long, default_value_t = 0)]
    min: u32,
    /// Requests a replica works on at a time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
    /// No page and no progress bar.
    #[arg(long)]
    headless: bool,
    /// Where the live page is served; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    page: SocketAddr,
    /// Keep serving the page after the end, until Ctrl-C.
    #[arg(long)]
    stay: bool,
    /// Write the report as JSON to this file; `-`: to standard output.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// The model that the demo's engines serve.
const MODEL: &str = "demo";
/// Modelled time after which a waiting request is given up; never reached unless no replica starts.
const PATIENCE: Duration = Duration::from_secs(2 * 60 * 60);
/// Longest wait on the wall for one answer, in addition to [`PATIENCE`].
const GRACE: Duration = Duration::from_secs(30);
/// Timers this late in modelled time (p99) no longer tell anything about the product.
const MAX_LAG: Duration = Duration::from_secs(1);

pub(crate) fn demo(args: DemoArgs) -> Result<(), Failure> {
    let source: WorkloadSource = args.trace.parse().map_err(Failure::usage)?;
    let length = args.duration.map(|wall| wall.mul_f64(args.speed));
    let workload = source.load(length).map_err(Failure::usage)?;
    if workload.requests.is_empty() {
        return Err(Failure::usage(anyhow::anyhow!(
            "`{}` has no request in its first {:?}",
            args.trace,
            length
        )));
    }
    if args.min > args.max {
        return Err(Failure::usage(anyhow::anyhow!("`--min {}` is above `--max {}`", args.min, args.max)));
    }
    workload.notes.iter().for_each(|note| tracing::warn!("{}: {note}", args.trace));
    runtime(2)?.block_on(async {
        let shutdown = shutdown_on_signal()?;
        play(&args, &workload, shutdown).await
    })
}

async fn play(args: &DemoArgs, workload: &Workload, interrupted: CancellationToken) -> Result<(), Failure> {
    let directory = tempfile::tempdir().context("cannot make a directory for the demo's state")?;
    let clock = Clock::start(args.speed);
    let fleet = Arc::new(ProcessFleet::open(fleet_config(args, directory.path().join("fleet"))?)?);
    let gateway = Gateway::bind(GatewayConfig {
        speed: args.speed,
        ..GatewayConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    })
    .await?;
    let target = gateway.local_addr()?.to_string();
    let scaler = ScalerId::from(MODEL);
    let handle = gateway.handle();
    let stop = CancellationToken::new();
    let running = wire::start(
        Parts {
            spec: spec(args)?,
            models: vec![MODEL.to_owned()],
            queue: queue(),
            routing: Default::default(),
            concurrency: Concurrency::default(),
            kv_tokens: None,
            speaks_tls: false,
            fleet: Arc::clone(&fleet) as Arc<_>,
            gateway: Some(Arc::new(LocalGateway { handle, scaler })),
            signals: Vec::new(),
            store: wire::store(directory.path())?,
            clock,
        },
        stop.clone(),
    )
    .await;
    let metrics = gateway.metrics();
    let serving = tokio::spawn(gateway.run(stop.clone()));
    let (load_progress, load_seen) = watch::channel(LoadProgress::default());
    let page = if args.headless {
        None
    } else {
        let controllers = [(ScalerId::from(MODEL), running.commands.clone())].into();
        let page = Page::bind(args.page, "--page", None, controllers, Some(metrics), clock)
            .await
            .map_err(Failure::usage)?;
        page.show(Followed {
            snapshots: running.snapshots.clone(),
            decisions: running.decisions.resubscribe(),
            load: Some(load_seen.clone()),
            speed: args.speed,
        });
        Some(page)
    };
    let progress = Progress::start(args.headless, workload.requests.len(), page.as_ref().map(Page::url));
    let watcher = tokio::spawn(watch_over(
        running.snapshots.clone(),
        running.decisions.resubscribe(),
        load_seen,
        progress,
    ));
    let lag = LagMeter::start();
    let config = LoadConfig {
        target,
        model: MODEL.to_owned(),
        speed: args.speed,
        stream: true,
        deadline: PATIENCE.div_f64(args.speed) + GRACE,
        full_prompts: false,
    };
    let started = clock.now();
    let load = forewarm_load::run(config, workload, load_progress, interrupted.clone()).await?;
    let ended = clock.now();
    if let (Some(page), true) = (&page, args.stay && !interrupted.is_cancelled()) {
        say(format!("the page stays at {} until Ctrl-C", page.url()));
        interrupted.cancelled().await;
    }
    let snapshot = running.snapshots.borrow().clone();
    stop.cancel();
    running.task.await.context("the controller panicked")??;
    serving.await.context("the gateway panicked")?;
    fleet.shutdown(Shutdown::StopAll).await?;
    let seen = watcher.await.context("the watcher panicked")?;
    let lag = lag.stop().await;
    let report = report(args, workload, &load, seen, snapshot.as_deref(), (started, ended), lag);
    finish(args, &report)
}

fn fleet_config(args: &DemoArgs, directory: PathBuf) -> Result<ProcessFleetConfig, Failure> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let seconds = |span: Duration| format!("{}s", span.as_secs_f64());
    let command = [
        program.display().to_string(),
        "--log=warn".to_owned(),
        "engine".to_owned(),
        "--port={port}".to_owned(),
        format!("--model={MODEL}"),
        format!("--slots={}", args.slots),
        format!("--cold-start={}", seconds(args.cold_start)),
        format!("--speed={}", args.speed),
        "--shutdown-timeout=60s".to_owned(),
    ];
    Ok(ProcessFleetConfig { speed: args.speed, ..ProcessFleetConfig::new(command.to_vec(), directory) })
}

/// Five waiting requests a replica, pre-warming at 70 % of a hundred or at the forecast of that.
fn spec(args: &DemoArgs) -> Result<ScalerSpec, Failure> {
    let policy = Policy::QueueDepth(QueueDepth {
        per_replica: Requests::new(QueueDepth::DEFAULT_PER_REPLICA)?,
        pre_warm: Some(PreWarm {
            threshold: 0.7,
            lead_time: args.cold_start,
            max_queue: Requests::new(100.0)?,
        }),
    });
    Ok(ScalerSpec {
        environment: Environment::Dev,
        cold_start: ColdStartSpec { expected: args.cold_start, ..ColdStartSpec::default() },
        max_concurrency: args.slots,
        ..ScalerSpec::new(MODEL, Bounds::new(args.min, args.max)?, policy)
    })
}

fn queue() -> QueueLimits {
    QueueLimits {
        max_requests: 100_000,
        max_bytes: 1 << 30,
        timeout: PATIENCE,
        cold_start_timeout: PATIENCE,
        ttft_objective: None,
        tenants: Tenants::default(),
    }
}

/// What was seen while it ran.
#[derive(Default)]
struct Seen {
    meter: PhaseMeter,
    decisions: u64,
    cold_starts: usize,
}

/// Follows the run until its controller ends.
async fn watch_over(
    mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    mut decisions: broadcast::Receiver<Arc<Decision>>,
    load: watch::Receiver<LoadProgress>,
    progress: Progress,
) -> Seen {
    let mut seen = Seen::default();
    loop {
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    break;
                }
                let Some(snapshot) = snapshots.borrow_and_update().clone() else { continue };
                seen.meter.observe(&snapshot.observation);
                seen.cold_starts = snapshot.cold_starts.samples();
                progress.show(&snapshot, &load.borrow());
            }
            decision = decisions.recv() => match decision {
                Ok(decision) => {
                    seen.decisions += 1;
                    progress.tell(&decision);
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => seen.decisions += missed,
                Err(broadcast::error::RecvError::Closed) => break,
            },
        }
    }
    progress.end();
    seen
}

fn report(
    args: &DemoArgs,
    workload: &Workload,
    load: &LoadReport,
    seen: Seen,
    snapshot: Option<&Snapshot>,
    (started, ended): (forewarm_core::Timestamp, forewarm_core::Timestamp),
    lag: Duration,
) -> DemoReport {
    let wall = load.wall_seconds;
    let modelled = ended.since(started).as_secs_f64();
    // Sending late is how a machine that is too slow shows first.
    let late = load.send_lag_wall_seconds.p99.max(lag.as_secs_f64());
    let sending = workload.length().as_secs_f64();
    let quantile =
        |q| snapshot.and_then(|snapshot| snapshot.cold_starts.quantile(q)).map(|span| span.as_secs_f64());
    DemoReport {
        requests: load.requests.clone(),
        latency_seconds: Latencies::of(load),
        replica_seconds: ReplicaSeconds::of(&seen.meter),
        cold_starts: seen.cold_starts,
        cold_start_seconds: quantile(0.5).zip(quantile(0.9)).map(|(p50, p90)| ColdStartSeconds { p50, p90 }),
        decisions: seen.decisions,
        max_replicas: seen.meter.most(),
        static_replica_seconds: static_fleet(seen.meter.most(), started, ended),
        speed: Speed {
            asked: args.speed,
            reached: args.speed * sending / (sending + late * args.speed).max(f64::EPSILON),
            lag_wall_seconds_p99: late,
            kept_up: late * args.speed < MAX_LAG.as_secs_f64(),
        },
        modelled_seconds: modelled,
        wall_seconds: wall,
    }
}

fn finish(args: &DemoArgs, report: &DemoReport) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(report)?;
    match args.report.as_deref() {
        Some(path) if path.as_os_str() == "-" => say(json),
        Some(path) => {
            std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
            say(report.to_text());
        }
        None => say(report.to_text()),
    }
    if report.requests.lost > 0 {
        return Err(anyhow::anyhow!("{} requests were lost", report.requests.lost).into());
    }
    Ok(())
}
