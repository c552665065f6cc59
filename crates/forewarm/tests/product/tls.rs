//! Engines that speak TLS. Each is this program, started again with [`an_engine`] as its only test.

use std::{
    fs::File,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use forewarm_engine::{Engine, EngineConfig, EngineProfile};
use forewarm_testbed::{Certificates, Encrypted, free_port};
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::stage::forewarm;

/// Where an engine finds its certificate and its key; their presence makes this program an engine.
const FILES: [&str; 2] = ["TEST_CERTIFICATE", "TEST_KEY"];
/// Longest wait on the wall for anything, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "plays the engine for another test"]
async fn an_engine() {
    let [Some(cert), Some(key)] = FILES.map(std::env::var_os) else { return };
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let config = EngineConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        profile: EngineProfile::simple(4),
        model: "llm".to_owned(),
        ..EngineConfig::default()
    };
    let engine = Engine::start(config, CancellationToken::new()).await.unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let _front = Encrypted::listen(at, engine.address(), cert.as_ref(), key.as_ref()).await.unwrap();
    engine.stopped().await;
}

fn address() -> SocketAddr {
    ([127, 0, 0, 1], free_port().unwrap()).into()
}

/// A controller with its gateway, and one engine under them; or another command of forewarm.
struct Run {
    folder: TempDir,
    listen: SocketAddr,
    admin: SocketAddr,
    child: Child,
}

impl Run {
    /// The engine shows one of `certificates`; the manifest trusts those that `ca` signed.
    fn start(certificates: &Certificates, ca: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = serde_json::json!({
            "command": [std::env::current_exe().unwrap(), "--exact", "tls::an_engine", "--ignored", "--nocapture"],
            "port": 0,
            "env": {FILES[0]: certificates.cert, FILES[1]: certificates.key},
        });
        let manifest = manifest("llm", &format!("processes: {engine}"), &format!("caFile: {}", ca.display()));
        let file = folder.path().join("forewarm.yaml");
        std::fs::write(&file, manifest).unwrap();
        let state = folder.path().join("state");
        let [file, state] = [file, state].map(|path| path.display().to_string());
        let admin = address();
        let arguments = ["--on-exit=stop", "-f", &file, "--state-dir", &state, "--admin", &admin.to_string()];
        Self::of("run", &arguments, folder, admin)
    }

    /// Anything that listens.
    fn of(command: &str, arguments: &[&str], folder: TempDir, admin: SocketAddr) -> Self {
        let listen = address();
        let child = Command::new(env!("CARGO_BIN_EXE_forewarm"))
            .args([command, "--log=warn", "--listen", &listen.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { folder, listen, admin, child }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits for what `look` finds.
    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "waited for {what} in vain:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // In order, so that its engine ends as well.
        drop(Command::new("kill").arg(self.child.id().to_string()).status());
        drop(self.child.wait());
    }
}

fn manifest(name: &str, target: &str, tls: &str) -> String {
    format!(
        "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: {name}}}\nspec:\n  \
         target: {{{target}}}\n  engine: {{scheme: HTTPS, tls: {{{tls}}}}}\n  models: [{name}]\n  \
         environment: dev\n  replicas: {{min: 1, max: 1}}\n  policy: {{queueDepth: {{}}}}\n  \
         signals: [{{name: waiting, engine: {{metric: waiting}}}}]\n"
    )
}

#[tokio::test]
async fn an_engine_that_speaks_tls_is_ready_is_asked_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path()).unwrap();
    let run = Run::start(&certificates, &certificates.ca);
    let body = serde_json::json!({"model": "llm", "prompt": "a request", "max_tokens": 2});
    let url = format!("http://{}/v1/completions", run.listen);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async || http.post(&url).json(&body).send().await.ok().map(|answer| answer.status());
    // The gateway holds it until the engine is ready.
    assert_eq!(run.until("an answer", ask).await, 200, "{}", run.log());
    let signals = async || {
        let url = format!("http://{}/api/v1/scalers/llm", run.admin);
        let view = http.get(url).send().await.ok()?.json::<serde_json::Value>().await.ok()?;
        let signals = view["signals"].as_array().unwrap().clone();
        signals.into_iter().find(|signal| signal["name"] == "waiting" && signal["value"] == 0.0)
    };
    run.until("the engine's own metrics", signals).await;
}

#[tokio::test]
async fn an_engine_whose_certificate_nobody_trusted_signed_is_not_ready_and_the_log_says_why() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let certificates = Certificates::make(folder.path()).unwrap();
    let other = Certificates::make(other.path()).unwrap();
    let run = Run::start(&certificates, &other.ca);
    let said = async || run.log().contains("TLS with the engine comes to nothing").then_some(());
    run.until("a word", said).await;
    assert!(run.log().contains("certificate"), "{}", run.log());
}

#[tokio::test]
async fn the_exporter_asks_an_engine_that_speaks_tls_as_its_flags_say() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path()).unwrap();
    let config = EngineConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        profile: EngineProfile::simple(1),
        ..EngineConfig::default()
    };
    let stop = CancellationToken::new();
    let engine = Engine::start(config, stop.clone()).await.unwrap();
    let at = ([127, 0, 0, 1], 0).into();
    let front = Encrypted::listen(at, engine.address(), &certificates.cert, &certificates.key).await.unwrap();
    let url = format!("https://{}", front.address());
    let ca = certificates.ca.display().to_string();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (trust, expected) in [(vec!["--engine-ca-file", &ca], "1"), (vec![], "0")] {
        let arguments = [vec!["--engine-url", &url], trust].concat();
        let run = Run::of("exporter", &arguments, tempfile::tempdir().unwrap(), address());
        let page = async || {
            let page = http.get(format!("http://{}/metrics", run.listen)).send().await.ok()?;
            let page = page.text().await.ok()?;
            let up = page.lines().find(|line| line.starts_with("forewarm_engine_up{"))?.to_owned();
            Some(up)
        };
        let up = run.until("a page", page).await;
        assert!(up.ends_with(expected), "{up}: {}", run.log());
        assert_eq!(run.log().contains("caFile"), expected == "0", "{}", run.log());
    }
    stop.cancel();
    engine.stopped().await;
}

#[test]
fn one_gateway_speaks_tls_in_one_way() {
    let folder = tempfile::tempdir().unwrap();
    let target = "processes: {command: [engine], port: 0}";
    let refused = |first: &str, second: &str| {
        let file = folder.path().join("forewarm.yaml").display().to_string();
        let text = format!("{}---\n{}", manifest("a", target, first), manifest("b", target, second));
        std::fs::write(&file, text).unwrap();
        let state = folder.path().join("state").display().to_string();
        let output = forewarm(&[
            "run",
            "-f",
            &file,
            "--listen=127.0.0.1:0",
            "--admin=127.0.0.1:0",
            "--state-dir",
            &state,
        ]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused("caFile: a.pem", "caFile: b.pem");
    assert!(said.contains("`spec.engine.tls` of `a` and of `b` differ"), "{said}");
    let said = refused("unsafeSsl: true", "unsafeSsl: true");
    assert!(said.contains("spec.engine.tls.unsafeSsl") && said.contains("`caFile`"), "{said}");
    let said = refused("caFile: missing.pem", "caFile: missing.pem");
    assert!(said.contains("missing.pem"), "{said}");
}
