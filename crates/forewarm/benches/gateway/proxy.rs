//! What is measured: a process on a core of its own, with the time and the memory that it takes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use forewarm_core::{
    ReplicaId, ScalerId,
    pool::{Affinity, Concurrency, Endpoint, PoolPlan, PoolReport, QueueLimits, Routing, Tenants},
};

use crate::{client::Connection, cores};

/// Longest time for a proxy to answer for the first time; an interpreter with its libraries takes some.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// More than there are requests in any case: nobody waits.
const NO_QUEUE: u32 = 20_000;
/// The same, in tokens.
const KV_TOKENS: u64 = 1 << 40;

/// Who passes requests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    HaProxy,
    /// hyper, and nothing on it.
    Hyper,
    /// Ours, with nothing asked of it but to pass on.
    PassThrough,
    /// Ours, with everything on.
    Features,
    SglangRouter,
    LiteLlm,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx",
            Kind::HaProxy => "HAProxy",
            Kind::Hyper => "bare hyper proxy",
            Kind::PassThrough => "forewarm, pass-through",
            Kind::Features => "forewarm, all features",
            Kind::SglangRouter => "sglang-router",
            Kind::LiteLlm => "LiteLLM",
        }
    }
}

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// Where ours takes plans.
    control: Option<SocketAddr>,
    child: Option<Child>,
    _directory: tempfile::TempDir,
}

/// What a proxy has taken so far.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: u64,
}

impl Proxy {
    /// Starts one in front of a replica.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub(crate) async fn start(kind: Kind, upstream: SocketAddr, peers: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (address, control) = (free_port()?, free_port()?);
        let template = |template: &str, name: &str| -> Result<PathBuf> {
            let text = template
                .replace("@DIR@", &directory.path().to_string_lossy())
                .replace("@PORT@", &address.port().to_string())
                .replace("@UPSTREAM@", &upstream.port().to_string());
            let path = directory.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let port = address.port().to_string();
        let (program, arguments): (PathBuf, Vec<String>) = match kind {
            Kind::Nginx => {
                let file = template(include_str!("nginx.conf"), "nginx.conf")?;
                let prefix = directory.path().to_string_lossy().into_owned();
                let file = file.to_string_lossy().into_owned();
                (peers.join("debian/usr/sbin/nginx"), vec!["-p".to_owned(), prefix, "-c".to_owned(), file])
            }
            Kind::HaProxy => {
                let file = template(include_str!("haproxy.cfg"), "haproxy.cfg")?;
                let file = file.to_string_lossy().into_owned();
                (peers.join("debian/usr/sbin/haproxy"), vec!["-db".to_owned(), "-f".to_owned(), file])
            }
            Kind::Hyper => {
                let arguments = ["--floor".to_owned(), address.to_string(), upstream.to_string()];
                (std::env::current_exe()?, arguments.to_vec())
            }
            Kind::PassThrough | Kind::Features => {
                let (address, control) = (address.to_string(), control.to_string());
                let mut arguments =
                    ["gateway", "--listen", &address, "--control", &control].map(str::to_owned).to_vec();
                if kind == Kind::Features {
                    let keys = template(include_str!("keys.yaml"), "keys.yaml")?;
                    arguments.extend(["--keys".to_owned(), keys.to_string_lossy().into_owned()]);
                }
                (env!("CARGO_BIN_EXE_forewarm").into(), arguments)
            }
            Kind::SglangRouter => {
                let urls = format!("http://{upstream}");
                let arguments = ["-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port"];
                let more = [port.as_str(), "--worker-urls", &urls, "--policy", "round_robin"];
                let quiet = ["--log-level", "error", "--disable-circuit-breaker"];
                let arguments = arguments.into_iter().chain(more).chain(quiet).map(str::to_owned);
                (peers.join("python/bin/python"), arguments.collect())
            }
            Kind::LiteLlm => {
                let file = template(include_str!("litellm.yaml"), "litellm.yaml")?;
                let file = file.to_string_lossy().into_owned();
                let arguments =
                    ["--host", "127.0.0.1", "--port", &port, "--num_workers", "1", "--config", &file];
                (peers.join("python/bin/litellm"), arguments.map(str::to_owned).to_vec())
            }
        };
        if !program.exists() {
            bail!("it is not installed");
        }
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", cores::OF_PROXY]).arg(program).args(arguments);
        command.env("LD_LIBRARY_PATH", peers.join("debian/usr/lib/x86_64-linux-gnu"));
        // LiteLLM asks the network for prices otherwise, for as long as a minute.
        command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
        command.stdout(Stdio::null()).stderr(std::fs::File::create(directory.path().join("stderr"))?);
        let child = Some(command.spawn().context("cannot run taskset")?);
        let control = matches!(kind, Kind::PassThrough | Kind::Features).then_some(control);
        let mut proxy = Self { kind, address, control, child, _directory: directory };
        proxy.answers().await?;
        Ok(proxy)
    }

    async fn answers(&mut self) -> Result<()> {
        let first = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
        let addresses: Vec<SocketAddr> = [self.address].into_iter().chain(self.control).collect();
        let begun = tokio::time::Instant::now();
        for address in addresses {
            loop {
                let answer = async { Connection::open(address).await?.exchange(first).await };
                // Where there is no such page, somebody answers all the same.
                match tokio::time::timeout(START_TIMEOUT, answer).await? {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::Other => break,
                    Err(_) if begun.elapsed() < START_TIMEOUT => tokio::time::sleep(LOOK).await,
                    Err(error) => bail!("it does not start: {error}; {}", self.stderr()),
                }
            }
        }
        Ok(())
    }

    /// The last line that it wrote.
    fn stderr(&self) -> String {
        let text = std::fs::read_to_string(self._directory.path().join("stderr")).unwrap_or_default();
        text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
    }

    /// Tells ours where the replica is, and how many requests it takes at a time; none: it has yet to start.
    pub(crate) async fn plan(&self, replica: Option<(SocketAddr, u32)>) -> Result<()> {
        let Some(control) = self.control else { return Ok(()) };
        let features = self.kind == Kind::Features;
        let plan = PoolPlan {
            scaler: ScalerId::from("bench"),
            models: if features { vec!["m".to_owned()] } else { Vec::new() },
            endpoints: replica
                .into_iter()
                .map(|(address, max_concurrency)| Endpoint {
                    replica: ReplicaId::from("replica-0"),
                    address: address.to_string(),
                    max_concurrency,
                    kv_tokens: features.then_some(KV_TOKENS),
                    draining: false,
                })
                .collect(),
            ready_in_seconds: None,
            queue: QueueLimits {
                max_requests: NO_QUEUE,
                max_bytes: 1 << 30,
                timeout: Duration::from_secs(600),
                cold_start_timeout: Duration::from_secs(600),
                ttft_objective: features.then_some(Duration::from_secs(2)),
                tenants: Tenants { user: features, ..Tenants::default() },
            },
            concurrency: Concurrency { slow_start: features, ..Concurrency::default() },
            routing: Routing {
                affinity: features.then_some(Affinity { prefix_bytes: 1024, load_factor: 1.25 }),
                ..Routing::default()
            },
        };
        let body = serde_json::to_string(&plan)?;
        let length = body.len();
        let put = format!(
            "PUT /forewarm/v1/pools/bench HTTP/1.1\r\nhost: control\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        Connection::open(control).await?.exchange(put.as_bytes()).await.context("the plan was not taken")
    }

    /// Requests that wait at ours.
    pub(crate) async fn queued(&self) -> Result<u64> {
        let control = self.control.context("only ours lets requests wait")?;
        let get = b"GET /forewarm/v1/pools/bench HTTP/1.1\r\nhost: control\r\n\r\n";
        let mut connection = Connection::open(control).await?;
        connection.exchange(get).await?;
        let report: PoolReport = serde_json::from_slice(connection.body())?;
        Ok(report.queued)
    }

    /// Starts, and has as many slots as there may be requests.
    pub(crate) async fn serving(kind: Kind, upstream: SocketAddr, peers: &Path) -> Result<Self> {
        let proxy = Self::start(kind, upstream, peers).await?;
        proxy.plan(Some((upstream, NO_QUEUE))).await?;
        Ok(proxy)
    }

    /// What it and its children took so far.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage { cpu: Duration::ZERO, resident_bytes: 0 };
        let mut processes: Vec<u32> = self.child.iter().map(Child::id).collect();
        while let Some(process) = processes.pop() {
            let threads = std::fs::read_dir(format!("/proc/{process}/task"));
            for thread in threads.into_iter().flatten().flatten() {
                let read = |name| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
                // Nanoseconds on a core come first.
                let nanos = read("schedstat").split(' ').next().and_then(|word| word.parse().ok());
                usage.cpu += Duration::from_nanos(nanos.unwrap_or(0));
                processes
                    .extend(read("children").split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
            }
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kibibytes = resident.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
            usage.resident_bytes += kibibytes.unwrap_or(0) << 10;
        }
        usage
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // An order to end, not a kill: nginx's master has to take its worker with it.
        if let Some(child) = &mut self.child {
            let ended = Command::new("kill").arg(child.id().to_string()).status();
            if !ended.is_ok_and(|status| status.success()) || child.wait().is_err() {
                tracing::debug!("a proxy had ended before");
            }
        }
    }
}

fn free_port() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
