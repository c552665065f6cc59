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
    gateway: Child,
    controller: std::sync::Mutex<Option<Child>>,
    listen: String,
    control: String,
    admin: String,
    name: String,
    http: reqwest::Client,
}

impl Stage {
    /// Engines of four slots each, between `min` and `max` of them.
    pub(crate) async fn start(name: &str, min: u32, max: u32) -> Self {
        Self::start_all(name, min, max, &engine(), QUEUE_DEPTH).await
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
        let directory = tempfile::tempdir().unwrap();
        let manifest = format!(
            "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: {name}}}\nspec:\n  \
             target: {{processes: {{command: {}, port: 0}}}}\n  engine: {{kind: vllm, maxConcurrency: 4}}\n  \
             models: [m]\n  environment: dev\n  replicas: {{min: {min}, max: {max}}}\n  \
             coldStart: {{expected: 20s, deadline: 10m}}\n{policy}",
            serde_json::to_string(command).unwrap()
        );
        std::fs::write(directory.path().join("forewarm.yaml"), manifest).unwrap();
        let [listen, control, admin] = [free_address(), free_address(), free_address()];
        let gateway = spawn(&[
            "gateway",
            "--listen",
            &listen,
            "--control",
            &control,
            "--speed",
            &SPEED.to_string(),
            "--log=warn",
            "--control-token=secret",
        ]);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let controller = std::sync::Mutex::new(None);
        let stage =
            Self { directory, gateway, controller, listen, control, admin, name: name.to_owned(), http };
        stage.start_controller().await;
        stage
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Starts a controller, and waits until it is ready.
    pub(crate) async fn start_controller(&self) {
        let file = self.directory.path().join("forewarm.yaml").display().to_string();
        let state = self.state().display().to_string();
        let child = spawn(&[
            "run",
            "-f",
            &file,
            "--gateway",
            &self.control,
            "--admin",
            &self.admin,
            "--state-dir",
            &state,
            "--speed",
            &SPEED.to_string(),
            "--on-exit=stop",
            "--control-token=secret",
            "--log=warn",
        ]);
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
        let config = LoadConfig {
            target: self.listen.clone(),
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
        let gateway = std::mem::replace(&mut self.gateway, Command::new("true").spawn().unwrap());
        end(gateway).await;
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
        for child in self.controller.lock().unwrap().iter_mut().chain([&mut self.gateway]) {
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
