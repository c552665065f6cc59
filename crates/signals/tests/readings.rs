//! Engines' pages as canonical numbers: real captures where there are some, small samples of the rest.

use std::{env, fs, path::PathBuf};

use forewarm_signals::{
    engine::{EngineKind, EngineMetric, EngineReading, EngineSignal, MAX_MODELS, OTHER_MODELS, ReadingError},
    text::Format,
};

fn read(kind: EngineKind, page: &str) -> EngineReading {
    EngineReading::parse(kind, page.as_bytes(), Format::Prometheus).expect("a page")
}

fn captured(name: &str) -> Option<String> {
    let shared = env::var_os("FOREWARM_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = shared.join("engine-metrics").join(name);
    let page = fs::read_to_string(&path).ok();
    if page.is_none() {
        eprintln!("skipped: {} not found", path.display());
    }
    page
}

#[test]
fn captures_give_the_numbers_that_were_captured() {
    use EngineMetric::{
        GenerationTokensTotal, KvUsage, PromptTokensTotal, RejectionsTotal, Running, Waiting,
    };
    let vllm = EngineKind::Vllm;
    let llamacpp = EngineKind::LlamaCpp;
    let table = [
        (vllm, "vllm-0.32.0-fresh.txt", vec![(Waiting, Some(0.0)), (Running, Some(0.0))]),
        (vllm, "vllm-0.32.0-idle.txt", vec![(Waiting, Some(0.0)), (Running, Some(0.0))]),
        (
            vllm,
            "vllm-0.32.0-loaded.txt",
            vec![
                (Waiting, Some(7.0)),
                (Running, Some(1.0)),
                (KvUsage, Some(0.001_709_401_709_401_703_3)),
                (PromptTokensTotal, Some(74.0)),
                (GenerationTokensTotal, Some(920.0)),
                (EngineMetric::RequestsFinishedTotal, Some(3.0)),
                (RejectionsTotal, Some(0.0)),
                (EngineMetric::TtftSecondsCount, Some(4.0)),
            ],
        ),
        (
            vllm,
            "vllm-0.32.0-after-rejects-and-abort.txt",
            vec![(RejectionsTotal, Some(3.0)), (Waiting, Some(0.0))],
        ),
        (llamacpp, "llamacpp-0.3.36-fresh.txt", vec![(Waiting, Some(0.0)), (Running, Some(0.0))]),
        (
            llamacpp,
            "llamacpp-0.3.36-loaded.txt",
            vec![
                (Waiting, Some(4.0)),
                (Running, Some(1.0)),
                (KvUsage, None),
                (RejectionsTotal, None),
                (GenerationTokensTotal, Some(7540.0)),
            ],
        ),
    ];
    for (kind, file, expected) in table {
        let Some(page) = captured(file) else { continue };
        let reading = read(kind, &page);
        for (metric, value) in expected {
            assert_eq!(reading.total().get(metric), value, "{file}: {metric}");
        }
    }
}

#[test]
fn series_are_added_up_and_similar_names_left_alone() {
    let page = "# TYPE vllm:num_requests_waiting gauge\n\
                vllm:num_requests_waiting{engine=\"0\",model_name=\"a\"} 3\n\
                vllm:num_requests_waiting{engine=\"1\",model_name=\"a\"} 4\n\
                vllm:num_requests_waiting{engine=\"0\",model_name=\"b\"} 5\n\
                vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"a\",reason=\"capacity\"} 99\n\
                vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"a\"} 0.25\n\
                vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"a\"} 0.75\n";
    let reading = read(EngineKind::Vllm, page);
    assert_eq!(reading.total().get(EngineMetric::Waiting), Some(12.0));
    assert_eq!(reading.by_model()["a"].get(EngineMetric::Waiting), Some(7.0));
    assert_eq!(reading.by_model()["b"].get(EngineMetric::Waiting), Some(5.0));
    assert_eq!(reading.total().get(EngineMetric::KvUsage), Some(0.75), "shares of caches are not added");
    assert_eq!(reading.total().get(EngineMetric::Running), None, "absent is not zero");
}

#[test]
fn each_engine_has_its_names() {
    use EngineMetric::{GenerationTokensTotal, KvTokens, KvUsage, RejectionsTotal, Running, Waiting};
    let table = [
        (EngineKind::Vllm, "vllm:gpu_cache_usage_perc{model_name=\"a\"} 0.5\n", vec![(KvUsage, 0.5)]),
        (
            EngineKind::Vllm,
            "vllm:gpu_cache_usage_perc{model_name=\"a\"} 0.9\nvllm:kv_cache_usage_perc{model_name=\"a\"} 0.5\n",
            vec![(KvUsage, 0.5)],
        ),
        (
            EngineKind::Vllm,
            "vllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"1000\"} 1\n\
             vllm:cache_config_info{block_size=\"16\",engine=\"1\",num_gpu_blocks=\"500\"} 1\n\
             vllm:cache_config_info{block_size=\"16\",engine=\"2\",num_gpu_blocks=\"None\"} 1\n",
            vec![(KvTokens, 24_000.0)],
        ),
        (
            EngineKind::Sglang,
            "sglang:num_queue_reqs{model_name=\"a\"} 3\nsglang:num_running_reqs{model_name=\"a\"} 8\n\
             sglang:token_usage{model_name=\"a\"} 0.28\n",
            vec![(Waiting, 3.0), (Running, 8.0), (KvUsage, 0.28)],
        ),
        (
            EngineKind::Tgi,
            "tgi_queue_size 7\ntgi_batch_current_size 4\ntgi_request_generated_tokens_sum 8123\n\
             tgi_request_failure{err=\"overloaded\"} 2\ntgi_request_failure{err=\"validation\"} 9\n",
            vec![(Waiting, 7.0), (Running, 4.0), (GenerationTokensTotal, 8123.0), (RejectionsTotal, 2.0)],
        ),
        (
            EngineKind::Triton,
            "nv_inference_pending_request_count{model=\"a\",version=\"1\"} 6\n",
            vec![(Waiting, 6.0)],
        ),
        (
            EngineKind::Triton,
            "nv_inference_pending_request_count{model=\"ensemble\",version=\"1\"} 6\n\
             nv_trt_llm_request_metrics{model=\"a\",request_type=\"waiting\",version=\"1\"} 3\n\
             nv_trt_llm_request_metrics{model=\"a\",request_type=\"max\",version=\"1\"} 512\n\
             nv_trt_llm_request_metrics{model=\"a\",request_type=\"scheduled\",version=\"1\"} 4\n\
             nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\",model=\"a\"} 0.4\n",
            vec![(Waiting, 3.0), (Running, 4.0), (KvUsage, 0.4)],
        ),
        (
            EngineKind::LlamaCpp,
            "llamacpp:requests_processing 1\nllamacpp:requests_deferred 4\nllamacpp:tokens_predicted_total 7540\n",
            vec![(Waiting, 4.0), (Running, 1.0), (GenerationTokensTotal, 7540.0)],
        ),
    ];
    for (kind, page, expected) in table {
        let reading = read(kind, page);
        for (metric, value) in expected {
            assert_eq!(reading.total().get(metric), Some(value), "{kind}: {metric}");
        }
    }
}

#[test]
fn a_broken_line_counts_only_where_it_matters() {
    let parse = |page: &str| EngineReading::parse(EngineKind::Vllm, page.as_bytes(), Format::Prometheus);
    let foreign = parse("other{ 1\n-bad\nvllm:num_requests_waiting 2\n").expect("a page");
    assert_eq!(foreign.total().get(EngineMetric::Waiting), Some(2.0));
    let broken = parse("vllm:num_requests_waiting two\n").expect_err("a broken line");
    assert!(matches!(broken, ReadingError::Line(at) if at.line == 1), "{broken}");
    let html = parse("<html>\n<body>Not here</body>\n").expect_err("no page of metrics");
    assert!(matches!(html, ReadingError::NotMetrics(_)), "{html}");
    assert_eq!(parse("").expect("an empty page").total().get(EngineMetric::Waiting), None);
}

#[test]
fn models_beyond_the_limit_are_added_up() {
    let page: String = (0..MAX_MODELS + 5)
        .map(|model| format!("vllm:num_requests_waiting{{model_name=\"m{model:04}\"}} 1\n"))
        .collect();
    let reading = read(EngineKind::Vllm, &page);
    assert_eq!(reading.by_model().len(), MAX_MODELS + 1);
    assert_eq!(reading.by_model()[OTHER_MODELS].get(EngineMetric::Waiting), Some(5.0));
    assert_eq!(reading.total().get(EngineMetric::Waiting), Some((MAX_MODELS + 5) as f64));
}

#[test]
fn names_of_signals_and_engines_read_back() {
    for signal in EngineSignal::all() {
        assert_eq!(signal.name().parse(), Ok(signal));
    }
    let unknown = "queue".parse::<EngineSignal>().expect_err("no such signal").to_string();
    assert!(unknown.contains("`queue`") && unknown.contains("`waiting`"), "{unknown}");
    for kind in EngineKind::ALL {
        assert_eq!(kind.label().parse(), Ok(kind));
    }
    assert!("vlm".parse::<EngineKind>().is_err());
}
