//! Controllers that die and come back: what runs goes on, is found again, and is never mistaken.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use forewarm_core::Phase;
use forewarm_processes::{ProcessFleet, Shutdown};
use serde_json::json;

use crate::{
    engine,
    watched::{Watched, chain, config, dir, edit_registry, exists, pid, processes, registry},
};

/// The state directory of the controller to play.
const STATE_DIR: &str = "TEST_CONTROLLER_DIR";

/// A controller in a process of its own that starts replicas and waits to be killed.
#[tokio::test]
#[ignore = "plays the controller for the other tests"]
async fn play() {
    let Some(dir) = std::env::var_os(STATE_DIR) else { return };
    let mut fleet = Watched::open(config(Path::new(&dir), "")).unwrap();
    fleet.start(2).await.unwrap();
    fleet.all(2, Phase::Ready).await;
    eprintln!("both are ready");
    std::future::pending::<()>().await;
}

/// Has a controller start two replicas in `dir`, then kills it with `SIGKILL`.
fn controller_was_killed(dir: &Path) {
    let mut controller = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "restart::play", "--ignored", "--nocapture"])
        .env(STATE_DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(controller.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "both are ready"), "the controller comes up");
    controller.kill().unwrap();
    controller.wait().unwrap();
}

#[tokio::test]
async fn replicas_outlive_a_killed_controller_and_are_adopted() {
    let dir = dir();
    controller_was_killed(dir.path());
    let before = processes(dir.path());
    assert_eq!(before.len(), 2, "they outlive it");

    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    assert_eq!(fleet.look().await.replicas.len(), 2, "in view at once");
    let adopted = fleet.all(2, Phase::Ready).await;
    assert!(adopted.iter().all(|replica| !replica.age.is_zero() && !replica.stages_seconds.is_empty()));
    assert_eq!(processes(dir.path()), before, "the same processes");

    let address = adopted[1].address.clone().unwrap();
    let asked = tokio::spawn(async move { engine::request(&address, "/die").await });
    fleet.all(1, Phase::Ready).await;
    assert_eq!(fleet.ended.len(), 1, "the end of one that is no child is noticed");
    assert_eq!(asked.await.unwrap_or_default(), "");

    fleet.stop("r-0").await;
    fleet.none().await;
    fleet.start(1).await.unwrap();
    assert_eq!(fleet.all(1, Phase::Ready).await[0].id.as_str(), "r-2", "names go on");
    fleet.close().await;
}

#[tokio::test]
async fn a_replica_that_was_spawned_but_not_recorded_is_found() {
    let dir = dir();
    controller_was_killed(dir.path());
    let before = processes(dir.path());
    edit_registry(dir.path(), |registry| {
        for replica in registry["replicas"].as_object_mut().unwrap().values_mut() {
            replica.as_object_mut().unwrap().remove("process").unwrap();
        }
    });
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    fleet.all(2, Phase::Ready).await;
    assert_eq!(processes(dir.path()), before);
    assert!(before.contains(&pid(dir.path(), "r-0")), "recorded by now");
    fleet.close().await;
}

#[tokio::test]
async fn processes_of_no_replica_are_killed() {
    let dir = dir();
    controller_was_killed(dir.path());
    edit_registry(dir.path(), |registry| drop(registry["replicas"].as_object_mut().unwrap().remove("r-0")));
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    fleet.all(1, Phase::Ready).await;
    fleet.close().await;
}

#[tokio::test]
async fn a_start_that_was_only_intended_is_carried_out() {
    let dir = dir();
    Watched::open(config(dir.path(), "")).unwrap().close().await;
    edit_registry(dir.path(), |registry| {
        registry["next"] = json!(1);
        registry["replicas"] = json!({"r-0": {"requestedAtMillis": 0, "port": free_port()}});
    });
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    assert_eq!(fleet.all(1, Phase::Ready).await[0].id.as_str(), "r-0");
    fleet.close().await;
}

#[tokio::test]
async fn drains_and_stops_go_on_after_a_restart() {
    let dir = dir();
    controller_was_killed(dir.path());
    edit_registry(dir.path(), |registry| {
        registry["replicas"]["r-0"]["draining"] = json!(true);
        registry["replicas"]["r-1"]["stopping"] = json!(true);
    });
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    assert!(fleet.look().await.replicas.iter().all(|replica| replica.phase == Phase::Draining));
    assert_eq!(fleet.all(1, Phase::Draining).await[0].id.as_str(), "r-0");
    fleet.close().await;
}

#[tokio::test]
async fn kept_replicas_are_adopted_by_the_next_fleet() {
    let dir = dir();
    let mut fleet = Watched::open(config(dir.path(), "loading")).unwrap();
    fleet.start(1).await.unwrap();
    let loading = fleet.all(1, Phase::Loading).await;
    fleet.fleet.shutdown(Shutdown::KeepRunning).await.unwrap();
    drop(fleet);

    let mut fleet = Watched::open(config(dir.path(), "loading")).unwrap();
    let adopted = fleet.all(1, Phase::Loading).await;
    assert_eq!(adopted[0].address, loading[0].address);
    engine::request(adopted[0].address.as_ref().unwrap(), "/ready").await;
    fleet.all(1, Phase::Ready).await;
    fleet.fleet.shutdown(Shutdown::KeepRunning).await.unwrap();
    drop(fleet);

    let mut fleet = Watched::open(config(dir.path(), "loading")).unwrap();
    let adopted = fleet.look().await.replicas;
    assert_eq!(adopted[0].phase, Phase::Ready, "before the first probe: it is no start that takes too long");
    fleet.close().await;
}

#[tokio::test]
async fn what_ended_unwatched_is_reported() {
    let dir = dir();
    let registered = |was_ready: bool| {
        json!({"requestedAtMillis": 0, "port": 1, "wasReady": was_ready,
            "process": {"pid": 1, "startTicks": 0, "boot": "an earlier one"}})
    };
    Watched::open(config(dir.path(), "")).unwrap().close().await;
    edit_registry(dir.path(), |registry| {
        registry["replicas"] = json!({"r-0": registered(true), "r-1": registered(false)});
    });
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    fleet.none().await;
    assert_eq!(fleet.ended.iter().map(|ended| ended.id.as_str()).collect::<Vec<_>>(), ["r-0"]);
    assert_eq!(fleet.failed.iter().map(|failed| failed.id.as_str()).collect::<Vec<_>>(), ["r-1"]);
    assert!(fleet.failed[0].error.contains("while no controller was watching"));
    fleet.close().await;
}

#[tokio::test]
async fn a_stranger_with_a_number_that_was_ours_is_left_alone() {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    for same_start in [false, true] {
        let dir = dir();
        Watched::open(config(dir.path(), "")).unwrap().close().await;
        let mut stranger = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", stranger.id())).unwrap();
        let start: u64 =
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
        let start_ticks = if same_start { start } else { start - 1 };
        edit_registry(dir.path(), |registry| {
            registry["replicas"] = json!({"r-0": {"requestedAtMillis": 0, "port": 1, "wasReady": true, "stopping": true,
                "process": {"pid": stranger.id(), "startTicks": start_ticks, "boot": boot}}});
        });
        let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
        fleet.none().await;
        fleet.close().await;
        assert!(exists(stranger.id().into()) && stranger.try_wait().unwrap().is_none(), "{same_start}");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

#[tokio::test]
async fn a_registry_that_cannot_be_read_is_an_error_and_stays() {
    for (text, wanted) in [
        ("", "registry.json is damaged"),
        ("{\"version\": 1, \"fleet\": \"x\", \"next\"", "registry.json is damaged"),
        (
            "{\"version\": 1, \"fleet\": \"x\", \"next\": 0, \"replicas\": {}, \"more\": 1}",
            "registry.json is damaged",
        ),
        ("{\"version\": 2, \"unheard\": \"of\"}", "has version 2, this program knows up to 1"),
    ] {
        let dir = dir();
        let path = dir.path().join("registry.json");
        fs::write(&path, text).unwrap();
        let error = ProcessFleet::open(config(dir.path(), "")).unwrap_err();
        assert!(chain(&error).contains(wanted), "{}", chain(&error));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[tokio::test]
async fn a_state_directory_has_one_controller() {
    let dir = dir();
    let first = Watched::open(config(dir.path(), "")).unwrap();
    let error = chain(&ProcessFleet::open(config(dir.path(), "")).unwrap_err());
    assert!(
        error.contains(&format!("in use by another controller (process {})", std::process::id())),
        "{error}"
    );
    first.close().await;
    assert_eq!(registry(dir.path())["version"], 1);
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
