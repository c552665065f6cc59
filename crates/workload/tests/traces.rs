//! Traces as they are published, and what is wrong with those that are not.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{io::Write, path::PathBuf, time::Duration};

use forewarm_workload::{ReadError, Request, Workload, WorkloadSource, demo, read_trace};
use proptest::prelude::*;

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    std::fs::write(&path, bytes).unwrap();
    (directory, path)
}

fn read(text: &str) -> Result<Workload, ReadError> {
    let (_keep, path) = written(text.as_bytes());
    read_trace(&path)
}

fn request(seconds: f64, input_tokens: u32, output_tokens: u32) -> Request {
    Request { arrival: Duration::from_secs_f64(seconds), input_tokens, output_tokens, cached_tokens: 0 }
}

#[test]
fn every_published_format_is_told_by_its_first_line() {
    let cases = [
        ("plain", "arrival_s,input_tokens,output_tokens\n0.0,10,5\n1.5,20,6\n"),
        ("plain with clients", "arrival_s,input_tokens,output_tokens,client\n7.0,10,5,c1\n8.5,20,6,c2\n"),
        (
            "Azure, over midnight at the end of a leap February",
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-02-29 23:59:59.5000000,10,5\n2024-03-01 00:00:01.0000000,20,6\n",
        ),
        (
            "BurstGPT",
            "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,10,5,15,API log\n6.5,GPT-4,20,6,26,API log\n",
        ),
        (
            "Mooncake",
            "{\"timestamp\": 0, \"input_length\": 10, \"output_length\": 5, \"hash_ids\": [1]}\n{\"timestamp\": 1500, \"input_length\": 20, \"output_length\": 6, \"hash_ids\": [1, 2]}\n",
        ),
    ];
    for (name, text) in cases {
        let workload = read(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(workload.requests, [request(0.0, 10, 5), request(1.5, 20, 6)], "{name}");
    }
}

#[test]
fn the_cached_prefix_is_read_where_a_trace_has_it() {
    for column in ["cached_tokens", "prefix_hit_tokens_inf_cache"] {
        let text = format!("arrival_s,input_tokens,output_tokens,{column}\n0,10,5,0\n1,20,6,16\n");
        let cached: Vec<u32> =
            read(&text).unwrap().requests.iter().map(|request| request.cached_tokens).collect();
        assert_eq!(cached, [0, 16], "{column}");
    }
    let error =
        read("arrival_s,input_tokens,output_tokens,cached_tokens\n0,10,5,11\n").unwrap_err().to_string();
    assert!(error.contains("cached tokens is `11`, wanted at most the input tokens"), "{error}");
}

#[test]
fn compression_is_told_by_the_first_bytes() {
    let text = b"arrival_s,input_tokens,output_tokens\n0,1,2\n";
    let mut gzip = flate2_encoder();
    gzip.write_all(text).unwrap();
    for bytes in [text.to_vec(), zstd::encode_all(&text[..], 3).unwrap(), gzip.finish().unwrap()] {
        let (_keep, path) = written(&bytes);
        assert_eq!(read_trace(&path).unwrap().requests, [request(0.0, 1, 2)]);
    }
}

fn flate2_encoder() -> flate2::write::GzEncoder<Vec<u8>> {
    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast())
}

#[test]
fn bad_rows_are_named_by_line_column_and_value() {
    let text = "arrival_s,input_tokens,output_tokens\n0,1,2\nsoon,1,2\n2,-4,2\n3,1\n4,1,2\n";
    let error = read(text).unwrap_err().to_string();
    let (_, problems) = error.split_once('\n').unwrap();
    assert!(error.contains("3 bad row(s)"), "{error}");
    assert_eq!(
        problems,
        "  line 3: arrival is `soon`, wanted seconds\n  \
           line 4: input tokens is `-4`, wanted a number of tokens, 0 or more\n  \
           line 5: output tokens is ``, wanted a value"
    );
}

#[test]
fn what_is_no_trace_is_said_to_be_none() {
    assert!(matches!(read("").unwrap_err(), ReadError::Empty { .. }));
    assert!(matches!(read("arrival_s,input_tokens,output_tokens\n").unwrap_err(), ReadError::Empty { .. }));
    assert!(matches!(read("a,b,c\n1,2,3\n").unwrap_err(), ReadError::UnknownFormat { .. }));
    assert!(matches!(read_trace(&PathBuf::from("/does/not/exist")).unwrap_err(), ReadError::Io { .. }));
}

#[test]
fn rows_out_of_order_are_put_in_order_and_noted() {
    let workload = read("arrival_s,input_tokens,output_tokens\n5,1,1\n3,2,2\n9,3,3\n").unwrap();
    assert_eq!(workload.requests, [request(0.0, 2, 2), request(2.0, 1, 1), request(6.0, 3, 3)]);
    assert_eq!(workload.notes.len(), 1);
}

#[test]
fn the_demo_repeats_for_its_seed_and_begins_idle() {
    let minutes = Duration::from_secs(1_800);
    let first = demo(minutes, 1);
    assert_eq!(first, demo(minutes, 1));
    assert_ne!(first, demo(minutes, 2));
    assert!(first.requests[0].arrival > Duration::from_secs(30));
    let burst = first.requests.iter().filter(|request| request.arrival < Duration::from_secs(40)).count();
    assert!((30..=90).contains(&burst), "{burst}");
    let mut input: Vec<u32> = first.requests.iter().map(|request| request.input_tokens).collect();
    input.sort_unstable();
    let median = input[input.len() / 2];
    assert!((940..=1100).contains(&median), "{median}");
}

#[test]
fn the_recorded_traces_are_read_whole() {
    let shared = std::env::var_os("FOREWARM_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    for (name, rows) in [
        ("azure2023_conv", 19_366),
        ("azure2023_code", 8_819),
        ("mooncake_conversation", 12_031),
        ("sg_mlarge_scaled_w1", 574_601),
    ] {
        let path = shared.join("traces").join(format!("{name}.csv.zst"));
        if !path.exists() {
            println!("skipped: {} not found", path.display());
            return;
        }
        assert_eq!(read_trace(&path).unwrap().requests.len(), rows, "{name}");
    }
}

#[test]
fn sources_are_named_on_the_command_line() {
    assert_eq!("demo".parse::<WorkloadSource>().unwrap(), WorkloadSource::Demo { seed: 1 });
    assert_eq!("demo:7".parse::<WorkloadSource>().unwrap(), WorkloadSource::Demo { seed: 7 });
    assert!("demo:x".parse::<WorkloadSource>().is_err());
    assert_eq!("t.csv".parse::<WorkloadSource>().unwrap(), WorkloadSource::File("t.csv".into()));
}

proptest! {
    #[test]
    fn scaling_multiplies_and_keeps_the_order(arrivals in prop::collection::vec(0.0..5_000.0_f64, 1..60), copies in 1_u32..5, seed: u64) {
        let mut requests: Vec<Request> = arrivals.iter().map(|&second| request(second, 1, 1)).collect();
        requests.sort_by_key(|request| request.arrival);
        let workload = Workload { requests: requests.clone(), notes: vec![] };
        let scaled = workload.clone().scaled(copies, seed);
        prop_assert_eq!(scaled.requests.len(), requests.len() * copies as usize);
        prop_assert!(scaled.requests.is_sorted_by_key(|request| request.arrival));
        prop_assert_eq!(&scaled, &workload.clone().scaled(copies, seed));
        prop_assert_eq!(workload.clone().scaled(1, seed), workload);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut text = b"arrival_s,input_tokens,output_tokens\n".to_vec();
        text.extend(&bytes);
        for bytes in [bytes, text] {
            let (_keep, path) = written(&bytes);
            drop(read_trace(&path));
        }
    }
}
