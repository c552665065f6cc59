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
