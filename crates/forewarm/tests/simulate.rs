//! `forewarm simulate`, `tune` and `what-if` as a user runs them, on a trace that the test writes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    fmt::Write,
    path::Path,
    process::{Command, Output},
};

use forewarm_control::Store;
use forewarm_core::{
    Bounds, Environment, Observation, Phase, Policy, QueueDepth, Replica, Requests, ScalerSpec, ScalerState,
    Signal, Timestamp, plan,
};
use serde_json::Value;
use tempfile::TempDir;

/// A request a second for half an hour, and after ten minutes a burst of 300 in half a minute.
fn place() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut arrivals: Vec<f64> = (0..1_800).map(f64::from).collect();
    arrivals.extend((0..300).map(|index| 600.0 + f64::from(index) * 0.1));
    arrivals.sort_by(f64::total_cmp);
    let mut trace = "arrival_s,input_tokens,output_tokens\n".to_owned();
    arrivals.iter().for_each(|arrival| writeln!(trace, "{arrival},500,100").unwrap());
    std::fs::write(directory.path().join("burst.csv"), trace).unwrap();
    directory
}

fn forewarm(place: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forewarm")).args(args).current_dir(place).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn rows(place: &Path, args: &[&str]) -> Vec<Value> {
    let args = [&["simulate", "--trace", "burst.csv", "--output=json"], args].concat();
    serde_json::from_str(&text(&forewarm(place, &args))).unwrap()
}

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("no number `{name}` in {row}"))
}

const OURS: &str = "
apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {name: llama3}
spec:
  target: {kubernetes: {apiVersion: apps/v1, kind: Deployment, name: llama3}}
  replicas: {min: 2, max: 6}
  policy: {queueDepth: {perReplica: 2}}
";

#[test]
fn policies_stand_side_by_side() {
    let place = place();
    std::fs::write(place.path().join("ours.yaml"), OURS).unwrap();
    let policies = [
        "seed-hpa",
        "seed-hpa-gpu",
        "seed-keda",
        "kpa",
        "ray",
        "sky",
        "dynamo",
        "ours.yaml",
        "static:5",
        "clairvoyant",
    ];
    let args =
        [&["simulate", "--trace", "burst.csv", "--cold-start=120s", "--price=2", "--policy"], &policies[..]];
    let first = text(&forewarm(place.path(), &args.concat()));
    insta::assert_snapshot!(first);
    assert_eq!(first, text(&forewarm(place.path(), &args.concat())), "a run repeats, on however many cores");
}

#[test]
fn a_row_has_what_scripts_rely_on() {
    let place = place();
    let rows = rows(
        place.path(),
        &[
            "--policy",
            "seed-hpa",
            "static:6",
            "clairvoyant",
            "--data-plane=gateway,engine",
            "--gpus-per-replica=2",
            "--price=3",
        ],
    );
    let who: Vec<_> = rows.iter().map(|row| (row["policy"].as_str(), row["data_plane"].as_str())).collect();
    let planes = [Some("gateway"), Some("engine")];
    let each = |policy| planes.map(|plane| (Some(policy), plane)).to_vec();
    let expected =
        [each("seed-hpa"), each("static:6"), vec![(Some("clairvoyant"), Some("gateway"))]].concat();
    assert_eq!(who, expected);
    for row in &rows {
        assert_eq!(
            (row["trace"].as_str(), row["objective"].as_str()),
            (Some("burst.csv"), Some("ttft=5s@99%"))
        );
        assert_eq!((row["lost"].as_u64(), row["sent"].as_u64()), (Some(0), Some(2_100)));
        let (spent, best, bound) =
            (number(row, "gpu_hours"), number(row, "clairvoyant_gpu_hours"), number(row, "bound_gpu_hours"));
        assert!((number(row, "regret") - spent / best).abs() < 1e-9 && bound <= best, "{row}");
        assert!((number(row, "dollars") - spent * 3.0).abs() < 1e-9, "{row}");
        assert!(number(row, "worst_hour") <= number(row, "attained") && row["worst_day"].is_number());
        assert!(number(&row["ttft_seconds"], "p50") <= number(&row["ttft_seconds"], "p99"));
        assert!(row["itl_seconds"]["p50"].is_number() && row["e2e_seconds"]["p99"].is_number());
        assert!(row["starts"].is_u64() && row["flaps"].is_u64() && row["max_replicas"].is_u64());
    }
    // Six replicas of two GPUs from the start until the last request has ended: at 1799 s, 0.1 s and 3 s later.
    assert!((number(&rows[2], "gpu_hours") - 12.0 * 1_802.1 / 3_600.0).abs() < 1e-6, "{}", rows[2]);
}

#[test]
fn the_named_seeds_are_the_manifests_of_the_examples() {
    let place = place();
    let seed = |name: &str| format!("{}/../../examples/seed/{name}", env!("CARGO_MANIFEST_DIR"));
    let files = [seed("hpa.yaml"), seed("scaledobject.yaml")];
    let rows =
        rows(place.path(), &["--no-regret", "--policy", "seed-hpa-gpu", &files[0], "seed-keda", &files[1]]);
    for pair in rows.chunks(2) {
        for name in ["attained", "gpu_hours", "starts", "changes", "ttft_seconds"] {
            assert_eq!(
                pair[0][name], pair[1][name],
                "{name} of {} and {}",
                pair[0]["policy"], pair[1]["policy"]
            );
        }
        assert_eq!(pair[0]["regret"], Value::Null);
    }
}

#[test]
fn what_shapes_the_load_changes_the_load() {
    let place = place();
    let sent = |args: &[&str]| {
        let args = [&["--no-regret", "--policy", "static:4"], args].concat();
        let row = rows(place.path(), &args).remove(0);
        (number(&row, "sent"), number(&row, "length_seconds"))
    };
    assert_eq!(sent(&["--scale=3"]).0, 6_300.0);
    assert_eq!(sent(&["--burst=at=60s,requests=40,over=5s", "--burst=at=2m,requests=2"]).0, 2_142.0);
    assert_eq!(sent(&["--duration=300s"]).0, 300.0);
    assert_eq!(sent(&["--warm-up=25m"]).0, 300.0);
    let (count, length) = sent(&["--arrival-speed=2"]);
    // Half of 1799 s, and one request's own time, which is what it was.
    assert!(count == 2_100.0 && (length - (899.5 + 3.1)).abs() < 1e-6, "{count} {length}");
    let batching = rows(place.path(), &["--policy", "static:1", "--profile=llama3.1-8b-a100-tp2"]);
    assert_eq!(
        batching[0]["regret"],
        Value::Null,
        "no plan is made for an engine whose requests slow each other"
    );
    assert!(number(&batching[0], "attained") > 0.99, "{}", batching[0]);
}

#[test]
fn several_models_share_the_gpus_that_there_are() {
    let place = place();
    let mix =
        ["simulate", "--trace", "chat=burst.csv", "code=burst.csv", "--cold-start=120s", "--scale=code=2"];
    let args = [
        &mix[..],
        &["--gpus-per-replica=chat=2", "--capacity=12", "--price=2", "--policy", "seed-hpa", "clairvoyant"],
    ]
    .concat();
    let first = text(&forewarm(place.path(), &args));
    insta::assert_snapshot!(first);
    assert_eq!(first, text(&forewarm(place.path(), &args)), "a run repeats, on however many cores");

    let rows: Vec<Value> =
        serde_json::from_str(&text(&forewarm(place.path(), &[&args[..], &["--output=json"]].concat())))
            .unwrap();
    let who: Vec<_> = rows.iter().map(|row| (row["policy"].as_str(), row["model"].as_str())).collect();
    let of = |policy| ["chat", "code", "all"].map(|model| (Some(policy), Some(model)));
    assert_eq!(who, [of("seed-hpa"), of("clairvoyant")].concat());
    for rows in rows.chunks(3) {
        for name in ["gpu_hours", "clairvoyant_gpu_hours", "dollars", "sent", "starts", "failed_starts"] {
            let (chat, code, all) = (number(&rows[0], name), number(&rows[1], name), number(&rows[2], name));
            assert!((chat + code - all).abs() < 1e-9, "{name}: {chat} + {code}, and {all}");
        }
        assert_eq!(number(&rows[2], "sent"), 2_100.0 + 4_200.0);
    }
    assert!(number(&rows[2], "failed_starts") > 0.0, "twelve GPUs are not enough for the bursts");

    let page = text(&forewarm(place.path(), &[&args[..], &["--output=html"]].concat()));
    assert!(page.contains("all models") && page.contains("chat: "), "decisions say whose they are");

    let refused = |args: &[&str]| {
        let output = forewarm(place.path(), args);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let policy = ["--policy", "static:2"];
    let some = refused(&[&["simulate", "--trace", "a=burst.csv", "burst.csv"], &policy[..]].concat());
    assert!(some.contains("name all of them for one mix, or none"), "{some}");
    let twice = refused(&[&["simulate", "--trace", "a=burst.csv", "a=burst.csv"], &policy[..]].concat());
    assert!(twice.contains("two traces of the model `a`"), "{twice}");
    let too_many = refused(&[&mix[..], &["--capacity=3"], &policy].concat());
    assert!(too_many.contains("begins with 4 GPUs, more than `--capacity 3`"), "{too_many}");
    let tuned = refused(&["tune", "--trace", "a=burst.csv", "--policy", "seed-hpa"]);
    assert!(tuned.contains("one model at a time"), "{tuned}");
}

#[test]
fn a_start_without_a_gpu_left_fails() {
    let place = place();
    let row = |args: &[&str]| {
        rows(place.path(), &[&["--no-regret", "--policy", "seed-hpa"], args].concat()).remove(0)
    };
    let (free, limited) = (row(&[]), row(&["--capacity=5", "--gpus-per-replica=2"]));
    assert!(number(&free, "max_replicas") > 2.0 && number(&free, "failed_starts") == 0.0, "{free}");
    assert!(number(&limited, "max_replicas") == 2.0 && number(&limited, "failed_starts") > 0.0, "{limited}");
}

#[test]
fn a_report_needs_nothing_beside_itself() {
    let place = place();
    let page = text(&forewarm(
        place.path(),
        &["simulate", "--trace", "burst.csv", "--policy", "seed-hpa", "static:3", "-o", "html"],
    ));
    for outside in ["src=", "href=\"http", "@import", "url(http", "fetch("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let data = page.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
    let data: Value = serde_json::from_str(data).unwrap();
    let run = &data["traces"][0]["runs"][0];
    assert!(run["course"]["target"].as_array().unwrap().len() > 100, "a point for each 15 s");
    assert!(run["decisions"][0][1].as_str().unwrap().contains("1 → "), "{}", run["decisions"][0]);
}

#[test]
fn tuned_settings_are_judged_on_what_the_search_has_not_seen() {
    let place = place();
    let args = [
        "tune",
        "--trace",
        "burst.csv",
        "--policy",
        "seed-hpa",
        "--cold-start=30s",
        "--write=tuned.yaml",
        "-o",
        "json",
    ];
    let found: Value = serde_json::from_str(&text(&forewarm(place.path(), &args))).unwrap();
    let candidates = found[0]["candidates"].as_array().unwrap();
    let tagged = |tag: &str| candidates.iter().find(|row| row["tag"] == tag).unwrap();
    let (given, chosen) = (tagged("given"), tagged("chosen"));
    assert_eq!(chosen["tuned_on"]["meets_objective"], true, "{chosen}");
    assert_eq!(given["tuned_on"]["meets_objective"], false, "{given}");
    assert!(number(&chosen["rest"], "gpu_hours") > 0.0);
    let costs: Vec<f64> = candidates.iter().map(|row| number(&row["tuned_on"], "gpu_hours")).collect();
    assert!(costs.is_sorted(), "the frontier, the cheapest first: {costs:?}");
    // The manifest that was written is the candidate that was chosen.
    let rows = rows(
        place.path(),
        &["--no-regret", "--cold-start=30s", "--duration=899.5s", "--policy", "tuned.yaml"],
    );
    assert_eq!(rows[0]["gpu_hours"], chosen["tuned_on"]["gpu_hours"]);
    let table = text(&forewarm(place.path(), &args[..6]));
    assert!(table.contains("on the rest") && table.contains("chosen") && table.contains('█'), "{table}");
}

#[test]
fn another_policy_is_asked_about_recorded_observations() {
    let place = place();
    let state_dir = place.path().join("state");
    std::fs::create_dir(&state_dir).unwrap();
    let per_replica = Requests::new(5.0).unwrap();
    let policy = Policy::QueueDepth(QueueDepth { per_replica, pre_warm: None });
    let mut spec = ScalerSpec::new("llama3", Bounds::new(1, 8).unwrap(), policy);
    spec.environment = Environment::Dev;
    let store = Store::open(&state_dir).unwrap();
    let mut state = ScalerState::default();
    store.checkpoint(&spec, &state).unwrap();
    for (second, queued) in [(0, 0.0), (15, 12.0), (30, 12.0), (45, 0.0)] {
        let observation = Observation {
            at: Timestamp::from_millis(second * 1_000),
            replicas: vec![Replica::new("a", Phase::Ready)],
            signals: [("queued".into(), Signal::value(queued))].into(),
            ..Observation::default()
        };
        let decision = plan(&spec, &mut state, &observation);
        store.decided(&spec, &state, &observation, &decision).unwrap();
    }
    drop(store);
    std::fs::write(place.path().join("ours.yaml"), OURS).unwrap();
    let told = text(&forewarm(place.path(), &["what-if", "--state-dir=state", "--policy=ours.yaml"]));
    insta::assert_snapshot!(told);
    let json =
        text(&forewarm(place.path(), &["what-if", "--state-dir=state", "--policy=ours.yaml", "-o", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json[0]["decisions"].as_u64(), json[0]["differing"].as_u64()), (Some(4), Some(4)), "{json}");
}

#[test]
fn what_is_wrong_is_said_with_what_would_be_right() {
    let place = place();
    let simulate = ["simulate", "--trace", "burst.csv", "--policy"];
    for (args, said) in [
        (&["nonsense"][..], "neither a file nor a policy with a name; names are: forewarm, seed-hpa,"),
        (&["static:0"], "after `static:` comes a number of replicas"),
        (&["static:2", "--objective=5s"], "write it like `ttft=5s@99%`"),
        (&["static:2", "--cold-start=soon"], "write it like `240s`, or `heavy:240s`"),
        (&["static:2", "--failing=2"], "write it like `1%`"),
        (&["static:2", "--profile=nothing"], "there are llama2-70b-h100-tp8"),
        (&["seed-hpa", "--min=4", "--max=2"], "`--min 4` is above `--max 2`"),
        (&["static:2", "--warm-up=9h"], "has no request left to judge"),
        (&["clairvoyant", "--profile=llama3.1-8b-a100-tp2"], "plans for `--slots`, not for `--profile`"),
        (&["static:2", "--burst=at=1h"], "it needs `at` and `requests`"),
        (&["static:2", "--speed=2"], "unexpected argument '--speed'"),
        (&["static:5", "--capacity=4"], "`--policy static:5` begins with 5 GPUs, more than `--capacity 4`"),
        (&["static:2", "--scale=llama3=2"], "`--scale llama3=…` names no model: `--trace llama3=FILE` would"),
        (&["static:2", "--scale=0"], "is no number from 1 to 10000"),
    ] {
        let output = forewarm(place.path(), &[&simulate[..], args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
    let nothing = forewarm(place.path(), &["tune", "--trace", "burst.csv", "--policy", "static:2"]);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("has no settings to search"));
    let nowhere = forewarm(place.path(), &["what-if", "--policy=seed-hpa"]);
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("no controller ran there"));
}
