//! How fast the imitated engine is: timing models as data, and the named presets.
//!
//! Presets come from published measurements of real GPUs; `PROFILES.md` gives each one's source and fit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::ConfigProblem;

/// Tokens in one block of KV memory (vLLM's default on GPUs).
pub const KV_BLOCK_TOKENS: u32 = 16;

/// Slots of the `simple` preset.
pub const SIMPLE_DEFAULT_SLOTS: u32 = 8;

/// Longest prompt plus output the `simple` preset takes, in tokens: longer than any request of the public traces.
const SIMPLE_MAX_MODEL_LEN: u32 = 1 << 20;

/// Upper limit for the sizes in a profile, so that token arithmetic stays within 32 bits.
const MAX_SIZE: u32 = 1 << 27;

/// An engine's speed and size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EngineProfile {
    /// What it is called in messages.
    pub name: String,
    /// Longest prompt plus output in tokens; longer requests are refused.
    pub max_model_len: u32,
    /// How requests share the engine and how long things take.
    pub timing: TimingModel,
}

/// How requests share the engine and how long things take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TimingModel {
    /// A fixed number of independent requests, each at the same pace.
    Slots(SlotModel),
    /// Continuous batching with paged KV memory.
    Batching(BatchingModel),
}

/// The simple engine: a request holds one slot for its prefill and decode time, whatever the others do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlotModel {
    /// Requests served at a time.
    pub slots: u32,
    /// Prompt tokens processed per second, per slot.
    pub prefill_tokens_per_second: f64,
    /// Seconds from one output token to the next.
    pub seconds_per_output_token: f64,
}

impl SlotModel {
    /// Returns how long a prompt of this length takes.
    #[must_use]
    pub fn prefill_time(&self, prompt_tokens: u32) -> Duration {
        Duration::from_secs_f64(f64::from(prompt_tokens) / self.prefill_tokens_per_second)
    }
}

/// Sizes and step times of a continuous-batching engine. The names are vLLM's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchingModel {
    /// Most requests in one batch.
    pub max_num_seqs: u32,
    /// Most tokens (prefill and decode) in one step; longer prompts are processed in chunks.
    pub max_num_batched_tokens: u32,
    /// KV memory in blocks of [`KV_BLOCK_TOKENS`] tokens.
    pub kv_blocks: u32,
    /// How long a step takes.
    pub step_time: StepTime,
}

/// A step's duration. Decoding `B` requests whose contexts sum to `K` tokens takes `a + b·B + c·K` ms (so with equal
/// contexts `a + b·B + c·B·ctx`); processing `n` prompt tokens alone takes `p0 + p1·n` ms. A step that does both takes
/// the decode time plus `p1·n`: the fixed part (weights read, kernels launched) is paid once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepTime {
    /// `a`: fixed time of a decode step, ms.
    pub decode_base_ms: f64,
    /// `b`: per request in the batch, ms.
    pub decode_per_request_ms: f64,
    /// `c`: per token of context in the batch, ms.
    pub decode_per_context_token_ms: f64,
    /// `p0`: fixed time of a prefill step, ms.
    pub prefill_base_ms: f64,
    /// `p1`: per prompt token, ms.
    pub prefill_per_token_ms: f64,
}

impl StepTime {
    /// Returns how long a step takes that decodes for `decoding` requests with `context_tokens` tokens of context in
    /// all, and processes `prefill_tokens` prompt tokens.
    #[must_use]
    pub fn step(&self, decoding: u32, context_tokens: u64, prefill_tokens: u64) -> Duration {
        let fixed_ms = if decoding > 0 {
            self.decode_base_ms
                + self.decode_per_request_ms * f64::from(decoding)
                + self.decode_per_context_token_ms * context_tokens as f64
        } else {
            self.prefill_base_ms
        };
        let total_ms = fixed_ms + self.prefill_per_token_ms * prefill_tokens as f64;
        Duration::from_secs_f64(total_ms / 1e3)
    }
}

/// A measured preset: name, sizes, and the coefficients a, b, c, p0, p1 of [`StepTime`].
struct Preset {
    name: &'static str,
    max_model_len: u32,
    max_num_batched_tokens: u32,
    kv_blocks: u32,
    coefficients_ms: [f64; 5],
}

/// Batch limit of the measured presets: vLLM's long-standing default.
const PRESET_MAX_NUM_SEQS: u32 = 256;

/// `kv_blocks` = (90 % of GPU memory − 16-bit weights) ÷ (16 tokens × KV bytes per token).
const PRESETS: &[Preset] = &[
    Preset {
        name: "llama2-70b-h100-tp8",
        max_model_len: 4096,
        max_num_batched_tokens: 8192,
        kv_blocks: 83_000,
        coefficients_ms: [29.90, 0.206, 1.737e-4, 10.4, 0.0909],
    },
    Preset {
        name: "llama2-70b-h100-tp4",
        max_model_len: 4096,
        max_num_batched_tokens: 8192,
        kv_blocks: 28_000,
        coefficients_ms: [28.71, 0.274, 1.198e-4, 6.6, 0.1071],
    },
    Preset {
        name: "bloom-176b-h100-tp8",
        max_model_len: 2048,
        max_num_batched_tokens: 8192,
        kv_blocks: 3_480,
        coefficients_ms: [35.46, 0.312, 1.797e-4, 7.5, 0.154],
    },
    Preset {
        name: "bloom-176b-a100-tp8",
        max_model_len: 2048,
        max_num_batched_tokens: 2048,
        kv_blocks: 3_480,
        coefficients_ms: [47.80, 0.456, 4.483e-4, 23.2, 0.351],
    },
    Preset {
        name: "llama3.1-8b-a100-tp4",
        max_model_len: 131_072,
        max_num_batched_tokens: 2048,
        kv_blocks: 129_000,
        coefficients_ms: [6.68, 0.352, 1.22e-4, 12.1, 0.0618],
    },
];

/// A profile name that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile `{name}` does not exist; valid names: {}", EngineProfile::names().collect::<Vec<_>>().join(", "))]
pub struct UnknownProfile {
    /// The name asked for.
    pub name: String,
}

impl EngineProfile {
    /// Returns the simple engine with this many slots: 5,000 prompt tokens/s and 0.03 s per output token, independent
    /// of the batch.
    #[must_use]
    pub fn simple(slots: u32) -> Self {
        let model = SlotModel { slots, prefill_tokens_per_second: 5_000.0, seconds_per_output_token: 0.03 };
        Self { name: "simple".into(), max_model_len: SIMPLE_MAX_MODEL_LEN, timing: TimingModel::Slots(model) }
    }

    /// Returns the preset of this name.
    ///
    /// # Errors
    /// If there is none; the message lists those that exist.
    pub fn named(name: &str) -> Result<Self, UnknownProfile> {
        if name == "simple" {
            return Ok(Self::simple(SIMPLE_DEFAULT_SLOTS));
        }
        let unknown = || UnknownProfile { name: name.into() };
        let preset = PRESETS.iter().find(|preset| preset.name == name).ok_or_else(unknown)?;
        let [a, b, c, p0, p1] = preset.coefficients_ms;
        Ok(Self {
            name: name.into(),
            max_model_len: preset.max_model_len,
            timing: TimingModel::Batching(BatchingModel {
                max_num_seqs: PRESET_MAX_NUM_SEQS,
                max_num_batched_tokens: preset.max_num_batched_tokens,
                kv_blocks: preset.kv_blocks,
                step_time: StepTime {
                    decode_base_ms: a,
                    decode_per_request_ms: b,
                    decode_per_context_token_ms: c,
                    prefill_base_ms: p0,
                    prefill_per_token_ms: p1,
                },
            }),
        })
    }

    /// Returns the presets' names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        std::iter::once("simple").chain(PRESETS.iter().map(|preset| preset.name))
    }

    /// Returns the longest prompt plus output that can run, in tokens.
    #[must_use]
    pub fn max_request_tokens(&self) -> u32 {
        match &self.timing {
            TimingModel::Slots(_) => self.max_model_len,
            TimingModel::Batching(model) => {
                self.max_model_len.min(model.kv_blocks.saturating_mul(KV_BLOCK_TOKENS))
            }
        }
    }

    /// Adds what is wrong with the profile to `problems`.
    pub(crate) fn check(&self, problems: &mut Vec<ConfigProblem>) {
        let mut size = |field: &str, value: u32, least: u32| {
            if !(least..=MAX_SIZE).contains(&value) {
                problems.push(ConfigProblem::new(field, value, format!("{least} to {MAX_SIZE}")));
            }
        };
        size("profile.maxModelLen", self.max_model_len, 2);
        match &self.timing {
            TimingModel::Slots(model) => {
                size("profile.timing.slots.slots", model.slots, 1);
                let rate = model.prefill_tokens_per_second;
                if !(rate.is_finite() && rate > 0.0) {
                    let field = "profile.timing.slots.prefillTokensPerSecond";
                    problems.push(ConfigProblem::new(field, rate, "a finite number above 0"));
                }
                let pace = model.seconds_per_output_token;
                // Also the least that keeps the token clock (nanoseconds) from standing still.
                if !(1e-6..=3600.0).contains(&pace) {
                    let field = "profile.timing.slots.secondsPerOutputToken";
                    problems.push(ConfigProblem::new(field, pace, "0.000001 to 3600"));
                }
            }
            TimingModel::Batching(model) => {
                size("profile.timing.batching.maxNumSeqs", model.max_num_seqs, 1);
                size("profile.timing.batching.maxNumBatchedTokens", model.max_num_batched_tokens, 1);
                size("profile.timing.batching.kvBlocks", model.kv_blocks, 1);
                model.step_time.check(problems);
            }
        }
    }
}

impl StepTime {
    fn check(&self, problems: &mut Vec<ConfigProblem>) {
        // A step needs some time, or the model would do infinite work in no time.
        let fields = [
            ("decodeBaseMs", self.decode_base_ms, 1e-3),
            ("decodePerRequestMs", self.decode_per_request_ms, 0.0),
            ("decodePerContextTokenMs", self.decode_per_context_token_ms, 0.0),
            ("prefillBaseMs", self.prefill_base_ms, 1e-3),
            ("prefillPerTokenMs", self.prefill_per_token_ms, 0.0),
        ];
        for (name, value, least) in fields {
            if !(least..=1e6).contains(&value) {
                let field = format!("profile.timing.batching.stepTime.{name}");
                problems.push(ConfigProblem::new(field, value, format!("{least} to 1000000")));
            }
        }
    }
}

impl FromStr for EngineProfile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::named(name)
    }
}

impl fmt::Display for EngineProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
