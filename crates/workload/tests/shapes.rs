//! Requests that are added, moved, or made from a measured rate.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::time::Duration;

use forewarm_workload::{Burst, Request, Workload, WorkloadSource};

fn steady() -> Workload {
    let requests = (0..100)
        .map(|second| Request {
            arrival: Duration::from_secs(second),
            input_tokens: 100 + second as u32,
            output_tokens: 7,
            cached_tokens: 0,
        })
        .collect();
    Workload { requests, notes: Vec::new() }
}

#[test]
fn a_burst_comes_when_it_is_told_and_looks_like_the_rest() {
    let burst = Burst { at: Duration::from_secs(30), requests: 50, over: Duration::from_secs(5) };
    let workload = steady().with_burst(burst, 1);
    assert_eq!(workload.requests.len(), 150);
    assert!(workload.requests.is_sorted_by_key(|request| request.arrival));
    let within = |request: &&Request| (30.0..35.0).contains(&request.arrival.as_secs_f64());
    assert_eq!(workload.requests.iter().filter(within).count(), 55);
    assert!(workload.requests.iter().all(|request| (100..200).contains(&request.input_tokens)));
    assert_eq!(workload, steady().with_burst(burst, 1), "seeded");
    assert_eq!(Workload::default().with_burst(burst, 1), Workload::default(), "nothing to draw from");
}

#[test]
fn speed_moves_arrivals_together_and_nothing_else() {
    let workload = steady().sped_up(4.0);
    assert_eq!(workload.length(), Duration::from_millis(24_750));
    assert_eq!(workload.requests[8].arrival, Duration::from_secs(2));
    assert_eq!(workload.requests[8].input_tokens, 108);
}

/// Two series of a range query with a step of a minute; the second one begins later, and one sample is no number.
const RANGE: &str = r#"{"status": "success", "data": {"resultType": "matrix", "result": [
    {"metric": {"pod": "a"}, "values": [[1000, "0"], [1060, "0"], [1120, "10"], [1180, "10"], [1240, "NaN"]]},
    {"metric": {"pod": "b"}, "values": [[1120, "10.0"], [1180, "30"], [1240, "0"], [1480, "1"]]}
]}}"#;

fn generated(settings: &str, text: &str) -> Result<Workload, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("range.json");
    std::fs::write(&path, text).unwrap();
    let source: WorkloadSource =
        format!("prometheus:{}{settings}", path.display()).parse().map_err(|error| format!("{error}"))?;
    source.load(None).map_err(|error| error.to_string())
}

#[test]
fn a_range_query_becomes_arrivals_at_its_rate() {
    let workload = generated("?seed=3", RANGE).unwrap();
    let count = |from: f64, until: f64| {
        let inside = |request: &&Request| (from..until).contains(&request.arrival.as_secs_f64());
        workload.requests.iter().filter(inside).count() as f64
    };
    assert_eq!(count(0.0, 60.0), 0.0);
    // 20 and 40 requests a second for a minute each, within four standard deviations.
    assert!((count(60.0, 120.0) - 1_200.0).abs() < 140.0, "{}", count(60.0, 120.0));
    assert!((count(120.0, 180.0) - 2_400.0).abs() < 200.0, "{}", count(120.0, 180.0));
    assert_eq!(count(180.0, 240.0), 0.0);
    // A gap is not zero: the rate after it holds.
    assert!((count(240.0, 480.0) - 240.0).abs() < 62.0, "{}", count(240.0, 480.0));
    assert!(workload.notes.iter().any(|note| note.starts_with("1 gaps")), "{:?}", workload.notes);
    let mut inputs: Vec<u32> = workload.requests.iter().map(|request| request.input_tokens).collect();
    inputs.sort_unstable();
    assert!((900..1_150).contains(&inputs[inputs.len() / 2]), "the median is that of the built-in workload");
    assert_eq!(workload, generated("?seed=3", RANGE).unwrap(), "seeded");
    let longer = generated("?seed=3&input_tokens=5000", RANGE).unwrap();
    assert_eq!(longer.requests.len(), workload.requests.len(), "lengths have a stream of their own");
}

#[test]
fn what_is_no_range_query_is_said() {
    let vector = r#"{"status": "success", "data": {"resultType": "vector", "result": []}}"#;
    let negative = r#"{"status": "success", "data": {"resultType": "matrix", "result": [{"values": [[1, "2"], [2, "-1"]]}]}}"#;
    let failed = r#"{"status": "error", "errorType": "bad_data", "error": "parse error"}"#;
    let word =
        r#"{"status": "success", "data": {"resultType": "matrix", "result": [{"values": [[1, "many"]]}]}}"#;
    let nothing = r#"{"status": "success", "data": {"resultType": "matrix", "result": []}}"#;
    for (settings, text, said) in [
        ("", vector, "data.resultType is vector, wanted matrix"),
        ("", failed, "the query's status is error: parse error"),
        ("", word, "data.result[0] at 1: `many` is no number"),
        ("", "hello", "is no answer of a Prometheus range query"),
        ("", negative, "has the value -1 at 2, wanted requests per second, 0 or more"),
        ("", nothing, "has no requests"),
        ("?tokens=3", RANGE, "a setting is `tokens`, wanted input_tokens, output_tokens or seed"),
        ("?input_tokens=0", RANGE, "input_tokens is `0`, wanted a number of tokens from 1"),
    ] {
        let error = generated(settings, text).unwrap_err();
        assert!(error.contains(said), "{settings}: {error}");
    }
}
