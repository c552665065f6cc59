//! Several gateways, one after another and side by side.

use forewarm_load::FailureCause;

use crate::{
    stage::{Stage, forewarm},
    steady,
};

#[tokio::test]
async fn gateways_are_replaced_under_load_and_no_request_fails() {
    let stage = Stage::start_replaceable("replaced", 2, 2).await;
    stage.ready(2).await;
    let load = stage.load(steady(1_200, 0.25));
    let restarts = async {
        for control in [1, 0, 1] {
            stage.until("work in flight", |scaler| scaler["inFlight"].as_u64() >= Some(1)).await;
            stage.replace_gateway(control);
            stage.gateway_ends().await;
        }
    };
    let (report, ()) = tokio::join!(load, restarts);
    let requests = &report.requests;
    assert_eq!((requests.succeeded, requests.failed, requests.lost), (1_200, 0, 0), "{requests:?}");
    stage.stop().await;
}

#[tokio::test]
async fn one_of_three_gateways_dies_and_takes_only_what_it_had() {
    let stage = Stage::start_gateways("three", 2, 4, 3).await;
    stage.ready(2).await;
    let [first, second, third] = [0, 1, 2].map(|gateway| stage.load_at(gateway, steady(200, 0.25)));
    let murder = async {
        // Of all three together.
        stage.until("work in flight", |scaler| scaler["inFlight"].as_u64() >= Some(4)).await;
        stage.kill_gateway(2);
    };
    let (first, second, third, ()) = tokio::join!(first, second, third, murder);
    for (number, report) in [first, second].iter().enumerate() {
        let requests = &report.requests;
        assert_eq!(
            (requests.succeeded, requests.failed, requests.lost),
            (200, 0, 0),
            "{number}: {requests:?}"
        );
    }
    // Its own clients find nobody: they would go to another.
    let requests = &third.requests;
    let died = requests.failed_by_cause.get(&FailureCause::GatewayDied).copied().unwrap_or(0);
    assert_eq!(requests.succeeded + died + requests.lost, 200, "{requests:?}");
    // Streams that it had begun break off: no more of them than two replicas have slots.
    assert!(died > 0 && requests.lost <= 8, "{requests:?}");
    // What it had counts for a while, and then no longer; the others go on.
    stage.until("nothing in flight", |scaler| scaler["inFlight"].as_u64() == Some(0)).await;
    let report = stage.load(steady(20, 0.25)).await;
    assert_eq!((report.requests.succeeded, report.requests.lost), (20, 0), "{:?}", report.requests);
    stage.stop().await;
}

#[test]
fn a_key_is_shown_once_and_its_hash_is_what_the_file_takes() {
    let output = forewarm(&["gateway", "key", "create", "--tenant", "search"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let key = text.split_whitespace().find(|word| word.starts_with("fw-")).expect("a key");
    assert_eq!((key.len(), text.matches(key).count()), (67, 1), "{text}");
    let entry = text.split("  - name").nth(1).expect("an entry");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.yaml");
    std::fs::write(&path, format!("tenants:\n  - name{entry}")).unwrap();
    // A port that is taken: whatever is wrong with the file would be said before.
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = busy.local_addr().unwrap().to_string();
    let path = path.display().to_string();
    let output = forewarm(&["gateway", "--listen", &listen, "--control", "127.0.0.1:0", "--keys", &path]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains(&listen), "{said}");
    let output = forewarm(&["gateway", "--listen", "127.0.0.1:0", "--control", "0.0.0.0:0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("control token"), "{said}");
}
