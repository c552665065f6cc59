//! Models of real GPUs, fitted to published measurements.

use super::{BatchingModel, StepTime};

/// A model's name and sizes, and the coefficients a, b, c, p0, p1 of its [`StepTime`] in ms.
struct Profile {
    name: &'static str,
    max_num_batched_tokens: u32,
    kv_blocks: u32,
    coefficients_ms: [f64; 5],
}

/// vLLM's long-standing default.
const MAX_NUM_SEQS: u32 = 256;

/// Coefficients: `cargo run -p forewarm-sim --example fit_engine`. Sizes and sources: `docs/research/engine-model.md`.
const PROFILES: &[Profile] = &[
    Profile {
        name: "llama2-70b-h100-tp8",
        max_num_batched_tokens: 8192,
        kv_blocks: 83_000,
        coefficients_ms: [29.90, 0.206, 1.737e-4, 10.4, 0.0909],
    },
    Profile {
        name: "llama2-70b-h100-tp4",
        max_num_batched_tokens: 8192,
        kv_blocks: 28_000,
        coefficients_ms: [28.71, 0.274, 1.198e-4, 6.6, 0.1071],
    },
    Profile {
        name: "llama2-70b-a100-tp8",
        max_num_batched_tokens: 2048,
        kv_blocks: 83_000,
        coefficients_ms: [44.07, 0.190, 3.354e-4, 20.1, 0.1552],
    },
    Profile {
        name: "llama2-70b-a100-tp4",
        max_num_batched_tokens: 2048,
        kv_blocks: 28_000,
        coefficients_ms: [43.32, 0.183, 3.716e-4, 13.1, 0.2425],
    },
    Profile {
        name: "bloom-176b-h100-tp8",
        max_num_batched_tokens: 8192,
        kv_blocks: 3_480,
        coefficients_ms: [35.46, 0.312, 1.797e-4, 7.5, 0.154],
    },
    Profile {
        name: "bloom-176b-a100-tp8",
        max_num_batched_tokens: 2048,
        kv_blocks: 3_480,
        coefficients_ms: [47.80, 0.456, 4.483e-4, 23.2, 0.351],
    },
    Profile {
        name: "llama3.1-8b-a100-tp4",
        max_num_batched_tokens: 2048,
        kv_blocks: 129_000,
        coefficients_ms: [6.68, 0.352, 1.22e-4, 12.1, 0.0618],
    },
    Profile {
        name: "llama3.1-8b-a100-tp2",
        max_num_batched_tokens: 2048,
        kv_blocks: 61_000,
        coefficients_ms: [8.28, 0.172, 1.342e-4, 9.9, 0.0420],
    },
    Profile {
        name: "llama3.2-3b-a100-tp4",
        max_num_batched_tokens: 2048,
        kv_blocks: 153_000,
        coefficients_ms: [5.25, 0.232, 8.885e-5, 12.7, 0.0365],
    },
    Profile {
        name: "llama3.2-3b-a100-tp2",
        max_num_batched_tokens: 2048,
        kv_blocks: 75_000,
        coefficients_ms: [5.23, 0.122, 1.323e-4, 9.4, 0.0264],
    },
];

/// A profile name that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("engine profile `{name}` does not exist; there are {}", BatchingModel::names().collect::<Vec<_>>().join(", "))]
pub struct UnknownProfile {
    /// The name asked for.
    pub name: String,
}

impl BatchingModel {
    /// The built-in model of this name.
    ///
    /// # Errors
    /// If there is none; the message lists those that exist.
    pub fn named(name: &str) -> Result<Self, UnknownProfile> {
        let profile = PROFILES.iter().find(|profile| profile.name == name);
        let profile = profile.ok_or_else(|| UnknownProfile { name: name.to_owned() })?;
        let [a, b, c, p0, p1] = profile.coefficients_ms;
        Ok(Self {
            max_num_seqs: MAX_NUM_SEQS,
            max_num_batched_tokens: profile.max_num_batched_tokens,
            kv_blocks: profile.kv_blocks,
            step_time: StepTime {
                decode_base_ms: a,
                decode_per_request_ms: b,
                decode_per_context_token_ms: c,
                prefill_base_ms: p0,
                prefill_per_token_ms: p1,
            },
        })
    }

    /// Names of the built-in models.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PROFILES.iter().map(|profile| profile.name)
    }
}
