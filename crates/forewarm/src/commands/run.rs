//! `forewarm run`.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use forewarm_aws::{AwsSources, GroupFleets};
use forewarm_control::{Clock, Several, Store, ports};
use forewarm_core::{Mode, pool::Concurrency};
use forewarm_external_scaler::Readings;
use forewarm_gateway::{
    ControlAccess, ControlToken, Gateway, GatewayConfig, GatewayHandle, RemoteGateway, UpstreamTls,
};
use forewarm_manifest::{CheckedScaler, KvTokens, read_scalers};
use forewarm_processes::Shutdown;
use forewarm_signals::{Sources, measure};
use tokio_util::sync::CancellationToken;

use crate::{
    commands::{
        edge::{EdgeArgs, reload_on_hangup},
        external_scaler::{self, ExternalScalerArgs},
        values,
    },
    exit::{Failure, say},
    fleets::OpenFleet,
    lifecycle::{cores, runtime, shutdown_on_signal},
    page::{Followed, Page},
    wire::{self, LocalGateway, OtherGateway, Parts, Running},
};

/// Keeps a real fleet at the right size, with a gateway in front.
///
/// Reads `InferenceScaler` manifests, starts what they ask for, and goes on where it was after a restart:
/// decisions are on disk before they are acted on, and replicas that still run are adopted.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    forewarm run -f forewarm.yaml\n  \
    forewarm run -f forewarm.yaml --check\n  \
    forewarm run -f forewarm.yaml --dry-run\n  \
    forewarm run -f forewarm.yaml --on-exit stop\n\n\
    Then: the OpenAI API at --listen; the page, /metrics, /healthz and /readyz at --admin.")]
pub(crate) struct RunArgs {
    /// Manifests; several files, and several documents in one, are taken together.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    /// Read and check the manifests, print them with every default written out, and do nothing.
    #[arg(long)]
    check: bool,
    /// Decide and record only, and change nothing: every manifest as with `mode: Shadow`.
    #[arg(long)]
    dry_run: bool,
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    #[command(flatten)]
    edge: EdgeArgs,
    /// Use the gateway in another process, by its control address (`https://…` with TLS), instead of one of our own.
    /// May be repeated: gateways side by side share the replicas' slots.
    #[arg(
        long = "gateway",
        value_name = "ADDRESS",
        conflicts_with_all = ["listen", "keys", "tls_cert", "trusted_proxies", "upstream_ca", "upstream_server_name"]
    )]
    gateways: Vec<String>,
    /// Who signs their certificates; default: whom the system trusts.
    #[arg(long, value_name = "FILE", requires = "gateways")]
    gateway_ca: Option<PathBuf>,
    /// The name in their certificates, if it is not the one in the address.
    #[arg(long, value_name = "NAME", requires = "gateways")]
    gateway_server_name: Option<String>,
    /// The certificate that they are shown.
    #[arg(long, value_name = "FILE", requires = "gateway_key")]
    gateway_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "gateway_cert")]
    gateway_key: Option<PathBuf>,
    /// What those gateways ask of their controllers.
    #[arg(long, env = "FOREWARM_CONTROL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    control_token: Option<String>,
    /// The live page, JSON, /metrics, /healthz and /readyz.
    #[arg(long, default_value = "127.0.0.1:9180", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Asked of every call to --admin that changes something.
    #[arg(long, env = "FOREWARM_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    #[command(flatten)]
    external_scaler: ExternalScalerArgs,
    /// Where state is kept.
    #[arg(long, value_name = "DIR", default_value = ".forewarm")]
    state_dir: PathBuf,
    /// What happens to replicas when forewarm ends: run on and be adopted by the next one, or stop.
    #[arg(long, value_enum, default_value_t = Exit::Keep, value_name = "WHAT")]
    on_exit: Exit,
    /// Divides every modelled time, for tests with `forewarm engine --speed`.
    #[arg(long, value_parser = values::speed, default_value = "1")]
    speed: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Exit {
    /// Replicas run on.
    Keep,
    /// Replicas are stopped.
    Stop,
}

pub(crate) fn run(args: RunArgs) -> Result<(), Failure> {
    let mut scalers = read(&args.file)?;
    if args.dry_run {
        scalers.iter_mut().for_each(|scaler| scaler.spec.mode = Mode::Shadow);
    }
    if args.check {
        for scaler in &scalers {
            say(scaler.to_yaml()?.trim_end());
            say("---");
        }
        return Ok(());
    }
    runtime(2)?.block_on(async {
        let shutdown = shutdown_on_signal()?;
        serve(args, scalers, shutdown).await
    })
}

/// Reads every file, and shows the problems of all of them at once.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<CheckedScaler>, Failure> {
    let mut scalers: Vec<CheckedScaler> = Vec::new();
    let mut problems = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(anyhow!("cannot read `--file {name}`: {error}")))?;
        match read_scalers(&name, &text) {
            Ok(read) => scalers.extend(read),
            Err(found) => problems.push(found.to_string()),
        }
    }
    if !problems.is_empty() {
        return Err(Failure::usage(anyhow!("{}", problems.join("\n"))));
    }
    for (index, scaler) in scalers.iter().enumerate() {
        let name = &scaler.spec.scaler;
        if scalers[..index].iter().any(|earlier| &earlier.spec.scaler == name) {
            return Err(Failure::usage(anyhow!("`metadata.name: {name}` is there twice; names must differ")));
        }
    }
    if scalers.is_empty() {
        return Err(Failure::usage(anyhow!("there is no InferenceScaler in the files")));
    }
    Ok(scalers)
}

/// How our own gateway speaks TLS with replicas, where no flag says it: as the manifests have it.
fn upstream_tls(scalers: &[CheckedScaler]) -> Result<UpstreamTls, Failure> {
    let mut asked = scalers
        .iter()
        .filter(|scaler| scaler.takes_requests())
        .filter_map(|scaler| Some((&scaler.spec.scaler, scaler.engine.tls.as_ref()?)));
    let Some((name, tls)) = asked.next() else { return Ok(UpstreamTls::default()) };
    let instead = "`--upstream-ca` and `--upstream-server-name` say it for all";
    if let Some((other, _)) = asked.find(|(_, other)| *other != tls) {
        return Err(Failure::usage(anyhow!(
            "`spec.engine.tls` of `{name}` and of `{other}` differ, and one gateway serves both: {instead}"
        )));
    }
    if tls.accepts_any {
        return Err(Failure::usage(anyhow!(
            "`{name}`: spec.engine.tls.unsafeSsl: the gateway sends requests only to whom it knows: `caFile` instead names who signed the engines' certificates, or {instead}"
        )));
    }
    Ok(UpstreamTls {
        ca: tls.ca_file.clone(),
        server_name: tls.server_name.clone(),
        identity: tls.cert_file.clone().zip(tls.key_file.clone()),
    })
}

/// Where requests come in.
enum FrontDoor {
    Ours(GatewayHandle),
    Others(Vec<String>, ControlAccess),
}

impl FrontDoor {
    fn gateway(&self, scaler: &CheckedScaler) -> Arc<dyn ports::Gateway> {
        let name = scaler.spec.scaler.clone();
        match self {
            FrontDoor::Ours(handle) => Arc::new(LocalGateway { handle: handle.clone(), scaler: name }),
            FrontDoor::Others(addresses, access) => {
                let mut others: Vec<(String, Arc<dyn ports::Gateway>)> = Vec::new();
                for address in addresses {
                    let remote = RemoteGateway::new(name.clone(), address, access);
                    others.push((address.clone(), Arc::new(OtherGateway(remote))));
                }
                match others.pop() {
                    Some((_, only)) if others.is_empty() => only,
                    last => {
                        others.extend(last);
                        Arc::new(Several::new(others))
                    }
                }
            }
        }
    }
}

async fn serve(
    mut args: RunArgs,
    scalers: Vec<CheckedScaler>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let clock = Clock::start(args.speed);
    // Ports first: nothing has been started when one cannot be had.
    let (door, gateway) = if args.gateways.is_empty() {
        let config = GatewayConfig { threads: cores(), speed: args.speed, ..GatewayConfig::new(args.listen) };
        let mut config = args.edge.configure(config);
        if !args.edge.says_upstream_tls() {
            config.upstream_tls = upstream_tls(&scalers)?;
        }
        let gateway = Gateway::bind(config).await.map_err(Failure::usage)?;
        reload_on_hangup(gateway.reloader())?;
        (FrontDoor::Ours(gateway.handle()), Some(gateway))
    } else {
        let tls = UpstreamTls {
            ca: args.gateway_ca.take(),
            server_name: args.gateway_server_name.take(),
            identity: args.gateway_cert.take().zip(args.gateway_key.take()),
        };
        let token = args.control_token.take().map(ControlToken::new);
        let access = ControlAccess::new(token, &tls).map_err(Failure::usage)?;
        (FrontDoor::Others(std::mem::take(&mut args.gateways), access), None)
    };
    let readings = Readings::default();
    let external_scaler = args.external_scaler.bind(&readings).await.map_err(Failure::usage)?;
    let store = wire::store(&args.state_dir)?;
    let sources = Sources::new(clock).with(AwsSources::default());
    let mut fleets = Vec::new();
    let mut groups = GroupFleets::default();
    let mut running = BTreeMap::new();
    for scaler in scalers {
        let fleet = OpenFleet::open(&scaler, &args.state_dir, &mut groups, clock).await?;
        let name = scaler.spec.scaler.clone();
        let measured = measure::named(&scaler, &|name| std::env::var(name).ok())
            .and_then(|signals| measure::poll(&scaler, &signals, &sources, clock))
            .map_err(|error| Failure::usage(anyhow!("`{name}`: {error}")))?;
        let started =
            start(scaler, &door, &fleet, measured, Arc::clone(&store), clock, shutdown.clone()).await?;
        fleets.push(fleet);
        running.insert(name, started);
    }
    let controllers =
        running.iter().map(|(name, running)| (name.clone(), running.commands.clone())).collect();
    let metrics = gateway.as_ref().map(Gateway::metrics);
    let page = Page::bind(args.admin, "--admin", args.admin_token, controllers, metrics, clock)
        .await
        .map_err(Failure::usage)?;
    for (name, running) in &running {
        external_scaler::tell(readings.clone(), name.clone(), running.snapshots.clone());
        page.show(Followed {
            snapshots: running.snapshots.clone(),
            decisions: running.decisions.resubscribe(),
            load: None,
            speed: args.speed,
        });
    }
    tell_readiness(&page, &running);
    tracing::info!(page = page.url(), "forewarm runs");
    let external_scaler = match external_scaler {
        Some(scaler) => {
            tracing::info!(listen = %scaler.local_addr()?, "the external scaler listens");
            Some(tokio::spawn(scaler.serve(shutdown.clone())))
        }
        None => None,
    };
    if let Some(gateway) = gateway {
        tracing::info!(listen = %gateway.local_addr()?, "the gateway listens");
        gateway.run(shutdown.clone()).await;
    }
    shutdown.cancelled().await;
    page.readiness().drain();
    for (name, running) in running {
        running.task.await.with_context(|| format!("the controller of `{name}` panicked"))??;
    }
    if let Some(external_scaler) = external_scaler {
        external_scaler.await.context("the external scaler panicked")??;
    }
    let on_exit = match args.on_exit {
        Exit::Keep => Shutdown::KeepRunning,
        Exit::Stop => Shutdown::StopAll,
    };
    for fleet in fleets {
        fleet.shutdown(on_exit).await?;
    }
    if matches!(args.on_exit, Exit::Keep) {
        tracing::info!(
            "replicas run on, and the next `forewarm run` adopts them; `--on-exit stop` would stop them"
        );
    }
    Ok(())
}

/// `/readyz` waits for the first decision of each scaler.
fn tell_readiness(page: &Page, running: &BTreeMap<forewarm_core::ScalerId, Running>) {
    for (name, running) in running {
        let token = page.readiness().token(format!("{name}: first decision"));
        let mut snapshots = running.snapshots.clone();
        tokio::spawn(async move {
            if snapshots.wait_for(Option::is_some).await.is_ok() {
                token.ready();
            }
        });
    }
}

async fn start(
    scaler: CheckedScaler,
    door: &FrontDoor,
    fleet: &OpenFleet,
    mut signals: Vec<Arc<dyn ports::SignalSet>>,
    store: Arc<Store>,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<Running, Failure> {
    signals.extend(fleet.signals());
    let gateway = scaler.takes_requests().then(|| door.gateway(&scaler));
    let parts = Parts {
        spec: scaler.spec,
        models: scaler.models,
        routing: scaler.routing,
        queue: scaler.queue,
        concurrency: Concurrency {
            learned: scaler.engine.learns_concurrency,
            slow_start: scaler.engine.slow_start,
        },
        kv_tokens: match scaler.engine.kv_tokens {
            Some(KvTokens::Tokens(tokens)) => Some(tokens),
            Some(KvTokens::Auto) | None => None,
        },
        speaks_tls: scaler.engine.tls.is_some(),
        fleet: fleet.fleet(),
        gateway,
        signals,
        store,
        clock,
    };
    Ok(wire::start(parts, shutdown).await)
}
