//! What each engine calls the canonical metrics, by engine and, where a name changed, by version.

use std::{fmt, str::FromStr};

use super::EngineMetric;
use crate::text::Sample;

/// An engine, by the names of its metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// vLLM, and what speaks its metrics.
    #[default]
    Vllm,
    /// SGLang.
    Sglang,
    /// Hugging Face Text Generation Inference.
    Tgi,
    /// Triton, with the TensorRT-LLM backend or without.
    Triton,
    /// llama.cpp's server, started with `--metrics`.
    LlamaCpp,
}

impl EngineKind {
    /// Every engine.
    pub const ALL: [EngineKind; 5] =
        [EngineKind::Vllm, EngineKind::Sglang, EngineKind::Tgi, EngineKind::Triton, EngineKind::LlamaCpp];

    /// Its name in configuration and labels.
    pub const fn label(self) -> &'static str {
        match self {
            EngineKind::Vllm => "vllm",
            EngineKind::Sglang => "sglang",
            EngineKind::Tgi => "tgi",
            EngineKind::Triton => "triton",
            EngineKind::LlamaCpp => "llamacpp",
        }
    }

    /// The label that names the model, where the engine has one.
    pub(super) const fn model_label(self) -> Option<&'static str> {
        match self {
            EngineKind::Vllm | EngineKind::Sglang => Some("model_name"),
            EngineKind::Triton => Some("model"),
            EngineKind::Tgi | EngineKind::LlamaCpp => None,
        }
    }

    /// Every series that says something canonical. For one metric the newest name stands first: the
    /// first that a page has is the one that counts.
    pub(super) const fn series(self) -> &'static [Series] {
        match self {
            EngineKind::Vllm => VLLM,
            EngineKind::Sglang => SGLANG,
            EngineKind::Tgi => TGI,
            EngineKind::Triton => TRITON,
            EngineKind::LlamaCpp => LLAMACPP,
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// No engine has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no known engine; there are `vllm`, `sglang`, `tgi`, `triton` and `llamacpp`")]
pub struct UnknownEngine {
    /// The name.
    pub name: String,
}

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.label() == name)
            .ok_or_else(|| UnknownEngine { name: name.to_owned() })
    }
}

/// One name for one metric.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) metric: EngineMetric,
    pub(super) name: &'static str,
    /// The label and the value that a sample must have, where one name serves several metrics.
    pub(super) only: Option<(&'static str, &'static str)>,
    /// The labels whose product is the value, where the sample's own says nothing.
    pub(super) product: Option<(&'static str, &'static str)>,
}

impl Series {
    /// What a sample says; `None` where the labels that say it are no numbers.
    pub(super) fn value(&self, sample: &Sample<'_>) -> Option<f64> {
        let Some((one, other)) = self.product else { return Some(sample.value) };
        let number = |label| sample.labels.get(label)?.parse::<u32>().ok().map(f64::from);
        Some(number(one)? * number(other)?)
    }
}

const fn named(metric: EngineMetric, name: &'static str) -> Series {
    Series { metric, name, only: None, product: None }
}

const fn labelled(
    metric: EngineMetric,
    name: &'static str,
    label: &'static str,
    value: &'static str,
) -> Series {
    Series { metric, name, only: Some((label, value)), product: None }
}

const fn product(metric: EngineMetric, name: &'static str, one: &'static str, other: &'static str) -> Series {
    Series { metric, name, only: None, product: Some((one, other)) }
}

/// As captured from vLLM 0.32.0. `gpu_cache_usage_perc` was its name until 0.10.
const VLLM: &[Series] = &[
    named(EngineMetric::Waiting, "vllm:num_requests_waiting"),
    named(EngineMetric::Running, "vllm:num_requests_running"),
    named(EngineMetric::KvUsage, "vllm:kv_cache_usage_perc"),
    named(EngineMetric::KvUsage, "vllm:gpu_cache_usage_perc"),
    product(EngineMetric::KvTokens, "vllm:cache_config_info", "num_gpu_blocks", "block_size"),
    named(EngineMetric::PromptTokensTotal, "vllm:prompt_tokens_total"),
    named(EngineMetric::GenerationTokensTotal, "vllm:generation_tokens_total"),
    named(EngineMetric::RequestsFinishedTotal, "vllm:request_success_total"),
    named(EngineMetric::RejectionsTotal, "vllm:admission_rejections_total"),
    named(EngineMetric::PreemptionsTotal, "vllm:num_preemptions_total"),
    named(EngineMetric::TtftSecondsSum, "vllm:time_to_first_token_seconds_sum"),
    named(EngineMetric::TtftSecondsCount, "vllm:time_to_first_token_seconds_count"),
];

/// From the sources of SGLang 0.5.23, `srt/observability/metrics_collector.py`.
const SGLANG: &[Series] = &[
    named(EngineMetric::Waiting, "sglang:num_queue_reqs"),
    named(EngineMetric::Running, "sglang:num_running_reqs"),
    named(EngineMetric::KvUsage, "sglang:token_usage"),
    named(EngineMetric::PromptTokensTotal, "sglang:prompt_tokens_total"),
    named(EngineMetric::GenerationTokensTotal, "sglang:generation_tokens_total"),
    named(EngineMetric::RequestsFinishedTotal, "sglang:num_requests_total"),
    named(EngineMetric::TtftSecondsSum, "sglang:time_to_first_token_seconds_sum"),
    named(EngineMetric::TtftSecondsCount, "sglang:time_to_first_token_seconds_count"),
];

/// TGI's counters carry no `_total`, and tokens are counted by the sums of histograms only. An engine
/// that is full answers with `err="overloaded"`.
const TGI: &[Series] = &[
    named(EngineMetric::Waiting, "tgi_queue_size"),
    named(EngineMetric::Running, "tgi_batch_current_size"),
    named(EngineMetric::PromptTokensTotal, "tgi_request_input_length_sum"),
    named(EngineMetric::GenerationTokensTotal, "tgi_request_generated_tokens_sum"),
    named(EngineMetric::RequestsFinishedTotal, "tgi_request_success"),
    labelled(EngineMetric::RejectionsTotal, "tgi_request_failure", "err", "overloaded"),
];

/// The batch manager of the TensorRT-LLM backend where there is one, else Triton's own scheduler.
const TRITON: &[Series] = &[
    labelled(EngineMetric::Waiting, "nv_trt_llm_request_metrics", "request_type", "waiting"),
    named(EngineMetric::Waiting, "nv_inference_pending_request_count"),
    labelled(EngineMetric::Running, "nv_trt_llm_request_metrics", "request_type", "scheduled"),
    labelled(EngineMetric::KvUsage, "nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type", "fraction"),
    named(EngineMetric::RequestsFinishedTotal, "nv_inference_request_success"),
];

/// As captured from llama.cpp's server of llama-cpp-python 0.3.36. It has no KV usage any more.
const LLAMACPP: &[Series] = &[
    named(EngineMetric::Waiting, "llamacpp:requests_deferred"),
    named(EngineMetric::Running, "llamacpp:requests_processing"),
    named(EngineMetric::KvUsage, "llamacpp:kv_cache_usage_ratio"),
    named(EngineMetric::PromptTokensTotal, "llamacpp:prompt_tokens_total"),
    named(EngineMetric::GenerationTokensTotal, "llamacpp:tokens_predicted_total"),
];
