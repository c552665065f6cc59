//! `forewarm signal test` as a user runs it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

mod servers;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::{Command, Output},
};

/// Answers every request with the same JSON, as long as the test runs.
fn page(text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4096];
            // A small request comes in one piece.
            if stream.read(&mut asked).is_ok() {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
                    text.len()
                );
                drop(stream.write_all(head.as_bytes()));
            }
        }
    });
    address
}

fn signal_test(manifest: &str, args: &[&str], env: &[(&str, &str)]) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forewarm.yaml");
    std::fs::write(&path, manifest).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_forewarm"))
        .args(["signal", "test", "-f"])
        .arg(&path)
        .args(args)
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout.clone()).unwrap();
    (output, told)
}

fn manifest(policy: &str, signals: &str) -> String {
    format!(
        "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: workers}}\nspec:\n  \
         target: {{processes: {{command: [worker], port: 0}}}}\n  replicas: {{min: 1, max: 8}}\n  policy: {policy}\n{signals}"
    )
}

#[test]
fn a_value_is_told_with_where_it_is_from_and_what_it_leads_to() {
    let address = page(r#"{"queue": {"depth": 23}}"#);
    let signals = format!(
        "  signals:\n    - name: queued\n      metricsApi: {{url: 'http://{address}/stats', valueLocation: queue.depth, apiKeyFromEnv: BATCH_KEY}}\n"
    );
    let manifest = manifest("{queueDepth: {perReplica: 5}}", &signals);
    let (output, told) = signal_test(&manifest, &[], &[("BATCH_KEY", "hush")]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains(&format!("queued: `queue.depth` in the JSON at http://{address}/stats")), "{told}");
    assert!(told.contains("    23, 0.0 s old, read in "), "{told}");
    assert!(told.contains("1 → 5 replicas: 23 requests wait, a replica is worth 5 of them"), "{told}");
    assert!(!told.contains("hush"), "{told}");
    let (_, told) = signal_test(&manifest, &["queued", "--output", "json"], &[("BATCH_KEY", "hush")]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told[0]["signals"][0]["read"]["value"], 23.0, "{told}");
    assert_eq!((&told[0]["decision"]["from"], &told[0]["decision"]["to"]), (&1.into(), &5.into()));
}

#[test]
fn no_value_ends_with_1_and_a_wrong_name_with_2() {
    let gone = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let keda = format!(
        "{{keda: {{triggers: [{{type: kafka, metadata: {{bootstrapServers: '{gone}', consumerGroup: workers, topic: requests}}}}]}}}}"
    );
    let manifest = manifest(&keda, "");
    let (output, told) = signal_test(&manifest, &[], &[("BATCH_KEY", "hush")]);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let asked = format!(
        "s0-kafka-requests: the lag of consumer group `workers` in topic `requests` of Kafka at {gone}"
    );
    assert!(told.contains(&asked), "{told}");
    assert!(told.contains(" ms: no connection to"), "{told}");
    assert!(
        told.contains("If this were all, with 1 replica ready: 1 replica as before"),
        "nothing goes: {told}"
    );
    let (output, _) = signal_test(&manifest, &["lag"], &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("there is no signal `lag`; the manifest has s0-kafka-requests"), "{said}");
}
