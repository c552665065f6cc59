//! `forewarm decide` as a user runs it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Runs `forewarm decide` in the repository's root, with `input` on its standard input.
fn decide(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_forewarm"))
        .arg("decide")
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(args: &[&str], input: &str) -> String {
    let output = decide(args, input);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

const HPA: &str = "--policy=examples/seed/hpa.yaml";
const SEED: &str = "--observations=examples/seed/observations.jsonl";

#[test]
fn one_policy_tells_every_step() {
    let told = text(&decide(&[HPA, SEED], ""));
    let burst: Vec<&str> = told.lines().skip_while(|line| !line.starts_with("45 s")).take(8).collect();
    insta::assert_snapshot!(burst.join("\n"));
}

#[test]
fn several_policies_stand_side_by_side_as_documented() {
    let told =
        text(&decide(&["--policy", "examples/seed/hpa.yaml", "examples/seed/scaledobject.yaml", SEED], ""));
    insta::assert_snapshot!(told);
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/decide.md")).unwrap();
    assert!(page.contains(&told), "docs/decide.md shows another output");
}

#[test]
fn a_line_of_json_has_the_policy_the_numbers_and_the_reasons() {
    let input = r#"{"t":0,"replicas":[{"id":"p0","phase":"ready"}],"signals":{"waiting":{"value":40},"gpu_utilization":{"value":10}}}
{"t":31,"replicas":[{"id":"p0","phase":"ready"}],"signals":{"waiting":{"value":40},"gpu_utilization":{"value":10}}}
"#;
    let told = text(&decide(&[HPA, "--observations=-", "--output=json", "--replicas=2"], input));
    let lines: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["policy"], "vllm-autoscaler");
    assert_eq!((&lines[0]["from"], &lines[0]["to"]), (&2.into(), &2.into()), "the window for growing");
    assert_eq!((&lines[1]["from"], &lines[1]["to"]), (&2.into(), &4.into()), "two pods a minute");
    let proposal = &lines[1]["steps"][0];
    assert_eq!((&proposal["reason"], &proposal["hpa"]["step"]), (&"hpa".into(), &"proposal".into()));
    assert_eq!(proposal["hpa"]["arithmetic"]["average"], 40_000);
}

/// A range export with these series: labels as JSON, and values at 0 s, 15 s, …
fn range(series: &[(&str, &[f64])]) -> String {
    let result: Vec<String> = series
        .iter()
        .map(|(labels, values)| {
            let values: Vec<String> = values
                .iter()
                .enumerate()
                .map(|(i, value)| format!("[{}, \"{value}\"]", 1_700_000_000 + i * 15))
                .collect();
            format!("{{\"metric\": {labels}, \"values\": [{}]}}", values.join(","))
        })
        .collect();
    format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{}]}}}}",
        result.join(",")
    )
}

#[test]
fn exports_of_prometheus_are_put_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let waiting = file(
        "waiting.json",
        range(&[
            (r#"{"__name__": "vllm:num_requests_waiting", "pod": "a"}"#, &[8.0, 8.0, 8.0, 9.0]),
            (r#"{"__name__": "vllm:num_requests_waiting", "pod": "b"}"#, &[8.0, 8.0, 8.0, 9.0]),
        ]),
    );
    let gpu = file("gpu.json", range(&[(r#"{"__name__": "DCGM_FI_DEV_GPU_UTIL", "pod": "a"}"#, &[10.0; 4])]));
    let renamed = "--signal=vllm:num_requests_waiting=vllm_pending_requests";
    let told = text(&decide(
        &[
            HPA,
            "--observations",
            &waiting,
            &gpu,
            renamed,
            "--signal=DCGM_FI_DEV_GPU_UTIL=nvidia_gpu_duty_cycle",
        ],
        "",
    ));
    assert!(told.contains("2023-11-14T22:13:20Z  2 replicas as before"), "{told}");
    assert!(told.contains("average 9 per pod / target 5 = 1.8000, × 2 pods → 4"), "{told}");
    assert!(told.contains("2023-11-14T22:13:50Z  2 → 4 replicas"), "{told}");

    // A sum has neither a name nor pods: the fleet is what was decided.
    let sum = file("sum.json", range(&[("{}", &[45.0, 45.0])]));
    let keda = "--policy=examples/seed/scaledobject.yaml";
    let told = text(&decide(&[keda, "--observations", &sum, "--signal=s0-prometheus", "--output=json"], ""));
    let last: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(last["to"], 5, "{told}");
    let error = refused(&[keda, "--observations", &sum], "");
    assert!(
        error.contains("data.result[0] has no `__name__`: give the signal's name with `--signal NAME`"),
        "{error}"
    );
    let failed = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    let error = refused(&[keda, "--observations=-"], failed);
    assert!(error.contains("the query's status is error: parse error"), "{error}");
}

#[test]
fn what_cannot_be_decided_is_refused_in_words() {
    let cases: [(&[&str], &str, &str); 5] = [
        (&["--policy=examples/seed/asg.json", SEED], "", "found no policy, wanted an HPA, ScaledObject"),
        (&["--policy=nowhere.yaml", SEED], "", "cannot read nowhere.yaml"),
        (&[HPA, "--observations=-"], "{\"t\":0}\n{\"t\":-1}\n", "-:2: t: -1 is earlier than"),
        (&[HPA, "--observations=-"], "# nothing\n", "-: there is no observation"),
        (&[HPA], "", "--observations"),
    ];
    for (args, input, message) in cases {
        let error = refused(args, input);
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn recorded_vectors_are_replayed_and_a_difference_fails() {
    let folder = tempfile::tempdir().unwrap();
    let vector = |expected: i32| {
        format!(
            r#"{{"name":"panics","deciderSpec":{{"maxScaleUpRate":10,"maxScaleDownRate":2,"scalingMetric":"concurrency","targetValue":5,"totalValue":10,"targetBurstCapacity":0,"activatorCapacity":100,"panicThreshold":2,"stableWindowSeconds":60,"scaleDownDelaySeconds":0,"initialScale":1,"reachable":true,"activationScale":0}},"initialReadyPods":1,"steps":[{{"t":2,"readyPods":1,"stableValue":20,"panicValue":20,"expect":{{"scaleValid":true,"desiredPodCount":{expected},"excessBurstCapacity":0,"inPanic":true,"maxPanicPods":4}}}}]}}"#
        )
    };
    let replay = |expected| {
        std::fs::write(folder.path().join("kpa.jsonl"), vector(expected)).unwrap();
        decide(&["--conformance", &folder.path().display().to_string()], "")
    };
    let right = replay(4);
    assert_eq!(
        text(&right),
        "kpa.jsonl: 1/1 scenarios, 1/1 steps matched\ntotal: 1/1 scenarios, 1/1 steps matched\n"
    );
    let wrong = replay(5);
    assert_eq!(wrong.status.code(), Some(1));
    let told = String::from_utf8(wrong.stdout).unwrap();
    assert!(told.contains("kpa.jsonl:1: panics t=2: desiredPodCount: expected 5, got 4"), "{told}");
    assert!(told.contains("stable window: 20.000 / target 5"), "{told}");
}
