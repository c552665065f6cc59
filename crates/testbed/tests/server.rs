//! The servers of the testbed end when they are told to, and with the program that started them.

use std::{collections::BTreeSet, time::Duration};

use forewarm_testbed::{Launch, Server, ServerError, free_port};

const SOON: Duration = Duration::from_secs(20);

fn shell(folder: &tempfile::TempDir, script: &str) -> Launch {
    Launch {
        name: "shell".to_owned(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("GREETING".to_owned(), "hello".to_owned())],
        folder: folder.path().to_owned(),
    }
}

#[tokio::test]
async fn a_server_is_ready_when_it_says_so_and_gone_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("shell.log");
    let ready = async || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("hello"));
    let server =
        Server::start(shell(&folder, "sleep 600 & echo $GREETING; wait"), SOON, ready).await.unwrap();
    let group = server.pid().to_string();
    let alive = || {
        let found = std::process::Command::new("pgrep").args(["-g", &group, "sleep"]).output().unwrap();
        found.status.success()
    };
    assert!(alive());
    drop(server);
    // The shell was waited for; its child dies in its own time.
    let gone = async {
        while alive() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
}

#[tokio::test]
async fn what_ends_at_once_says_what_it_printed() {
    let folder = tempfile::tempdir().unwrap();
    let started = Server::start(shell(&folder, "echo no such database; exit 3"), SOON, async || false).await;
    let Err(ServerError::Ended { status, output, .. }) = started else { panic!("it did not end") };
    assert_eq!((status.code(), output.as_str()), (Some(3), "no such database"));
}

#[test]
fn no_port_is_given_twice_though_nobody_listens_at_it_yet() {
    let ports: BTreeSet<u16> = (0..1_000).map(|_| free_port().unwrap()).collect();
    assert_eq!(ports.len(), 1_000);
}
