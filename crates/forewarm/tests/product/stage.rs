//! A gateway and a controller in processes of their own, with engines under them, in compressed time.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use forewarm_load::{LoadConfig, LoadReport};
use forewarm_workload::{Request, Workload};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// How much faster than the wall's the modelled time runs.
const SPEED: f64 = 20.0;
/// Longest wait on the wall for anything, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program to its end.
pub(crate) fn forewarm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forewarm")).args(args).output().unwrap()
}

/// A workload of these requests.
pub(crate) fn requests(requests: impl Iterator<Item = Request>) -> Workload {
    Workload { requests: requests.collect(), notes: Vec::new() }
}

/// What most tests scale by.
const QUEUE_DEPTH: &str = "  policy: {queueDepth: {perReplica: 2}}\n  \
     behavior: {scaleDown: {stabilizationWindowSeconds: 20}}\n";
/// forewarm's own policy.
const FOREWARM: &str = "  policy: {forewarm: {}}\n  objective: {ttft: 5s, percent: 95}\n";

/// Everything that runs for one test.
pub(crate) struct Stage {
    directory: TempDir,
    gateways: std::sync::Mutex<Vec<Child>>,
    controller: std::sync::Mutex<Option<Child>>,
    /// Where clients connect to each gateway.
    pub(crate) listens: Vec<String>,
    /// Where the controller does.
    controls: Vec<String>,
    admin: String,
    name: String,
    http: reqwest::Client,
}

impl Stage {
    /// Engines of four slots each, between `min` and `max` of them.
    pub(crate) async fn start(name: &str, min: u32, max: u32) -> Self {
        Self::start_all(name, min, max, &engine(), QUEUE_DEPTH).await
    }

    /// The same, with so many gateways.
    pub(crate) async fn start_gateways(name: &str, min: u32, max: u32, gateways: usize) -> Self {
        let stage = Self::prepare(name, min, max, &engine(), QUEUE_DEPTH, gateways, gateways);
        for number in 0..gateways {
            stage.start_gateway(number, number, &[]);
        }
        stage.start_controller().await;
        stage
    }

    /// One place for clients, and two control addresses: for a gateway, and the one that takes its place.
    pub(crate) async fn start_replaceable(name: &str, min: u32, max: u32) -> Self {
        let stage = Self::prepare(name, min, max, &engine(), QUEUE_DEPTH, 1, 2);
        stage.replace_gateway(0);
        stage.start_controller().await;
        stage
    }

    /// Starts a gateway at one of the control addresses, which takes the place of the one before.
    pub(crate) fn replace_gateway(&self, control: usize) {
        let path = self.directory.path().join("gateway.sock").display().to_string();
        self.start_gateway(0, control, &["--handover", &path]);
    }

    /// Such engines, scaled by forewarm's own policy.
    pub(crate) async fn start_anticipating(name: &str, min: u32, max: u32) -> Self {
        Self::start_all(name, min, max, &engine(), FOREWARM).await
    }

    /// Replicas of any command.
    pub(crate) async fn start_with(name: &str, min: u32, max: u32, command: &[&str]) -> Self {
        let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        Self::start_all(name, min, max, &command, QUEUE_DEPTH).await
    }

    async fn start_all(name: &str, min: u32, max: u32, command: &[String], policy: &str) -> Self {
        let stage = Self::prepare(name, min, max, command, policy, 1, 1);
        stage.start_gateway(0, 0, &[]);
        stage.start_controller().await;
        stage
    }

    fn prepare(
        name: &str,
        min: u32,
        max: u32,
        command: &[String],
        policy: &str,
        listens: usize,
        controls: usize,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let manifest = format!(
            "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: {name}}}\nspec:\n  \
             target: {{processes: {{command: {}, port: 0}}}}\n  engine: {{kind: vllm, maxConcurrency: 4}}\n  \
             models: [m]\n  environment: dev\n  replicas: {{min: {min}, max: {max}}}\n  \
             coldStart: {{expected: 20s, deadline: 10m}}\n{policy}",
            serde_json::to_string(command).unwrap()
        );
        std::fs::write(directory.path().join("forewarm.yaml"), manifest).unwrap();
        Self {
            directory,
            gateways: std::sync::Mutex::default(),
            controller: std::sync::Mutex::default(),
            listens: (0..listens).map(|_| free_address()).collect(),
            controls: (0..controls).map(|_| free_address()).collect(),
            admin: free_address(),
            name: name.to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    fn start_gateway(&self, listen: usize, control: usize, more: &[&str]) {
        let speed = SPEED.to_string();
        let mut args =
            vec!["gateway", "--listen", &self.listens[listen], "--control", &self.controls[control]];
        args.extend(["--speed", &speed, "--log=warn", "--control-token=secret"]);
        args.extend(more);
        self.gateways.lock().unwrap().push(spawn(&args));
    }

    /// Ends a gateway without any chance to say goodbye.
    pub(crate) fn kill_gateway(&self, number: usize) {
        let mut child = self.gateways.lock().unwrap().remove(number);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until the oldest gateway has ended in order.
    pub(crate) async fn gateway_ends(&self) {
        let mut child = self.gateways.lock().unwrap().remove(0);
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the gateway does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(status.success(), "{status}");
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Starts a controller, and waits until it is ready.
    pub(crate) async fn start_controller(&self) {
        let file = self.directory.path().join("forewarm.yaml").display().to_string();
        let state = self.state().display().to_string();
        let speed = SPEED.to_string();
        let mut args = vec![
            "run",
            "-f",
            &file,
            "--admin",
            &self.admin,
            "--state-dir",
            &state,
            "--speed",
            &speed,
            "--on-exit=stop",
            "--control-token=secret",
            "--log=warn",
        ];
        args.extend(self.controls.iter().flat_map(|control| ["--gateway", control]));
        let child = spawn(&args);
        *self.controller.lock().unwrap() = Some(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.http.get(format!("http://{}/readyz", self.admin)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(Instant::now() < deadline, "the controller is not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the controller without any chance to say goodbye.
    pub(crate) fn kill_controller(&self) {
        let mut child = self.controller.lock().unwrap().take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until what the admin port says of the scaler satisfies the predicate.
    pub(crate) async fn until(&self, what: &str, predicate: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let url = format!("http://{}/api/v1/scalers/{}", self.admin, self.name);
        let mut last = Value::Null;
        while Instant::now() < deadline {
            if let Ok(answer) = self.http.get(&url).send().await
                && let Ok(scaler) = answer.json::<Value>().await
            {
                last = scaler;
                if last.get("scaler").is_some() && predicate(&last) {
                    return last;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("waited for {what} in vain; the last view: {last:#}");
    }

    /// Waits until this many replicas are ready.
    pub(crate) async fn ready(&self, count: usize) {
        self.until("ready replicas", |scaler| {
            let replicas = scaler["replicas"].as_array().unwrap();
            replicas.iter().filter(|replica| replica["phase"] == "ready").count() >= count
        })
        .await;
    }

    /// Sends a workload through the gateway.
    pub(crate) async fn load(&self, workload: Workload) -> LoadReport {
        self.load_at(0, workload).await
    }

    /// Sends a workload through one of several gateways.
    pub(crate) async fn load_at(&self, gateway: usize, workload: Workload) -> LoadReport {
        let config = LoadConfig {
            target: self.listens[gateway].clone(),
            model: "m".to_owned(),
            speed: SPEED,
            stream: true,
            deadline: PATIENCE,
            full_prompts: false,
        };
        let (progress, _) = watch::channel(Default::default());
        forewarm_load::run(config, &workload, progress, CancellationToken::new()).await.unwrap()
    }

    /// The process ids that the registry has.
    pub(crate) fn processes(&self) -> Vec<u64> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.state().join("fleets")).unwrap() {
            let text = std::fs::read(entry.unwrap().path().join("registry.json")).unwrap();
            let registry: Value = serde_json::from_slice(&text).unwrap();
            let replicas = registry["replicas"].as_object().unwrap();
            found.extend(replicas.values().filter_map(|replica| replica["process"]["pid"].as_u64()));
        }
        found
    }

    /// Ends one replica without any chance to say goodbye.
    pub(crate) fn kill_a_replica(&self) {
        let pid = self.processes()[0].to_string();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    }

    /// Stops everything in order; every process must be gone afterwards. Returns the state directory.
    pub(crate) async fn stop(mut self) -> StateDirectory {
        let processes = self.processes();
        let child = self.controller.lock().unwrap().take();
        if let Some(child) = child {
            end(child).await;
        }
        for pid in processes {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let ours = String::from_utf8_lossy(&environment).contains(&*self.state().to_string_lossy());
            assert!(!ours, "replica process {pid} outlived its controller");
        }
        for gateway in std::mem::take(self.gateways.get_mut().unwrap()) {
            end(gateway).await;
        }
        StateDirectory(self)
    }
}

/// What a stage leaves behind.
pub(crate) struct StateDirectory(Stage);

impl StateDirectory {
    pub(crate) fn path(&self) -> PathBuf {
        self.0.state()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A test that failed leaves nothing running either.
        let mut gateways = self.gateways.lock().unwrap();
        for child in self.controller.lock().unwrap().iter_mut().chain(gateways.iter_mut()) {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() && self.state().join("fleets").exists() {
            for pid in self.processes() {
                drop(Command::new("kill").args(["-9", &pid.to_string()]).status());
            }
        }
    }
}

/// An engine of four slots, as a replica's command.
fn engine() -> Vec<String> {
    let speed = format!("--speed={SPEED}");
    let words = [
        env!("CARGO_BIN_EXE_forewarm"),
        "engine",
        "--port={port}",
        "--model=m",
        "--slots=4",
        "--cold-start=20s",
        &speed,
        "--shutdown-timeout=60s",
    ];
    words.map(str::to_owned).to_vec()
}

fn spawn(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_forewarm")).args(args).stdin(Stdio::null()).spawn().unwrap()
}

/// SIGTERM, and wait.
async fn end(mut child: Child) {
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
