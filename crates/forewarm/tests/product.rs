//! The binary as a user runs it: real processes, real load, and what happens when things die.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

#[path = "product/gateways.rs"]
mod gateways;
#[path = "product/stage.rs"]
mod stage;
#[path = "product/tls.rs"]
mod tls;

use std::{path::Path, time::Duration};

use forewarm_control::{Store, journal::Record};
use forewarm_load::FailureCause;
use forewarm_sim::Decider;
use forewarm_workload::{Request, Workload};
use stage::{Stage, forewarm, requests};

/// A steady stream of short requests, in modelled seconds.
fn steady(count: u32, every_seconds: f64) -> Workload {
    requests((0..count).map(|index| Request {
        arrival: Duration::from_secs_f64(f64::from(index) * every_seconds),
        input_tokens: 500,
        output_tokens: 60,
        cached_tokens: 0,
    }))
}

#[test]
fn the_demo_ends_well_and_says_what_happened() {
    let output =
        forewarm(&["demo", "--duration=6s", "--speed=60", "--cold-start=60s", "--headless", "--report=-"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let requests = &report["requests"];
    let number = |name: &str| requests[name].as_u64().unwrap();
    assert_eq!(number("lost"), 0);
    assert_eq!(number("sent"), number("succeeded") + number("refused") + number("failed") + number("lost"));
    assert_eq!(number("sent"), number("succeeded"), "{requests}");
    assert!(number("sent") > 40, "{requests}");
    assert!(report["cold_starts"].as_u64().unwrap() >= 1);
    assert!(report["decisions"].as_u64().unwrap() >= 1);
    assert!(report["replica_seconds"]["ready"].as_f64().unwrap() > 0.0);
    assert!(report["latency_seconds"]["ttft"]["p99"].as_f64().unwrap() > 1.0, "the burst met an idle fleet");
}

#[tokio::test]
async fn a_burst_on_one_replica_loses_nothing() {
    let stage = Stage::start("burst", 1, 4).await;
    let report = stage.load(steady(60, 0.05)).await;
    assert_eq!((report.requests.succeeded, report.requests.lost), (60, 0), "{:?}", report.requests);
    stage.until("more replicas", |scaler| scaler["targetReplicas"].as_u64() > Some(1)).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_killed_replica_fails_only_the_streams_it_had_begun() {
    let stage = Stage::start("kill", 2, 2).await;
    stage.ready(2).await;
    let load = stage.load(steady(200, 0.25));
    let murder = async {
        // Two thirds of the slots are busy by then.
        stage.until("work in flight", |scaler| scaler["inFlight"].as_u64() >= Some(3)).await;
        stage.kill_a_replica();
    };
    let (report, ()) = tokio::join!(load, murder);
    let requests = &report.requests;
    assert_eq!(requests.lost, 0, "{requests:?}");
    assert_eq!(requests.refused, 0, "{requests:?}");
    assert_eq!(requests.succeeded + requests.failed, 200, "{requests:?}");
    let died = requests.failed_by_cause.get(&FailureCause::ReplicaDiedMidStream).copied().unwrap_or(0);
    assert_eq!(requests.failed, died, "only those: {requests:?}");
    assert!(died <= 4, "a replica has four slots: {requests:?}");
    // And the replica is replaced.
    stage.ready(2).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_controller_killed_under_load_costs_no_request_and_adopts_its_replicas() {
    let stage = Stage::start("restart", 2, 4).await;
    stage.ready(2).await;
    let before = stage.processes();
    let load = stage.load(steady(200, 0.25));
    let restart = async {
        stage.until("work in flight", |scaler| scaler["inFlight"].as_u64() >= Some(2)).await;
        stage.kill_controller();
        stage.start_controller().await;
        stage.ready(2).await;
    };
    let (report, ()) = tokio::join!(load, restart);
    let requests = &report.requests;
    assert_eq!((requests.succeeded, requests.failed, requests.lost), (200, 0, 0), "{requests:?}");
    let after = stage.processes();
    assert!(before.iter().all(|process| after.contains(process)), "{before:?} {after:?}");
    stage.stop().await;
}

#[tokio::test]
async fn scale_down_cuts_no_long_stream() {
    let stage = Stage::start("scale-down", 1, 3).await;
    // A burst that brings three replicas up, with generations that outlast the scale-down window.
    let burst = requests((0..30).map(|index| Request {
        arrival: Duration::from_secs_f64(f64::from(index) * 0.01),
        input_tokens: 100,
        output_tokens: if index % 10 == 0 { 4_000 } else { 20 },
        cached_tokens: 0,
    }));
    let load = stage.load(burst);
    let drains = stage.until("a draining replica", |scaler| {
        scaler["replicas"].as_array().unwrap().iter().any(|replica| replica["phase"] == "draining")
    });
    let (report, _) = tokio::join!(load, drains);
    let requests = &report.requests;
    assert_eq!((requests.succeeded, requests.failed, requests.lost), (30, 0, 0), "{requests:?}");
    stage.stop().await;
}

#[tokio::test]
async fn an_engine_that_exits_at_once_is_a_recorded_reason_and_is_not_hammered() {
    let command = ["sh", "-c", "echo CUDA out of memory >&2; exit 7"];
    let stage = Stage::start_with("exits", 1, 2, &command).await;
    let seen = stage.until("the reason", |scaler| scaler.to_string().contains("start_failed")).await;
    let text = seen.to_string();
    assert!(text.contains("exit status: 7") && text.contains("CUDA out of memory"), "{text}");
    stage.until("the wait", |scaler| scaler.to_string().contains("start_backoff")).await;
    stage.stop().await;
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let trace = write("bad.csv", "arrival_s,input_tokens,output_tokens\n0,1,2\nsoon,1,2\n");
    let manifest = write(
        "bad.yaml",
        "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {name: x}\nspec:\n  \
         target: {processes: {command: [sleep, '9'], port: 70000}}\n  replicas: {min: 5, max: 2}\n  \
         policy: {queueDepth: {perReplica: 0}}\n",
    );
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let cases: [(&[&str], &[&str]); 7] = [
        (&["demo", "--trace", &trace, "--headless"], &["line 3", "`soon`", "wanted seconds"]),
        (&["demo", "--trace", "/does/not/exist", "--headless"], &["/does/not/exist"]),
        (&["run", "-f", &manifest], &["spec.target.processes.port", "spec.replicas", "perReplica"]),
        (&["gateway", "--listen", &address, "--control", "127.0.0.1:0"], &[&address]),
        (&["engine", "--profile", "h100"], &["h100", "simple"]),
        (&["replay", "--state-dir", "/does/not/exist"], &["/does/not/exist"]),
        (&["demo", "--speed", "0"], &["speed", "0.1 to 1000"]),
    ];
    for (args, words) in cases {
        let output = forewarm(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        for word in words {
            assert!(text.contains(word), "{args:?} should name `{word}`: {text}");
        }
    }
}

#[tokio::test]
async fn a_live_journal_replays_to_the_same_bytes() {
    let stage = Stage::start("replay", 1, 3).await;
    let report = stage.load(steady(60, 0.05)).await;
    assert_eq!(report.requests.lost, 0);
    let state = stage.stop().await;
    let output = forewarm(&["replay", "--state-dir", &state.path().display().to_string()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(" 0 differ"), "{text}");
    the_simulator_decides_the_same(&state.path());
}

/// What decides in the simulator sees what the live controller saw, and keeps its own memory of it.
fn the_simulator_decides_the_same(state_dir: &Path) {
    let store = Store::open(state_dir).unwrap();
    let scaler = store.scalers().unwrap().remove(0);
    let mut decider = None;
    let (mut decided, mut changed) = (0, 0);
    for record in store.journal(&scaler).unwrap() {
        match record {
            Record::Checkpoint { spec, .. } => decider = Some(Decider::core(*spec)),
            Record::Decision { observation, decision } => {
                let simulated = decider.as_mut().unwrap().decide(&observation).unwrap();
                assert_eq!(
                    serde_json::to_string(&simulated).unwrap(),
                    serde_json::to_string(&decision).unwrap()
                );
                decided += 1;
                changed += u32::from(decision.from != decision.to);
            }
            Record::Outcome { .. } => {}
        }
    }
    assert!(decided > 10 && changed > 0, "{decided} decisions, {changed} changes: the run shows too little");
}

#[tokio::test]
async fn forewarms_own_policy_meets_a_burst_on_an_idle_fleet_and_gives_it_back() {
    let stage = Stage::start_anticipating("anticipate", 0, 4).await;
    let up = async {
        stage.until("the backlog as a reason", |scaler| scaler.to_string().contains("backlog")).await;
        stage.until("more than one replica", |scaler| scaler["targetReplicas"].as_u64() > Some(1)).await;
    };
    let (report, ()) = tokio::join!(stage.load(steady(80, 0.05)), up);
    let requests = &report.requests;
    assert_eq!((requests.succeeded, requests.failed, requests.lost), (80, 0, 0), "{requests:?}");
    // Then silence.
    let down = stage.until("one replica", |scaler| scaler["targetReplicas"].as_u64() <= Some(1)).await;
    assert!(down.to_string().contains("anticipated"), "what is expected gives replicas back: {down:#}");
    let state = stage.stop().await;
    let output = forewarm(&["replay", "--state-dir", &state.path().display().to_string()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(" 0 differ"), "{text}");
}
