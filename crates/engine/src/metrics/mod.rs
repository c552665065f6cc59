//! What the engine counts, and its `/metrics` page: vLLM 0.32's families, labels and buckets.
//!
//! All `vllm:*` times are modelled seconds. What this engine doesn't have (prefix cache, multi-modal cache, FLOP
//! estimates, sleep mode) stays at the value an engine shows that doesn't use it. `forewarm_engine_*` is our own.

mod histogram;
mod page;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::scheduler::{Event, Timeline};
use histogram::Histogram;
pub(crate) use page::{CONTENT_TYPE, Snapshot};

/// Why a request ended without success or with it, in vLLM's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model said so.
    Stop,
    /// `max_tokens` was reached.
    Length,
}

impl FinishReason {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// The engine's counters and histograms.
#[derive(Clone, Debug)]
pub(crate) struct EngineMetrics {
    prompt_tokens: u64,
    generation_tokens: u64,
    preemptions: u64,
    rejections: u64,
    finished_stop: u64,
    finished_length: u64,
    finished_abort: u64,
    time_to_first_token: Histogram,
    inter_token_latency: Histogram,
    time_per_output_token: Histogram,
    e2e_latency: Histogram,
    queue_time: Histogram,
    inference_time: Histogram,
    prefill_time: Histogram,
    decode_time: Histogram,
    request_prompt_tokens: Histogram,
    request_generation_tokens: Histogram,
    step_tokens: Histogram,
    params_n: Histogram,
    request_preemptions: Histogram,
    http: BTreeMap<HttpKey, HttpSeries>,
}

/// One handler's series. The set is small and fixed: handlers and methods come from the routing table, never from
/// the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct HttpKey {
    handler: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug)]
struct HttpSeries {
    /// By status class: 2xx, 4xx, 5xx.
    by_class: [u64; 3],
    duration: Histogram,
}

/// Status classes in the order of [`HttpSeries::by_class`].
const STATUS_CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

impl EngineMetrics {
    pub(crate) fn new(max_model_len: u32) -> Self {
        let tokens = histogram::token_bounds(max_model_len);
        Self {
            prompt_tokens: 0,
            generation_tokens: 0,
            preemptions: 0,
            rejections: 0,
            finished_stop: 0,
            finished_length: 0,
            finished_abort: 0,
            time_to_first_token: Histogram::new(histogram::TIME_TO_FIRST_TOKEN),
            inter_token_latency: Histogram::new(histogram::TOKEN_LATENCY),
            time_per_output_token: Histogram::new(histogram::TOKEN_LATENCY),
            e2e_latency: Histogram::new(histogram::REQUEST_LATENCY),
            queue_time: Histogram::new(histogram::REQUEST_LATENCY),
            inference_time: Histogram::new(histogram::REQUEST_LATENCY),
            prefill_time: Histogram::new(histogram::REQUEST_LATENCY),
            decode_time: Histogram::new(histogram::REQUEST_LATENCY),
            request_prompt_tokens: Histogram::new(&tokens),
            request_generation_tokens: Histogram::new(&tokens),
            step_tokens: Histogram::new(histogram::STEP_TOKENS),
            params_n: Histogram::new(histogram::PARAMS_N),
            request_preemptions: Histogram::new(histogram::PREEMPTIONS),
            http: BTreeMap::new(),
        }
    }

    /// Notes what happened in the model. `finish_reason` is only asked for when a request ended.
    pub(crate) fn record(&mut self, event: &Event, finish_reason: impl FnOnce() -> FinishReason) {
        match event {
            Event::FirstToken { time_to_first_token, prompt_tokens, .. } => {
                self.prompt_tokens += u64::from(*prompt_tokens);
                self.generation_tokens += 1;
                self.time_to_first_token.observe(time_to_first_token.as_secs_f64());
            }
            Event::Tokens { tokens, interval, .. } => {
                self.generation_tokens += u64::from(*tokens);
                self.inter_token_latency.observe_many(interval.as_secs_f64(), *tokens);
            }
            Event::Finished { timeline, .. } => self.record_finished(timeline, finish_reason()),
            Event::Preempted { .. } => self.preemptions += 1,
            Event::Step { tokens } => self.step_tokens.observe(f64::from(*tokens)),
        }
    }

    fn record_finished(&mut self, timeline: &Timeline, reason: FinishReason) {
        match reason {
            FinishReason::Stop => self.finished_stop += 1,
            FinishReason::Length => self.finished_length += 1,
        }
        let seconds = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
        let Timeline { arrived, scheduled, first_token, finished, .. } = *timeline;
        self.e2e_latency.observe(seconds(arrived, finished));
        self.queue_time.observe(seconds(arrived, scheduled));
        self.inference_time.observe(seconds(scheduled, finished));
        self.prefill_time.observe(seconds(scheduled, first_token));
        self.decode_time.observe(seconds(first_token, finished));
        if timeline.output_tokens > 1 {
            let later_tokens = f64::from(timeline.output_tokens - 1);
            self.time_per_output_token.observe(seconds(first_token, finished) / later_tokens);
        }
        self.request_prompt_tokens.observe(f64::from(timeline.prompt_tokens));
        self.request_generation_tokens.observe(f64::from(timeline.output_tokens));
        self.params_n.observe(1.0);
        self.request_preemptions.observe(f64::from(timeline.preemptions));
    }

    /// Notes a request refused by the admission limit.
    pub(crate) fn record_rejection(&mut self) {
        self.rejections += 1;
    }

    /// Notes a streaming client that left.
    pub(crate) fn record_abort(&mut self) {
        self.finished_abort += 1;
    }

    /// Notes an answered HTTP request. `seconds` is wall time, as these families describe the server.
    pub(crate) fn record_http(
        &mut self,
        handler: &'static str,
        method: &'static str,
        status: u16,
        seconds: f64,
    ) {
        let fresh = || HttpSeries { by_class: [0; 3], duration: Histogram::new(histogram::HTTP_DURATION) };
        let series = self.http.entry(HttpKey { handler, method }).or_insert_with(fresh);
        let class = match status {
            ..400 => 0,
            400..500 => 1,
            500.. => 2,
        };
        series.by_class[class] += 1;
        series.duration.observe(seconds);
    }
}
