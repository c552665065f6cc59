//! A gateway and a controller in processes of their own, and the replicas that the controller starts.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use forewarm_core::{
    ScalerId,
    pool::{PoolPlan, PoolReport, QueueLimits},
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

use crate::replica::{COMMANDS, Mode};

/// How much faster than the wall's the modelled time runs.
const SPEED: f64 = 20.0;
/// Requests that a replica is given at a time.
const SLOTS: u32 = 16;
/// Longest wait on the wall for anything, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(20);
/// The scaler.
const POOL: &str = "chaos";
/// A pool without replicas, and for how long a request waits there.
const HELD: &str = "held";
const HOLDS: Duration = Duration::from_secs(24 * 60 * 60);

/// Everything that runs.
pub(crate) struct Stage {
    directory: TempDir,
    /// The last one accepts.
    gateways: Vec<Child>,
    controller: Option<Child>,
    pub(crate) listen: String,
    /// Control ports of the gateway and of the one that takes its place, which one being told by `active`.
    controls: [String; 2],
    active: usize,
    /// What gateways had seen that are gone.
    retired: PoolReport,
    admin: String,
    http: reqwest::Client,
}

/// A replica that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Victim {
    pub(crate) pid: u32,
    port: u16,
}

impl Stage {
    /// Starts everything and waits for the first replicas.
    pub(crate) async fn start(seed: u64, replicas: u32, faults: u64) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        std::fs::create_dir(directory.path().join("alive"))?;
        std::fs::write(
            directory.path().join("forewarm.yaml"),
            manifest(directory.path(), seed, replicas, faults)?,
        )?;
        let [listen, control, other, admin] =
            [free_address()?, free_address()?, free_address()?, free_address()?];
        let gateway = start_gateway(directory.path(), &listen, &control)?;
        // Who has been idle for long may be hung up on in the very moment of asking again.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
        let mut stage = Self {
            directory,
            gateways: vec![gateway],
            controller: None,
            listen,
            controls: [control, other],
            active: 0,
            retired: PoolReport::default(),
            admin,
            http,
        };
        stage.start_controller()?;
        stage.until("the first replicas", |stage| Ok(stage.alive()?.len() >= replicas as usize)).await?;
        Ok(stage)
    }

    pub(crate) fn ledgers(&self) -> PathBuf {
        self.directory.path().join("ledgers")
    }

    pub(crate) fn start_controller(&mut self) -> Result<()> {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let (file, state, speed) = (path("forewarm.yaml"), path("state"), SPEED.to_string());
        self.controller = Some(spawn(&[
            "run",
            "--file",
            &file,
            "--gateway",
            &self.controls[0],
            "--gateway",
            &self.controls[1],
            "--admin",
            &self.admin,
            "--state-dir",
            &state,
            "--speed",
            &speed,
            "--on-exit=stop",
            "--log=error",
        ])?);
        Ok(())
    }

    /// Ends the controller without any chance to say goodbye.
    pub(crate) fn kill_controller(&mut self) -> Result<()> {
        let mut child = self.controller.take().context("a controller that runs")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Replicas that serve, or did a moment ago.
    pub(crate) fn alive(&self) -> Result<Vec<Victim>> {
        let mut alive = Vec::new();
        for entry in std::fs::read_dir(self.directory.path().join("alive"))? {
            let entry = entry?;
            // One may leave between the two looks, or be about to say its port.
            let port = std::fs::read_to_string(entry.path()).ok().and_then(|port| port.parse().ok());
            let pid = entry.file_name().to_str().and_then(|pid| pid.parse().ok());
            alive.extend(pid.zip(port).map(|(pid, port)| Victim { pid, port }));
        }
        alive.sort_unstable();
        Ok(alive)
    }

    /// Ends a replica without any chance to say goodbye; `false` where it is gone already.
    pub(crate) fn kill(&self, victim: Victim) -> Result<bool> {
        // A process id may be somebody else's by now.
        let command = std::fs::read(format!("/proc/{}/cmdline", victim.pid)).unwrap_or_default();
        let is_ours = String::from_utf8_lossy(&command).contains(&*self.directory.path().to_string_lossy());
        if is_ours {
            Command::new("kill").args(["-9", &victim.pid.to_string()]).stderr(Stdio::null()).status()?;
        }
        let note = self.directory.path().join("alive").join(victim.pid.to_string());
        match std::fs::remove_file(note) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(is_ours),
        }
    }

    /// Tells a replica what to do from now on; one that is gone does not mind.
    pub(crate) async fn set(&self, victim: Victim, mode: Mode) {
        let url = format!("http://127.0.0.1:{}{COMMANDS}{}", victim.port, mode.name());
        drop(self.http.get(url).timeout(Duration::from_secs(2)).send().await);
    }

    async fn report(&self, gateway: usize, pool: &str) -> Result<PoolReport> {
        let url = self.pool(gateway, pool);
        let answer = self.http.get(url).send().await.context("the gateway does not say what it has seen")?;
        Ok(answer.error_for_status()?.json().await?)
    }

    fn pool(&self, gateway: usize, pool: &str) -> String {
        format!("http://{}/forewarm/v1/pools/{pool}", self.controls[gateway])
    }

    /// Starts a gateway that takes the sockets of the one that runs, and waits until that has finished what it had.
    pub(crate) async fn replace_gateway(&mut self) -> Result<()> {
        let (old, new) = (self.active, 1 - self.active);
        let held = self.hold(old).await?;
        let path = self.directory.path();
        self.gateways.push(start_gateway(path, &self.listen, &self.controls[new])?);
        self.active = new;
        let deadline = Instant::now() + PATIENCE;
        let url = format!("http://{}/readyz", self.controls[old]);
        let report = loop {
            // It is ready until the other one accepts.
            let is_closing = !self.http.get(&url).send().await?.status().is_success();
            let report = self.report(old, POOL).await?;
            if is_closing && report.queued == 0 && report.in_flight_sum() == 0 {
                break report;
            }
            if Instant::now() > deadline {
                bail!("the gateway does not finish what it has: {report:?}");
            }
            tokio::time::sleep(GLANCE).await;
        };
        add(&mut self.retired, &report);
        drop(held);
        let mut child = self.gateways.remove(0);
        tokio::task::spawn_blocking(move || child.wait()).await??;
        Ok(())
    }

    /// Keeps a gateway from ending, by a request that nobody serves, until the connection is dropped: what it has
    /// counted is to be read when all else is over.
    async fn hold(&self, gateway: usize) -> Result<TcpStream> {
        let plan = PoolPlan {
            scaler: ScalerId::from(HELD),
            models: vec![HELD.to_owned()],
            endpoints: Vec::new(),
            ready_in_seconds: None,
            queue: QueueLimits {
                max_requests: 1,
                max_bytes: 1 << 10,
                timeout: HOLDS,
                cold_start_timeout: HOLDS,
                ttft_objective: None,
                tenants: Default::default(),
            },
            concurrency: Default::default(),
            routing: Default::default(),
        };
        self.http.put(self.pool(gateway, HELD)).json(&plan).send().await?.error_for_status()?;
        let mut stream = TcpStream::connect(&self.listen).await?;
        let body = format!(r#"{{"model":"{HELD}"}}"#);
        let head =
            format!("POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await?;
        while self.report(gateway, HELD).await?.queued == 0 {
            tokio::time::sleep(GLANCE).await;
        }
        Ok(stream)
    }

    /// What all gateways have seen once nothing waits or is at a replica any more.
    pub(crate) async fn settled(&self) -> Result<PoolReport> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut report = self.report(self.active, POOL).await?;
            if report.queued == 0 && report.in_flight_sum() == 0 || Instant::now() > deadline {
                add(&mut report, &self.retired);
                return Ok(report);
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    async fn until(&self, what: &str, is: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is(self)? {
            if Instant::now() > deadline {
                bail!("waited for {what} in vain");
            }
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    }

    /// Stops everything in order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(controller) = &self.controller {
            terminate(controller)?;
        }
        for gateway in &self.gateways {
            terminate(gateway)?;
        }
        if let Some(mut controller) = self.controller.take() {
            tokio::task::spawn_blocking(move || controller.wait()).await??;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in self.controller.iter_mut().chain(&mut self.gateways) {
            drop(child.kill());
            drop(child.wait());
        }
        for victim in self.alive().unwrap_or_default() {
            drop(self.kill(victim));
        }
    }
}

fn manifest(directory: &Path, seed: u64, replicas: u32, faults: u64) -> Result<String> {
    let program = std::env::current_exe()?.display().to_string();
    let directory = directory.display();
    let command = [
        program,
        "replica".to_owned(),
        "--port={port}".to_owned(),
        format!("--directory={directory}"),
        format!("--seed={seed}"),
        format!("--slots={SLOTS}"),
        format!("--speed={SPEED}"),
        format!("--faults={faults}"),
    ];
    Ok(format!(
        "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: chaos}}\nspec:\n  \
         target: {{processes: {{command: {}, port: 0}}}}\n  engine: {{kind: vllm, maxConcurrency: {SLOTS}}}\n  \
         models: [m]\n  environment: dev\n  replicas: {{min: {replicas}, max: {}}}\n  \
         coldStart: {{expected: 10s, deadline: 10m}}\n  policy: {{queueDepth: {{perReplica: 4}}}}\n  \
         queue: {{maxRequests: 100000, timeout: 30m, coldStartTimeout: 30m}}\n",
        serde_json::to_string(&command)?,
        replicas + 2,
    ))
}

fn start_gateway(directory: &Path, listen: &str, control: &str) -> Result<Child> {
    let (speed, handover) = (SPEED.to_string(), directory.join("gateway.sock").display().to_string());
    let args =
        ["gateway", "--listen", listen, "--control", control, "--handover", &handover, "--speed", &speed];
    spawn(&[&args[..], &["--log=error"]].concat())
}

/// Adds what another gateway has counted.
fn add(report: &mut PoolReport, other: &PoolReport) {
    report.arrived_total += other.arrived_total;
    report.succeeded_total += other.succeeded_total;
    report.refused_total += other.refused_total;
    for (cause, count) in &other.failed_total {
        *report.failed_total.entry(cause.clone()).or_default() += count;
    }
}

fn spawn(args: &[&str]) -> Result<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forewarm"));
    Ok(command.args(args).stdin(Stdio::null()).spawn()?)
}

fn terminate(child: &Child) -> Result<()> {
    Command::new("kill").arg(child.id().to_string()).status()?;
    Ok(())
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
