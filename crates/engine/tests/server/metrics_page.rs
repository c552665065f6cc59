//! The `/metrics` page has vLLM 0.32's families, labels and buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::support::{fast, get, request, start};
use forewarm_engine::profile::{EngineProfile, TimingModel};
use forewarm_engine::{Engine, EngineConfig};

/// Families of vLLM 0.32 with their types; a counter's name is without `_total`, as both may follow it.
const FAMILIES: &[(&str, &str)] = &[
    ("vllm:num_requests_running", "gauge"),
    ("vllm:num_requests_waiting", "gauge"),
    ("vllm:num_requests_waiting_by_reason", "gauge"),
    ("vllm:engine_sleep_state", "gauge"),
    ("vllm:kv_cache_usage_perc", "gauge"),
    ("vllm:cache_config_info", "gauge"),
    ("vllm:prefix_cache_queries_total", "counter"),
    ("vllm:prefix_cache_hits_total", "counter"),
    ("vllm:num_preemptions_total", "counter"),
    ("vllm:prompt_tokens_total", "counter"),
    ("vllm:prompt_tokens_by_source_total", "counter"),
    ("vllm:generation_tokens_total", "counter"),
    ("vllm:request_success_total", "counter"),
    ("vllm:admission_rejections_total", "counter"),
    ("vllm:request_prompt_tokens", "histogram"),
    ("vllm:request_generation_tokens", "histogram"),
    ("vllm:iteration_tokens_total", "histogram"),
    ("vllm:time_to_first_token_seconds", "histogram"),
    ("vllm:inter_token_latency_seconds", "histogram"),
    ("vllm:request_time_per_output_token_seconds", "histogram"),
    ("vllm:e2e_request_latency_seconds", "histogram"),
    ("vllm:request_queue_time_seconds", "histogram"),
    ("vllm:request_inference_time_seconds", "histogram"),
    ("vllm:request_prefill_time_seconds", "histogram"),
    ("vllm:request_decode_time_seconds", "histogram"),
    ("vllm:request_num_preemptions", "histogram"),
    ("process_start_time_seconds", "gauge"),
    ("http_requests_total", "counter"),
    ("http_request_duration_seconds", "histogram"),
];

/// A page's types by family, and its series (name and labels) with their values.
struct Page {
    types: BTreeMap<String, String>,
    series: BTreeMap<String, f64>,
}

fn parse(text: &str) -> Page {
    let mut page = Page { types: BTreeMap::new(), series: BTreeMap::new() };
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP ")) {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert_eq!(page.types.insert(name.into(), kind.into()), None, "{name} is declared twice");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            assert_eq!(page.series.insert(series.into(), value), None, "{series} appears twice");
        }
    }
    page
}

/// An engine that looks like the one of the captures: model `tiny`, at most 2,048 tokens.
async fn captured_engine() -> (Engine, tokio_util::sync::CancellationToken) {
    let mut profile: EngineProfile = "llama3.1-8b-a100-tp4".parse().unwrap();
    profile.max_model_len = 2048;
    assert!(matches!(profile.timing, TimingModel::Batching(_)));
    start(EngineConfig { profile, ..fast(1) }).await
}

#[tokio::test]
async fn the_families_that_matter_are_there() {
    let (engine, _shutdown) = captured_engine().await;
    let answer = get(engine.address(), "/metrics").await;
    assert!(
        answer.head.contains("content-type: text/plain; version=1.0.0; charset=utf-8"),
        "{}",
        answer.head
    );
    let page = parse(&answer.body);
    for (name, kind) in FAMILIES {
        assert_eq!(page.types.get(*name).map(String::as_str), Some(*kind), "{name}");
    }
    assert_eq!(page.series.get("vllm:num_requests_waiting{engine=\"0\",model_name=\"tiny\"}"), Some(&0.0));
}

#[tokio::test]
async fn histograms_are_cumulative_and_agree_with_their_counts() {
    let (engine, _shutdown) = captured_engine().await;
    let body = r#"{"prompt": "once upon a time", "max_tokens": 50}"#;
    for _ in 0..3 {
        assert_eq!(request(engine.address(), "POST", "/v1/completions", "", body).await.status, 200);
    }
    let page = parse(&get(engine.address(), "/metrics").await.body);
    for (family, _) in page.types.iter().filter(|(_, kind)| *kind == "histogram") {
        let mut buckets: Vec<(f64, f64)> = page
            .series
            .iter()
            .filter(|(series, _)| series.starts_with(&format!("{family}_bucket{{")))
            .map(|(series, count)| {
                let bound = series.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
                (bound.parse().unwrap(), *count)
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{family}: {buckets:?}");
        let count =
            page.series.iter().find(|(series, _)| series.starts_with(&format!("{family}_count"))).unwrap();
        assert_eq!(buckets.last().unwrap(), &(f64::INFINITY, *count.1), "{family}");
    }
    let labels = "{engine=\"0\",model_name=\"tiny\"}";
    assert_eq!(page.series[&format!("vllm:time_to_first_token_seconds_count{labels}")], 3.0);
    assert_eq!(page.series[&format!("vllm:inter_token_latency_seconds_count{labels}")], 147.0);
    let http = "http_requests_total{handler=\"/v1/completions\",method=\"POST\",status=\"2xx\"}";
    assert_eq!(page.series[http], 3.0);
}

#[tokio::test]
async fn series_are_those_of_a_captured_page() {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let shared = std::env::var_os("FOREWARM_SHARED").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let path = shared.join("engine-metrics/vllm-0.32.0-fresh.txt");
    let Ok(captured) = std::fs::read_to_string(&path) else {
        println!("skipped: {} not found", path.display());
        return;
    };
    let (engine, _shutdown) = captured_engine().await;
    let ours = parse(&get(engine.address(), "/metrics").await.body);
    let captured = parse(&captured);
    let vllm = |page: &Page| -> BTreeMap<String, String> {
        page.types
            .iter()
            .filter(|(name, _)| name.starts_with("vllm:"))
            .map(|(n, k)| (n.clone(), k.clone()))
            .collect()
    };
    assert_eq!(vllm(&ours), vllm(&captured));
    assert_eq!(comparable_series(&ours), comparable_series(&captured));
    for (name, kind) in &ours.types {
        if !name.starts_with("forewarm_") {
            assert_eq!(captured.types.get(name), Some(kind), "{name} is not in the capture");
        }
    }
}

/// The `vllm:` series; of `cache_config_info`, whose values are the engine's own sizes, only the labels' names.
fn comparable_series(page: &Page) -> BTreeSet<String> {
    let series = page.series.keys().filter(|series| series.starts_with("vllm:"));
    series
        .map(|series| match series.strip_prefix("vllm:cache_config_info{") {
            None => series.clone(),
            Some(labels) => {
                let names = labels.split("\",").map(|label| label.split('=').next().unwrap());
                format!("vllm:cache_config_info {}", names.collect::<Vec<_>>().join(" "))
            }
        })
        .collect()
}
