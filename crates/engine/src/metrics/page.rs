//! The `/metrics` page itself.

use super::histogram::Histogram;
use super::text::{Exposition, SplitLabels, escape};
use super::{EngineMetrics, STATUS_CLASSES};
use crate::profile::{EngineProfile, KV_BLOCK_TOKENS, TimingModel};
use crate::scheduler::Occupancy;

/// What vLLM answers with, even when asked for OpenMetrics.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=1.0.0; charset=utf-8";

/// Everything the page shows, taken at one moment.
pub(crate) struct Snapshot<'a> {
    pub(crate) model: &'a str,
    pub(crate) profile: &'a EngineProfile,
    pub(crate) metrics: EngineMetrics,
    pub(crate) occupancy: Occupancy,
    /// Unix seconds.
    pub(crate) started: f64,
    /// Wall seconds.
    pub(crate) lag_worst: f64,
    /// Wall seconds.
    pub(crate) lag_p99: f64,
}

impl Snapshot<'_> {
    /// Writes the page.
    pub(crate) fn render(&self) -> String {
        let mut page = Exposition::new(self.started);
        let model = format!("model_name=\"{}\"", escape(self.model));
        let base = format!("engine=\"0\",{model}");
        let help = "Start time of the process since unix epoch in seconds.";
        page.gauge("process_start_time_seconds", help, &[("", self.started)]);
        self.render_load(&mut page, &base);
        self.render_unused(&mut page, &base);
        self.render_counters(&mut page, &base, &model);
        self.render_histograms(&mut page, &model);
        self.render_cache_config(&mut page, &base);
        self.render_http(&mut page);
        let help = "Worst recent delay of the engine's loop behind its model, in wall seconds.";
        page.gauge("forewarm_engine_timer_lag_seconds", help, &[("", self.lag_worst)]);
        let help =
            "99th percentile of the recent delay of the engine's loop behind its model, in wall seconds.";
        page.gauge("forewarm_engine_timer_lag_p99_seconds", help, &[("", self.lag_p99)]);
        page.into_text()
    }

    fn render_load(&self, page: &mut Exposition, base: &str) {
        let Occupancy { running, waiting, kv_usage } = self.occupancy;
        let help = "Number of requests in model execution batches.";
        page.gauge("vllm:num_requests_running", help, &[(base, running as f64)]);
        let help = "Number of requests waiting to be processed.";
        page.gauge("vllm:num_requests_waiting", help, &[(base, waiting as f64)]);
        let help =
            "Number of waiting requests by reason. Sum of all reasons equals vllm:num_requests_waiting.";
        let capacity = format!("{base},reason=\"capacity\"");
        let deferred = format!("{base},reason=\"deferred\"");
        let series = [(capacity.as_str(), waiting as f64), (deferred.as_str(), 0.0)];
        page.gauge("vllm:num_requests_waiting_by_reason", help, &series);
        let state = |name: &str| format!("{base},sleep_state=\"{name}\"");
        let (awake, offloaded, discarded) =
            (state("awake"), state("weights_offloaded"), state("discard_all"));
        let series = [(awake.as_str(), 1.0), (offloaded.as_str(), 0.0), (discarded.as_str(), 0.0)];
        page.gauge(
            "vllm:engine_sleep_state",
            "Engine sleep state; awake = 1 means engine is awake.",
            &series,
        );
        let help = "KV-cache usage. 1 means 100 percent usage.";
        page.gauge("vllm:kv_cache_usage_perc", help, &[(base, kv_usage)]);
    }

    /// Families of features that the imitated engine doesn't use: present, and zero.
    fn render_unused(&self, page: &mut Exposition, base: &str) {
        let unused = [
            ("vllm:estimated_flops_per_gpu", "Estimated number of floating point operations per GPU."),
            ("vllm:estimated_read_bytes_per_gpu", "Estimated number of bytes read from memory per GPU."),
            ("vllm:estimated_write_bytes_per_gpu", "Estimated number of bytes written to memory per GPU."),
            ("vllm:prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens."),
            (
                "vllm:external_prefix_cache_queries",
                "External prefix cache queries, in number of queried tokens.",
            ),
            ("vllm:external_prefix_cache_hits", "External prefix cache hits, in number of cached tokens."),
            ("vllm:mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items."),
            ("vllm:mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items."),
            ("vllm:prompt_tokens_cached", "Number of cached prompt tokens (local + external)."),
        ];
        for (name, help) in unused {
            page.counter(name, help, &[(base, 0.0)]);
        }
        let tiers = ["device", "host", "p2p", "disk", "external_unspecified"];
        let labels = tiers.map(|tier| format!("{base},source=\"{tier}\""));
        let series = labels.each_ref().map(|labels| (labels.as_str(), 0.0));
        let help = "Prefix-cache hit tokens by the cache tier that supplied them.";
        page.counter("vllm:prompt_tokens_cached_by_source", help, &series);
    }

    fn render_counters(&self, page: &mut Exposition, base: &str, model: &str) {
        let metrics = &self.metrics;
        let prompt_tokens = metrics.prompt_tokens as f64;
        let plain = [
            (
                "vllm:prefix_cache_queries",
                "Prefix cache queries, in number of queried tokens.",
                prompt_tokens,
            ),
            (
                "vllm:num_preemptions",
                "Cumulative number of preemption from the engine.",
                metrics.preemptions as f64,
            ),
            ("vllm:prompt_tokens", "Number of prefill tokens processed.", prompt_tokens),
            (
                "vllm:generation_tokens",
                "Number of generation tokens processed.",
                metrics.generation_tokens as f64,
            ),
        ];
        for (name, help, value) in plain {
            page.counter(name, help, &[(base, value)]);
        }
        let sources =
            [("local_compute", prompt_tokens), ("local_cache_hit", 0.0), ("external_kv_transfer", 0.0)];
        let labels = sources.map(|(source, value)| (format!("{base},source=\"{source}\""), value));
        let series = labels.each_ref().map(|(labels, value)| (labels.as_str(), *value));
        page.counter("vllm:prompt_tokens_by_source", "Number of prompt tokens by source.", &series);

        let reasons = [
            ("stop", metrics.finished_stop),
            ("length", metrics.finished_length),
            ("abort", metrics.finished_abort),
            ("error", 0),
            ("repetition", 0),
        ];
        let labels = reasons.map(|(reason, count)| {
            (format!("engine=\"0\",finished_reason=\"{reason}\",{model}"), count as f64)
        });
        let series = labels.each_ref().map(|(labels, value)| (labels.as_str(), *value));
        page.counter("vllm:request_success", "Count of successfully processed requests.", &series);

        let reasons = [("max_num_queued_reqs", metrics.rejections as f64), ("max_num_queued_tokens", 0.0)];
        let labels = reasons.map(|(reason, count)| (format!("{model},reason=\"{reason}\""), count));
        let series = labels.each_ref().map(|(labels, value)| (labels.as_str(), *value));
        let help = "Number of admission attempts rejected by a queue limit, by reason.";
        page.counter("vllm:admission_rejections", help, &series);
    }

    fn render_histograms(&self, page: &mut Exposition, model: &str) {
        let metrics = &self.metrics;
        let labels = SplitLabels { before: "engine=\"0\"", after: model };
        let prompt = &metrics.request_prompt_tokens;
        let output = &metrics.request_generation_tokens;
        let families: [(&str, &str, &Histogram); 16] = [
            ("vllm:request_prompt_tokens", "Number of prefill tokens processed.", prompt),
            ("vllm:request_generation_tokens", "Number of generation tokens processed.", output),
            (
                "vllm:iteration_tokens_total",
                "Histogram of number of tokens per engine_step.",
                &metrics.step_tokens,
            ),
            (
                "vllm:request_max_num_generation_tokens",
                "Histogram of maximum number of requested generation tokens.",
                output,
            ),
            ("vllm:request_params_n", "Histogram of the n request parameter.", &metrics.params_n),
            ("vllm:request_params_max_tokens", "Histogram of the max_tokens request parameter.", output),
            (
                "vllm:time_to_first_token_seconds",
                "Histogram of time to first token in seconds.",
                &metrics.time_to_first_token,
            ),
            (
                "vllm:inter_token_latency_seconds",
                "Histogram of inter-token latency in seconds.",
                &metrics.inter_token_latency,
            ),
            (
                "vllm:request_time_per_output_token_seconds",
                "Histogram of time_per_output_token_seconds per request.",
                &metrics.time_per_output_token,
            ),
            (
                "vllm:e2e_request_latency_seconds",
                "Histogram of e2e request latency in seconds.",
                &metrics.e2e_latency,
            ),
            (
                "vllm:request_queue_time_seconds",
                "Histogram of time spent in WAITING phase for request.",
                &metrics.queue_time,
            ),
            (
                "vllm:request_inference_time_seconds",
                "Histogram of time spent in RUNNING phase for request.",
                &metrics.inference_time,
            ),
            (
                "vllm:request_prefill_time_seconds",
                "Histogram of time spent in PREFILL phase for request.",
                &metrics.prefill_time,
            ),
            (
                "vllm:request_decode_time_seconds",
                "Histogram of time spent in DECODE phase for request.",
                &metrics.decode_time,
            ),
            (
                "vllm:request_num_preemptions",
                "Histogram of the number of times a request was preempted.",
                &metrics.request_preemptions,
            ),
            (
                "vllm:request_prefill_kv_computed_tokens",
                "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
                prompt,
            ),
        ];
        for (name, help, histogram) in families {
            page.histograms(name, help, &[(labels, histogram)]);
        }
    }

    /// The label set is vLLM's; only the sizes are this engine's.
    fn render_cache_config(&self, page: &mut Exposition, base: &str) {
        let (blocks, tokens) = match &self.profile.timing {
            TimingModel::Batching(model) => {
                (model.kv_blocks, u64::from(model.kv_blocks) * u64::from(KV_BLOCK_TOKENS))
            }
            TimingModel::Slots(model) => {
                let tokens = u64::from(model.slots) * u64::from(self.profile.max_model_len);
                (u32::try_from(tokens / u64::from(KV_BLOCK_TOKENS)).unwrap_or(u32::MAX), tokens)
            }
        };
        let concurrency = tokens as f64 / f64::from(self.profile.max_model_len);
        let labels = format!(
            "_block_size_resolved=\"True\",block_size=\"{KV_BLOCK_TOKENS}\",cache_dtype=\"auto\",\
             cache_hit_alignment_tokens=\"None\",effective_attention_block_size=\"{KV_BLOCK_TOKENS}\",\
             enable_mamba_shared_prefix_checkpoint=\"False\",enable_prefix_caching=\"False\",{},\
             gpu_memory_utilization=\"0.9\",hash_block_size=\"None\",is_attention_free=\"False\",\
             kv_cache_dtype_skip_layers=\"[]\",kv_cache_layout=\"None\",\
             kv_cache_max_concurrency=\"{concurrency:?}\",kv_cache_memory_bytes=\"None\",\
             kv_cache_size_tokens=\"{tokens}\",kv_offloading_backend=\"native\",kv_offloading_size=\"None\",\
             kv_sharing_fast_prefill=\"False\",mamba_block_size=\"None\",mamba_cache_dtype=\"auto\",\
             mamba_cache_mode=\"none\",mamba_page_size_padded=\"None\",mamba_ssm_cache_dtype=\"float32\",\
             num_cpu_blocks=\"None\",num_gpu_blocks=\"{blocks}\",num_gpu_blocks_override=\"None\",\
             prefix_cache_retention_interval=\"0\",prefix_caching_hash_algo=\"sha256\",\
             prefix_match_unit=\"None\",replayssm_buffer_len=\"16\",skip_page_size_padded=\"None\",\
             sliding_window=\"None\",swa_bounded_replay=\"True\",use_kda_recoverssm=\"False\",\
             use_replayssm=\"False\",user_specified_block_size=\"False\"",
            // vLLM puts no model name on this family.
            base.split(',').next().unwrap_or(base),
        );
        page.gauge("vllm:cache_config_info", "Information of the LLMEngine CacheConfig", &[(&labels, 1.0)]);
    }

    fn render_http(&self, page: &mut Exposition) {
        let mut counts = Vec::new();
        let mut durations = Vec::new();
        for (key, series) in &self.metrics.http {
            let handler = format!("handler=\"{}\"", key.handler);
            let method = format!("method=\"{}\"", key.method);
            for (class, count) in STATUS_CLASSES.iter().zip(series.by_class) {
                if count > 0 {
                    counts.push((format!("{handler},{method},status=\"{class}\""), count as f64));
                }
            }
            durations.push((handler, method, &series.duration));
        }
        let series: Vec<(&str, f64)> =
            counts.iter().map(|(labels, count)| (labels.as_str(), *count)).collect();
        page.counter("http_requests", "Total number of requests by method, status and handler.", &series);
        let series: Vec<(SplitLabels<'_>, &Histogram)> = durations
            .iter()
            .map(|(before, after, histogram)| (SplitLabels { before, after }, *histogram))
            .collect();
        let help = "Latency with only few buckets by handler.";
        page.histograms("http_request_duration_seconds", help, &series);
    }
}
