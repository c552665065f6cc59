//! `forewarm run` over an Auto Scaling group of a real API server, whose instances run engines.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    collections::BTreeMap,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use forewarm_load::{LoadConfig, LoadReport};
use forewarm_testbed::{Cloud, Machine, Moto, assets, free_port};
use forewarm_workload::{Request, Workload};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

const SPEED: f64 = 20.0;
/// Longest wait on the wall for anything, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
const GROUP: &str = "llm-gpu-asg";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_becomes_instances_that_drain_and_go_and_no_request_is_lost() {
    let Some(stage) = Stage::start().await else { return };
    stage.until("the least", |scaler| ready(scaler) == 1).await;
    let load = stage.load(steady(120, 0.1));
    let grows = stage.until("more instances", |scaler| ready(scaler) >= 2);
    let (report, _) = tokio::join!(load, grows);
    let shrunk = stage.until("the least again", |scaler| replicas(scaler) == 1 && ready(scaler) == 1).await;
    println!("{:?}\n{:?}", report.requests, stage.cloud.calls());
    let requests = &report.requests;
    assert_eq!((requests.succeeded, requests.failed, requests.lost), (120, 0, 0), "{requests:?}");
    assert_eq!(stage.cloud.machines(GROUP).await.unwrap().len(), 1, "{shrunk}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_that_fails_in_every_way_costs_no_request_and_no_instance() {
    let Some(stage) = Stage::start().await else { return };
    stage.until("the least", |scaler| ready(scaler) == 1).await;
    let first = stage.cloud.machines(GROUP).await.unwrap();
    stage.cloud.faults(|faults| faults.delay = Duration::from_millis(200));
    for action in ["DescribeAutoScalingGroups", "SetDesiredCapacity", "DescribeInstances"] {
        stage.cloud.throttle(action, 2);
    }
    stage.cloud.run_out_of_capacity();
    let load = stage.load(steady(400, 0.1));
    let faults = async {
        let told = |scaler: &Value| scaler.to_string().contains("InsufficientInstanceCapacity");
        stage.until("why no instance comes", told).await;
        stage.cloud.faults(|faults| (faults.down, faults.delay) = (true, Duration::ZERO));
        // Unseen, and held: no replica to show, and the target as it was.
        let held = stage.until("that AWS does not answer", |scaler| replicas(scaler) == 0).await;
        assert_eq!(held["targetReplicas"], 4, "{held}");
        stage.cloud.faults(|faults| faults.down = false);
        stage.cloud.find_capacity().await.unwrap();
        stage.until("more instances", |scaler| ready(scaler) >= 2).await;
    };
    let (report, ()) = tokio::join!(load, faults);
    println!("{:?}\n{:?}", report.requests, stage.cloud.calls());
    let requests = &report.requests;
    assert_eq!((requests.succeeded, requests.failed, requests.lost), (400, 0, 0), "{requests:?}");
    let left = stage.until("the least again", |scaler| replicas(scaler) == 1).await;
    assert!(!first.is_empty(), "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_stands_by_and_who_else_sets_the_number() {
    let Some(stage) = Stage::start().await else { return };
    stage.until("the least", |scaler| ready(scaler) == 1).await;
    stage.cloud.fill_warm_pool(GROUP, 1).await.unwrap();
    let standby = |scaler: &Value| {
        let warm = &scaler["coldStart"]["warm"][0];
        warm["tier"] == "stopped" && warm["standby"] == 1
    };
    let shown = stage.until("what stands by", standby).await;
    assert!(shown["notices"].as_array().unwrap().is_empty(), "a pool is no change of the number: {shown}");
    stage.cloud.set_by_hand(GROUP, 2).await.unwrap();
    let named = |scaler: &Value| {
        let notices = scaler["notices"].as_array().unwrap();
        let words = "somebody else set the number of replicas from 1 to 2: At";
        notices.iter().any(|notice| notice.as_str().unwrap().starts_with(words))
    };
    stage.until("who else sets the number", named).await;
}

/// What EKS gives a pod whose service account has a role: two variables and a file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_the_role_of_the_pods_service_account() {
    let Ok(assets) = assets("moto").inspect_err(skipped) else { return };
    let directory = tempfile::tempdir().unwrap();
    let moto = Moto::start(&assets, directory.path()).await.unwrap();
    let cloud = Cloud::start(&moto.address).await.unwrap();
    cloud.ask("sqs", "CreateQueue", &[("QueueName", "llm")]).await.unwrap();
    let url = format!("{}/123456789012/llm", moto.address);
    for body in ["a", "b", "c"] {
        cloud.ask("sqs", "SendMessage", &[("QueueUrl", &url), ("MessageBody", body)]).await.unwrap();
    }
    let manifest = format!(
        "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: llm}}\nspec:\n  \
         target: {{kubernetes: {{kind: Deployment, name: llm}}}}\n  replicas: {{min: 1, max: 4}}\n  \
         policy: {{queueDepth: {{perReplica: 2}}}}\n  \
         signals:\n    - {{name: waiting, awsSqsQueue: {{queueURL: '{url}'}}}}\n"
    );
    let file = directory.path().join("forewarm.yaml");
    std::fs::write(&file, manifest).unwrap();
    let ask = |token: &str| {
        let mut test = Command::new(env!("CARGO_BIN_EXE_forewarm"));
        test.args(["signal", "test", "-f"]).arg(&file);
        for (name, value) in [
            ("AWS_ENDPOINT_URL", moto.address.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/forewarm"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ] {
            test.env(name, value);
        }
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"] {
            test.env_remove(name);
        }
        let output = test.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let token = directory.path().join("token");
    std::fs::write(&token, "a token that moto does not look at").unwrap();
    let (code, said) = ask(&token.display().to_string());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("    3, 0.0 s old") && said.contains("1 → 2 replicas"), "{said}");
    let (code, said) = ask("/nowhere/token");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("credentials"), "{said}");
}

#[expect(clippy::print_stdout, reason = "how a test says that it did not run")]
fn skipped(why: &forewarm_testbed::NotFetched) {
    println!("skipped: {why}");
}

fn phases(scaler: &Value) -> Vec<&str> {
    let replicas = scaler["replicas"].as_array().unwrap();
    replicas.iter().filter_map(|replica| replica["phase"].as_str()).collect()
}

fn replicas(scaler: &Value) -> usize {
    phases(scaler).len()
}

fn ready(scaler: &Value) -> usize {
    phases(scaler).into_iter().filter(|phase| *phase == "ready").count()
}

/// A steady stream of short requests, in modelled seconds.
fn steady(count: u32, every_seconds: f64) -> Workload {
    let request = |index| Request {
        arrival: Duration::from_secs_f64(f64::from(index) * every_seconds),
        input_tokens: 500,
        output_tokens: 200,
        cached_tokens: 0,
    };
    Workload { requests: (0..count).map(request).collect(), notes: Vec::new() }
}

/// A cloud, its instances' engines, and a controller over them.
struct Stage {
    controller: Child,
    machines: JoinHandle<()>,
    cloud: Arc<Cloud>,
    _moto: Moto,
    _directory: TempDir,
    listen: String,
    admin: String,
    http: reqwest::Client,
}

impl Stage {
    /// `None` where moto was not fetched.
    async fn start() -> Option<Self> {
        let assets = assets("moto").inspect_err(skipped).ok()?;
        let directory = tempfile::tempdir().unwrap();
        let moto = Moto::start(&assets, directory.path()).await.unwrap();
        let cloud = Arc::new(Cloud::start(&moto.address).await.unwrap());
        cloud.faults(|faults| faults.start_up = Duration::from_millis(400));
        cloud.create_group(GROUP, 1, 4).await.unwrap();
        cloud.put_hook(GROUP, true).await.unwrap();
        cloud.put_hook(GROUP, false).await.unwrap();
        let port = free_port().unwrap();
        let manifest = format!(
            "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: llm}}\nspec:\n  \
             target: {{awsAutoScalingGroup: {{name: {GROUP}, address: '{{privateIp}}:{port}'}}}}\n  \
             engine: {{kind: vllm, maxConcurrency: 4}}\n  models: [m]\n  environment: dev\n  \
             replicas: {{min: 1, max: 4}}\n  coldStart: {{expected: 20s, deadline: 10m}}\n  \
             policy: {{queueDepth: {{perReplica: 2}}}}\n  \
             behavior: {{scaleDown: {{stabilizationWindowSeconds: 20}}}}\n"
        );
        let file = directory.path().join("forewarm.yaml");
        std::fs::write(&file, manifest).unwrap();
        let (listen, admin) = (free_address(), free_address());
        let state = directory.path().join("state");
        let mut controller = Command::new(env!("CARGO_BIN_EXE_forewarm"));
        controller.arg("run").arg("-f").arg(&file).arg("--state-dir").arg(&state);
        controller.args([
            "--listen",
            &listen,
            "--admin",
            &admin,
            "--speed",
            &SPEED.to_string(),
            "--log=warn",
        ]);
        for (name, value) in [
            ("AWS_ENDPOINT_URL", cloud.url().as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ] {
            controller.env(name, value);
        }
        let controller = controller.stdin(Stdio::null()).spawn().unwrap();
        let machines = tokio::spawn(machines(Arc::clone(&cloud), port));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Some(Self { controller, machines, cloud, _moto: moto, _directory: directory, listen, admin, http })
    }

    /// Waits until what the admin port says of the scaler satisfies the predicate.
    async fn until(&self, what: &str, predicate: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let url = format!("http://{}/api/v1/scalers/llm", self.admin);
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
            sleep(Duration::from_millis(10)).await;
        }
        panic!("waited for {what} in vain; the last view: {last:#}");
    }

    async fn load(&self, workload: Workload) -> LoadReport {
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
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.controller.kill());
        drop(self.controller.wait());
        self.machines.abort();
    }
}

/// An engine on each instance that runs; it dies with its instance.
async fn machines(cloud: Arc<Cloud>, port: u16) {
    let mut engines: BTreeMap<String, Engine> = BTreeMap::new();
    loop {
        if let Ok(machines) = cloud.machines(GROUP).await {
            engines.retain(|id, _| machines.iter().any(|machine| &machine.id == id));
            for machine in machines.into_iter().filter(runs) {
                engines.entry(machine.id).or_insert_with(|| Engine::start(&machine.address, port));
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Neither on its way nor stopped in a warm pool.
fn runs(machine: &Machine) -> bool {
    machine.state != "Pending" && !machine.state.starts_with("Warmed")
}

struct Engine(Child);

impl Engine {
    fn start(address: &str, port: u16) -> Self {
        let mut engine = Command::new(env!("CARGO_BIN_EXE_forewarm"));
        engine.args(["engine", "--host", address, "--port", &port.to_string(), "--model=m", "--slots=4"]);
        engine.args(["--cold-start=10s", "--speed", &SPEED.to_string(), "--log=warn"]);
        Self(engine.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // An instance that is terminated takes no leave.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
