//! A cumulative histogram with vLLM's bucket bounds.

/// Bounds of `vllm:time_to_first_token_seconds`.
pub(super) const TIME_TO_FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
/// Bounds of the inter-token latencies.
pub(super) const TOKEN_LATENCY: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
/// Bounds of the times of whole requests and their phases.
pub(super) const REQUEST_LATENCY: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
/// Bounds of `vllm:iteration_tokens_total`.
pub(super) const STEP_TOKENS: &[f64] =
    &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];
/// Bounds of `vllm:request_num_preemptions`.
pub(super) const PREEMPTIONS: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0];
/// Bounds of `vllm:request_params_n`.
pub(super) const PARAMS_N: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];
/// Bounds of `http_request_duration_seconds`.
pub(super) const HTTP_DURATION: &[f64] = &[0.1, 0.5, 1.0];

/// The 1-2-5 series that vLLM builds up to the model's maximum length.
pub(super) fn token_bounds(max_model_len: u32) -> Vec<f64> {
    let limit = u64::from(max_model_len);
    let decades = (0..).map(|exponent| 10_u64.pow(exponent)).take_while(|decade| *decade <= limit);
    decades
        .flat_map(|decade| [1, 2, 5].map(|mantissa| mantissa * decade))
        .filter(|bound| *bound <= limit)
        .map(|bound| bound as f64)
        .collect()
}

/// Counts of observations by upper bound.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds: Vec<f64>,
    /// Per bound, then one for what is above all bounds; not cumulative.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    pub(super) fn new(bounds: &[f64]) -> Self {
        Self { bounds: bounds.into(), counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    pub(super) fn observe(&mut self, value: f64) {
        self.observe_many(value, 1);
    }

    pub(super) fn observe_many(&mut self, value: f64, times: u32) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += u64::from(times);
        self.sum += value * f64::from(times);
    }

    /// Upper bounds with cumulative counts; the last bound is infinite.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().scan(0, |total, count| {
            *total += count;
            Some(*total)
        }))
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn sum(&self) -> f64 {
        self.sum
    }
}
