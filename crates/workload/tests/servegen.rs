//! Requests from per-client statistics: exact counts, the load asked for, the same for the same seed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::path::PathBuf;

use forewarm_workload::{
    Request, SIMPLE_ENGINE_INPUT_TOKENS_PER_SECOND, SIMPLE_ENGINE_SECONDS_PER_OUTPUT_TOKEN, ServeGen,
    ServeGenError, ServeGenSpec, WorkloadSource,
};

const RATES: &str = "t_s,client,n,cv,iat_dist,iat_shape\n\
    600,7,500,1.0,W,0.6\n0,7,1000,1.0,G,0.5\n0,8,300,1.0,,\n1200,8,700,1.0,G,0.0069\n0,9,400,1.0,G,1\n";

fn tokens() -> String {
    let quantiles = |side: &str| {
        let names = ["p05", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "max"];
        names.map(|name| format!("{side}_tokens_{name}")).join(",")
    };
    format!(
        "client,t_s,{},{}\n\
         7,0,100,110,200,400,700,1000,1500,3000,9000,5,6,20,50,90,200,300,500,2000\n\
         8,0,20,20,20,20,20,20,20,20,20,10,10,10,10,10,10,10,10,10\n",
        quantiles("input"),
        quantiles("output")
    )
}

struct Tables {
    _keep: tempfile::TempDir,
    spec: ServeGenSpec,
}

fn tables(rates: &str, tokens: &str) -> Tables {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (rates, tokens) = (file("rates.csv", rates), file("tokens.csv", tokens));
    let spec = ServeGenSpec { rates, tokens, replicas: 40.0, slots: 8, seed: 1, from_day: 0.0, days: None };
    Tables { _keep: directory, spec }
}

fn slot_seconds(requests: impl Iterator<Item = Request>) -> f64 {
    requests
        .map(|request| {
            f64::from(request.input_tokens) / SIMPLE_ENGINE_INPUT_TOKENS_PER_SECOND
                + f64::from(request.output_tokens) * SIMPLE_ENGINE_SECONDS_PER_OUTPUT_TOKEN
        })
        .sum()
}

#[test]
fn counts_are_exact_in_each_window_and_arrivals_in_order() {
    let Tables { _keep, spec } = tables(RATES, &tokens());
    let source = ServeGen::open(&spec).unwrap();
    let requests: Vec<Request> = source.requests().collect();
    assert!(requests.is_sorted_by_key(|request| request.arrival));
    // Client 9 has no lengths; clients 7 and 8 send 1300, 500 and 700 in the three windows.
    for (window, count) in [(0, 1300.0), (1, 500.0), (2, 700.0)] {
        let sent = requests.iter().filter(|request| request.arrival.as_secs() / 600 == window).count();
        let wanted: f64 = count * source.scale();
        assert!((sent as f64 - wanted).abs() <= 2.0, "window {window}: {sent} sent, {wanted} wanted");
    }
    assert!(
        source.workload().unwrap().notes[1].contains("1 clients without token lengths (14 % of requests)")
    );
}

#[test]
fn the_mean_load_is_the_one_asked_for() {
    for seed in 0..5 {
        let Tables { _keep, mut spec } = tables(RATES, &tokens());
        spec.seed = seed;
        let load = slot_seconds(ServeGen::open(&spec).unwrap().requests()) / 1_800.0 / 8.0;
        assert!((load / 40.0 - 1.0).abs() < 0.05, "seed {seed}: {load} replicas instead of 40");
    }
}

#[test]
fn a_seed_means_the_same_requests_whatever_the_order_of_rows_and_the_first_day() {
    let Tables { _keep, mut spec } = tables(RATES, &tokens());
    let all: Vec<Request> = ServeGen::open(&spec).unwrap().requests().collect();
    assert!(ServeGen::open(&spec).unwrap().requests().eq(all.iter().copied()));
    let mut lines: Vec<&str> = RATES.lines().collect();
    lines[1..].reverse();
    let turned = tables(&lines.join("\n"), &tokens());
    assert!(ServeGen::open(&turned.spec).unwrap().requests().eq(all.iter().copied()));
    spec.seed = 2;
    assert!(!ServeGen::open(&spec).unwrap().requests().eq(all.iter().copied()));
}

#[test]
fn the_words_of_a_command_line_say_what_to_generate() {
    let source: WorkloadSource = "servegen:a.zst,b.zst?replicas=20&seed=3&days=2".parse().unwrap();
    let spec = ServeGenSpec {
        rates: "a.zst".into(),
        tokens: "b.zst".into(),
        replicas: 20.0,
        slots: 8,
        seed: 3,
        from_day: 0.0,
        days: Some(2.0),
    };
    assert_eq!(source, WorkloadSource::ServeGen(spec));
    for (text, names) in [
        ("servegen:a.zst", ["what follows `servegen:` is `a.zst`", "RATES,TOKENS"]),
        ("servegen:a,b?replicas=many", ["replicas is `many`", "a number"]),
        ("servegen:a,b?seed=-1", ["seed is `-1`", "a whole number"]),
        ("servegen:a,b?speed=2", ["a setting is `speed`", "replicas, slots, seed, from_day or days"]),
    ] {
        let message = text.parse::<WorkloadSource>().unwrap_err().to_string();
        assert!(names.iter().all(|name| message.contains(name)), "{text}: {message}");
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    let wide = "t_s,client,n,cv,iat_dist,iat_shape\n";
    let cases = [
        (
            "shape 0",
            format!("{wide}0,7,10,1,G,0\n"),
            tokens(),
            "line 2: iat_shape is `0`, wanted a number above 0",
        ),
        (
            "a law unknown",
            format!("{wide}0,7,10,1,X,1\n"),
            tokens(),
            "line 2: iat_dist is `X`, wanted G (Gamma)",
        ),
        ("a count missing", format!("{wide}0,7\n"), tokens(), "line 2: iat_dist is ``, wanted a value"),
        ("a column missing", "t_s,client\n0,7\n".to_owned(), tokens(), "no column `iat_dist`"),
        ("no row", wide.to_owned(), tokens(), "has no requests"),
        ("nobody has lengths", format!("{wide}0,1,10,1,,\n"), tokens(), "no client with token lengths sends"),
        (
            "lengths fall",
            RATES.to_owned(),
            tokens().replace("7,0,100,110", "7,0,100,50"),
            "line 2: input_tokens_p05",
        ),
    ];
    for (name, rates, tokens, wanted) in cases {
        let Tables { _keep, spec } = tables(&rates, &tokens);
        let message = ServeGen::open(&spec).unwrap_err().to_string();
        assert!(message.contains(wanted), "{name}: {message}");
    }
}

#[test]
fn numbers_out_of_range_are_named() {
    let Tables { _keep, spec } = tables(RATES, &tokens());
    for (name, spec) in [
        ("replicas", ServeGenSpec { replicas: 0.0, ..spec.clone() }),
        ("slots", ServeGenSpec { slots: 0, ..spec.clone() }),
        ("days", ServeGenSpec { days: Some(3.0), ..spec.clone() }),
        ("from_day", ServeGenSpec { from_day: 1.0, ..spec.clone() }),
    ] {
        let error = ServeGen::open(&spec).unwrap_err();
        assert!(matches!(error, ServeGenError::OutOfRange { name: found, .. } if found == name), "{error}");
    }
    let many = ServeGen::open(&ServeGenSpec { replicas: 1e6, slots: 1_000, ..spec }).unwrap();
    assert!(matches!(many.workload(), Err(ServeGenError::TooMany { .. })));
}

#[test]
fn the_published_statistics_give_twenty_replicas_of_load() {
    let shared = std::env::var("FOREWARM_SHARED")
        .map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let traces = shared.join("traces");
    let rates = traces.join("servegen_rates_m-large_w1.csv.zst");
    if !rates.exists() {
        println!("skipped: {} not found", rates.display());
        return;
    }
    let tokens = traces.join("servegen_tokens_m-large_w1.csv.zst");
    let spec =
        ServeGenSpec { rates, tokens, replicas: 20.0, slots: 8, seed: 1, from_day: 1.0, days: Some(0.25) };
    let source = ServeGen::open(&spec).unwrap();
    let (mut count, mut last) = (0_u64, None);
    let load = slot_seconds(source.requests().inspect(|request| {
        assert!(last <= Some(request.arrival), "arrivals out of order");
        last = Some(request.arrival);
        count += 1;
    })) / (0.25 * 86_400.0)
        / 8.0;
    assert!((load / 20.0 - 1.0).abs() < 0.02, "{load} replicas instead of 20");
    assert!((count as f64 / source.expected_requests() - 1.0).abs() < 0.01, "{count} requests");
}
