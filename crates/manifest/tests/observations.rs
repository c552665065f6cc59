//! Recorded observations, line by line.

use forewarm_core::{Evidence, Missing, Phase};
use forewarm_manifest::read_observations;
use std::time::Duration;

#[test]
fn observations_are_read_and_an_absent_value_stays_absent() {
    let text = r#"# recorded on a test fleet
{"t":0,"replicas":[{"id":"p0","phase":"ready"}],"signals":{"waiting":{"value":7,"perReplica":{"p0":7}}}}

{"t":15.5,"signals":{"waiting":{"value":null,"error":"timeout"}}}
"#;
    let observations = read_observations("o.jsonl", text).expect("two observations");
    assert_eq!(observations.len(), 2);
    assert_eq!(observations[0].count(Phase::Ready), 1);
    let age = Duration::from_secs(60);
    assert_eq!(observations[0].evidence("waiting", age), Some(Evidence::Known(7.0)));
    assert_eq!(
        observations[1].evidence("waiting", age),
        Some(Evidence::Unknown(Missing::Failed("timeout".into())))
    );
    assert_eq!(observations[1].evidence("rps", age), None);
}

#[test]
fn a_bad_line_is_named() {
    let good = "{\"t\":5}\n";
    let cases = [
        ("not json", "{t:5}", "o.jsonl:2: "),
        ("an unknown field", "{\"t\":6,\"replica\":[]}", "o.jsonl:2: replica: unknown field `replica`"),
        (
            "a wrong phase",
            "{\"t\":6,\"replicas\":[{\"id\":\"a\",\"phase\":\"up\"}]}",
            "o.jsonl:2: replicas[0].phase: ",
        ),
        ("two on a line", "{\"t\":6} {\"t\":7}", "o.jsonl:2: trailing"),
        ("back in time", "{\"t\":4}", "o.jsonl:2: t: 4 is earlier"),
        ("no time", "{}", "o.jsonl:2: missing field `t`"),
    ];
    for (name, line, message) in cases {
        let error = read_observations("o.jsonl", &format!("{good}{line}\n")).expect_err(name);
        assert_eq!(error.line, 2, "{name}");
        assert!(error.to_string().starts_with(message), "{name}: {error}");
    }
}
