//! The receiver that the documentation shows: it verifies what we sign, and does a change once.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use forewarm_control::{Clock, ports::Fleet};
use forewarm_core::{Phase, Placement, ReplicaId, ScalerId};
use forewarm_hooks::HookFleet;
use forewarm_manifest::{SecretRef, WebhookTarget};

/// The program in the documentation; gone with this value.
struct Receiver {
    process: Child,
    url: String,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Receiver {
    /// `None` where there is no Python.
    fn start(secret: &str) -> Option<Self> {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hooks.md");
        let text = std::fs::read_to_string(docs).unwrap();
        let (_, rest) = text.split_once("```python\n").expect("an example in Python");
        let (program, _) = rest.split_once("```").unwrap();
        let mut command = Command::new("python3");
        command.args(["-c", program]).env("FOREWARM_HOOK_SECRET", secret).env("PORT", "0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = match command.spawn() {
            Ok(process) => process,
            Err(error) => {
                eprintln!("skipped: python3: {error}");
                return None;
            }
        };
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening at ").unwrap().to_owned();
        Some(Self { process, url })
    }

    fn fleet(&self, secret: &str) -> (tempfile::TempDir, HookFleet) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, secret).unwrap();
        let target = WebhookTarget {
            url: self.url.clone(),
            secret: SecretRef::File(file),
            timeout: Duration::from_secs(20),
            ca_file: None,
            allow_insecure: false,
        };
        let fleet = HookFleet::webhook(ScalerId::from("llama3"), &target, Clock::start(1.0)).unwrap();
        (folder, fleet)
    }
}

/// An error with its cause.
fn words(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

async fn seen(fleet: &HookFleet) -> Vec<(ReplicaId, Phase)> {
    let view = fleet.observe().await.unwrap();
    view.replicas.into_iter().map(|replica| (replica.id, replica.phase)).collect()
}

#[tokio::test]
async fn it_starts_drains_and_stops_what_it_is_told_to_and_tries_without_doing() {
    let Some(receiver) = Receiver::start("swordfish") else { return };
    let (_folder, fleet) = receiver.fleet("swordfish\n");
    assert_eq!(fleet.trial().await.unwrap().dry_run, Ok(()));
    assert_eq!(seen(&fleet).await, []);
    fleet.apply(&Placement { start: 2, ..Placement::default() }).await.unwrap();
    let two = seen(&fleet).await;
    assert_eq!(two.iter().map(|(_, phase)| *phase).collect::<Vec<_>>(), [Phase::Ready; 2]);
    let ids: Vec<ReplicaId> = two.into_iter().map(|(id, _)| id).collect();
    let drain = Placement { drain: vec![ids[0].clone(), ReplicaId::from("gone")], ..Placement::default() };
    fleet.apply(&drain).await.unwrap();
    assert_eq!(seen(&fleet).await[0], (ids[0].clone(), Phase::Draining));
    fleet.apply(&Placement { revive: vec![ids[0].clone()], ..Placement::default() }).await.unwrap();
    assert_eq!(seen(&fleet).await[0], (ids[0].clone(), Phase::Ready));
    fleet.apply(&Placement { stop: ids, ..Placement::default() }).await.unwrap();
    assert_eq!(seen(&fleet).await, []);
}

#[tokio::test]
async fn it_answers_nobody_who_does_not_know_the_secret() {
    let Some(receiver) = Receiver::start("swordfish") else { return };
    let (_folder, stranger) = receiver.fleet("another");
    let error = words(&stranger.observe().await.unwrap_err());
    assert!(error.contains("answered 401"), "{error}");
    let post = || reqwest::Client::new().post(&receiver.url).body(r#"{"operation":"observe"}"#);
    let old = "t=1700000000,v1=00";
    for request in
        [post(), post().header("forewarm-signature", "nonsense"), post().header("forewarm-signature", old)]
    {
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
}
