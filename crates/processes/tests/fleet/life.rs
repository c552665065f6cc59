//! One controller: replicas start, serve, drain, fail and end.

use std::{net::TcpListener, os::unix::fs::PermissionsExt as _, time::Duration};

use forewarm_control::ports::{Fleet as _, FleetError};
use forewarm_core::{Phase, Placement, ReplicaId};

use crate::{
    engine,
    watched::{Watched, config, dir, exists, pid, processes, script},
};

#[tokio::test]
async fn a_replica_starts_loads_serves_drains_and_stops() {
    let dir = dir();
    let mut config = config(dir.path(), "loading,stages");
    config.speed = 100.0;
    let mut fleet = Watched::open(config).unwrap();
    fleet.start(1).await.unwrap();
    let asked_for = fleet.look().await.replicas;
    assert_eq!(asked_for.len(), 1, "in view as soon as it was asked for");
    assert!(asked_for[0].phase.is_coming());

    let loading = fleet.all(1, Phase::Loading).await;
    let address = loading[0].address.clone().unwrap();
    engine::request(&address, "/ready").await;
    let ready = fleet.all(1, Phase::Ready).await;
    assert_eq!(ready[0].id.as_str(), "r-0");
    let stages: Vec<_> =
        ready[0].stages_seconds.iter().map(|(name, &seconds)| (name.as_str(), seconds)).collect();
    assert_eq!(stages, [("load", 12.5), ("pull", 30.0)], "as the engine reports them");

    let process = pid(dir.path(), "r-0");
    fleet.drain("r-0").await;
    fleet.all(1, Phase::Draining).await;
    assert_eq!(engine::request(&address, "/health").await, "HTTP/1.1 200 OK", "draining only marks it");
    fleet.stop("r-0").await;
    fleet.none().await;
    assert!(!exists(process), "no zombie is left");
    assert!(fleet.failed.is_empty() && fleet.ended.is_empty(), "it was asked to stop");

    fleet.start(1).await.unwrap();
    assert_eq!(fleet.until(|seen| seen.len() == 1).await[0].id.as_str(), "r-1", "names are not used again");
    fleet.close().await;
}

#[tokio::test]
async fn a_draining_replica_serves_again_when_asked_to_unless_it_was_told_to_stop() {
    let dir = dir();
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    fleet.start(1).await.unwrap();
    fleet.all(1, Phase::Ready).await;
    let process = pid(dir.path(), "r-0");
    fleet.drain("r-0").await;
    fleet.all(1, Phase::Draining).await;
    fleet.revive("r-0").await;
    fleet.all(1, Phase::Ready).await;
    fleet.fleet.shutdown(forewarm_processes::Shutdown::KeepRunning).await.unwrap();
    drop(fleet);
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    fleet.all(1, Phase::Ready).await;
    assert_eq!(pid(dir.path(), "r-0"), process, "the same process, also for the next controller");
    fleet.drain("r-0").await;
    fleet.stop("r-0").await;
    fleet.revive("r-0").await;
    assert!(fleet.look().await.replicas.iter().all(|replica| replica.phase == Phase::Draining));
    fleet.none().await;
    fleet.close().await;
}

#[tokio::test]
async fn stages_come_from_the_phases_when_the_engine_reports_none() {
    let dir = dir();
    let mut fleet = Watched::open(config(dir.path(), "loading")).unwrap();
    fleet.start(1).await.unwrap();
    let loading = fleet.all(1, Phase::Loading).await;
    engine::request(loading[0].address.as_ref().unwrap(), "/ready").await;
    let ready = fleet.all(1, Phase::Ready).await;
    assert_eq!(ready[0].stages_seconds.keys().collect::<Vec<_>>(), ["load", "provision"]);
    let total: f64 = ready[0].stages_seconds.values().sum();
    assert!(total <= ready[0].age.as_secs_f64(), "{total} s of {:?}", ready[0].age);
    fleet.close().await;
}

#[tokio::test]
async fn several_replicas_get_ports_of_their_own() {
    let dir = dir();
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    fleet.start(3).await.unwrap();
    let ready = fleet.all(3, Phase::Ready).await;
    let ports: std::collections::BTreeSet<_> = ready.iter().map(|replica| replica.address.clone()).collect();
    assert_eq!(ports.len(), 3, "{ports:?}");
    fleet.close().await;
}

#[tokio::test]
async fn a_start_that_ends_at_once_says_how_and_what_it_printed() {
    let dir = dir();
    for (command, how) in [
        ("echo out of memory on port {port} >&2; exit 7", "ended with exit status: 7"),
        ("echo out of memory on port $PORT; kill -9 $$", "ended with signal: 9 (SIGKILL)"),
    ] {
        let mut fleet = Watched::open(script(dir.path(), command)).unwrap();
        fleet.start(1).await.unwrap();
        fleet.none().await;
        let [failed] = fleet.failed.as_slice() else { panic!("{:?}", fleet.failed) };
        assert_eq!(failed.phase, Phase::Provisioning);
        assert!(failed.error.starts_with(how), "{}", failed.error);
        assert!(failed.error.contains("out of memory on port "), "{}", failed.error);
        assert!(!failed.error.contains("port {port}"), "{}", failed.error);
        assert!(failed.error.contains(&format!("logs/{}.log", failed.id)), "{}", failed.error);
        assert!(fleet.ended.is_empty());
        fleet.close().await;
    }
}

#[tokio::test]
async fn a_start_that_never_gets_ready_waits_to_be_stopped() {
    let dir = dir();
    let mut fleet = Watched::open(script(dir.path(), "exec sleep 1000")).unwrap();
    fleet.start(1).await.unwrap();
    fleet.all(1, Phase::Provisioning).await;
    fleet.stop("r-0").await;
    fleet.none().await;
    assert!(fleet.failed.is_empty(), "whoever stops it knows why");
    fleet.close().await;
}

#[tokio::test]
async fn a_command_that_cannot_start_is_named_with_what_would_be_right() {
    let dir = dir();
    let plain = dir.path().join("plain.txt");
    std::fs::write(&plain, "text").unwrap();
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).unwrap();
    let cases = [
        ("no-such-engine".to_owned(), None, "`no-such-engine` is not in PATH; install it"),
        (
            "/no/such/engine".to_owned(),
            None,
            "`/no/such/engine`, or the interpreter it names, does not exist",
        ),
        (plain.to_str().unwrap().to_owned(), None, "is not executable; `chmod +x` it"),
        ("sh".to_owned(), Some("/no/dir".into()), "the working directory /no/dir is not a directory"),
    ];
    for (program, working_dir, wanted) in cases {
        let mut config = config(dir.path(), "");
        config.command = vec![program];
        config.working_dir = working_dir;
        let mut fleet = Watched::open(config).unwrap();
        let error = fleet.start(2).await.unwrap_err();
        assert!(matches!(error, FleetError::CannotStart { .. }));
        assert!(error.to_string().contains(wanted), "{error}");
        assert!(fleet.look().await.replicas.is_empty());
        let [failed] = fleet.failed.as_slice() else { panic!("{:?}", fleet.failed) };
        assert_eq!(failed.phase, Phase::Requested, "the loop is to wait before it tries again");
        fleet.close().await;
    }
}

#[tokio::test]
async fn a_fixed_port_must_be_free_and_serves_one_replica() {
    let dir = dir();
    let stranger = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut config = config(dir.path(), "");
    config.port = stranger.local_addr().unwrap().port();
    let mut fleet = Watched::open(config).unwrap();
    let error = fleet.start(1).await.unwrap_err().to_string();
    assert!(error.contains("cannot be used on 127.0.0.1"), "{error}");
    assert_eq!(fleet.look().await.failed_starts.len(), 1);
    drop(stranger);

    let error = fleet.start(2).await.unwrap_err().to_string();
    assert!(error.contains("only one replica can run"), "{error}");
    fleet.all(1, Phase::Ready).await;
    fleet.close().await;
}

#[tokio::test]
async fn an_engine_that_ignores_sigterm_is_killed_after_the_grace() {
    let dir = dir();
    let mut config = config(dir.path(), "stubborn");
    config.termination_grace = Duration::from_millis(100);
    let mut fleet = Watched::open(config).unwrap();
    fleet.start(1).await.unwrap();
    fleet.all(1, Phase::Ready).await;
    let process = pid(dir.path(), "r-0");
    fleet.stop("r-0").await;
    let stopping = fleet.look().await.replicas;
    assert!(stopping.iter().all(|replica| replica.phase == Phase::Draining), "until it is gone");
    fleet.none().await;
    assert!(!exists(process));
    fleet.close().await;
}

#[tokio::test]
async fn what_a_replica_started_goes_with_it() {
    let stubborn_child = "(trap '' TERM; while :; do sleep 1000; done) & echo up; wait";
    let dead_parent = "sleep 1000 & exit 1";
    for (command, stops) in [("sleep 1000 & wait", true), (stubborn_child, true), (dead_parent, false)] {
        let dir = dir();
        let mut fleet = Watched::open(script(dir.path(), command)).unwrap();
        fleet.start(1).await.unwrap();
        if stops {
            fleet.stop("r-0").await;
        }
        fleet.none().await;
        fleet.assert_nothing_runs();
        fleet.close().await;
    }
}

#[tokio::test]
async fn a_process_that_left_the_group_goes_too() {
    let dir = dir();
    let mut fleet = Watched::open(config(dir.path(), "escapee")).unwrap();
    fleet.start(1).await.unwrap();
    fleet.all(1, Phase::Ready).await;
    assert_eq!(processes(dir.path()).len(), 2);
    fleet.stop("r-0").await;
    fleet.none().await;
    fleet.close().await;
}

#[tokio::test]
async fn a_ready_replica_that_dies_is_reported_as_ended() {
    let dir = dir();
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    fleet.start(1).await.unwrap();
    let ready = fleet.all(1, Phase::Ready).await;
    let address = ready[0].address.clone().unwrap();
    let asked = tokio::spawn(async move {
        // It answers nothing: it is gone.
        engine::request(&address, "/die").await
    });
    fleet.none().await;
    let [ended] = fleet.ended.as_slice() else { panic!("{:?}", fleet.ended) };
    assert!(ended.reason.starts_with("ended with exit status: 3"), "{}", ended.reason);
    assert!(ended.reason.contains("illegal memory access"), "{}", ended.reason);
    assert!(fleet.failed.is_empty(), "it had been ready");
    assert_eq!(asked.await.unwrap_or_default(), "");
    fleet.close().await;
}

#[tokio::test]
async fn a_replica_that_stops_answering_is_not_ready_but_lives_and_may_come_back() {
    let dir = dir();
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    fleet.start(1).await.unwrap();
    let ready = fleet.all(1, Phase::Ready).await;
    let address = ready[0].address.clone().unwrap();
    let process = pid(dir.path(), "r-0");
    engine::request(&address, "/sick").await;
    let sick = fleet.all(1, Phase::Loading).await;
    assert!(sick[0].age < ready[0].age, "it has as long to come back as a start: {:?}", sick[0].age);
    engine::request(&address, "/ready").await;
    let back = fleet.all(1, Phase::Ready).await;
    assert!(back[0].age > ready[0].age);
    assert_eq!(pid(dir.path(), "r-0"), process);
    assert!(fleet.failed.is_empty() && fleet.ended.is_empty());
    fleet.close().await;
}

#[tokio::test]
async fn doing_it_twice_and_unknown_names_are_harmless() {
    let dir = dir();
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    fleet.start(1).await.unwrap();
    fleet.all(1, Phase::Ready).await;
    let ids = || vec![ReplicaId::from("r-0"), ReplicaId::from("r-77"), ReplicaId::from("../x")];
    let placement = Placement { start: 0, revive: ids(), drain: ids(), stop: ids() };
    for _ in 0..3 {
        fleet.fleet.apply(&placement).await.unwrap();
    }
    fleet.none().await;
    fleet.fleet.apply(&placement).await.unwrap();
    fleet.close().await;
}

#[tokio::test]
async fn after_shutdown_nothing_starts() {
    let dir = dir();
    let mut fleet = Watched::open(config(dir.path(), "")).unwrap();
    fleet.start(2).await.unwrap();
    fleet.all(2, Phase::Ready).await;
    fleet.fleet.shutdown(forewarm_processes::Shutdown::StopAll).await.unwrap();
    assert!(processes(dir.path()).is_empty());
    assert!(fleet.start(1).await.unwrap_err().to_string().contains("shut down"));
    fleet.close().await;
}
