//! Continuous batching: requests share an engine's steps and its KV memory, so that company slows each of them.

mod blocks;
mod phase;
mod profiles;
mod replay;
mod replica;

use forewarm_workload::Request;
use serde::{Deserialize, Serialize};

pub use profiles::UnknownProfile;
pub use replay::Served;
pub(crate) use replica::Batching;

use crate::{engine::Engine, time::Micros};

/// Tokens in one block of KV memory: vLLM's default on GPUs.
pub const KV_BLOCK_TOKENS: u32 = 16;

/// Sizes and step times of a continuous-batching engine. The names are vLLM's.
///
/// The schedule is that of vLLM's V1 scheduler: running requests come first, each step reads at most
/// `max_num_batched_tokens` tokens (long prompts in chunks, beside the decoding ones), the queue is first come
/// first served, and when KV memory runs out the request that joined last goes back to the head of the queue and
/// is computed again.
///
/// Exactness: coefficients are rounded to the picosecond and then added up as whole numbers; the moments that come
/// of it are rounded up to the microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchingModel {
    /// Most requests in one batch.
    pub max_num_seqs: u32,
    /// Most tokens, of prompts and of decoding, in one step. Not below `max_num_seqs`.
    pub max_num_batched_tokens: u32,
    /// KV memory in blocks of [`KV_BLOCK_TOKENS`] tokens.
    pub kv_blocks: u32,
    /// How long a step takes.
    pub step_time: StepTime,
}

/// How long a step takes. Decoding `B` requests whose contexts sum to `K` tokens takes `a + b·B + c·K` ms; reading
/// `n` prompt tokens alone takes `p0 + p1·n` ms. A step that does both takes the decode time plus `p1·n`: the fixed
/// part (weights read, kernels launched) is paid once.
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

/// A value of a model that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {value}, wanted {wanted}")]
pub struct ModelProblem {
    /// The field, as a file names it.
    pub field: &'static str,
    /// What is there.
    pub value: f64,
    /// What would be right.
    pub wanted: &'static str,
}

impl BatchingModel {
    /// KV memory in tokens.
    pub fn kv_tokens(&self) -> u32 {
        self.kv_blocks.max(1).saturating_mul(KV_BLOCK_TOKENS)
    }

    /// TTFT of a request alone on an idle replica.
    pub fn ttft_alone(&self, request: &Request) -> Micros {
        Batching::new(self).ttft_alone(request)
    }

    /// Whether the sizes and times make sense, for models from a file.
    ///
    /// # Errors
    /// The first value that does not.
    pub fn check(&self) -> Result<(), ModelProblem> {
        let size = |field, value: u32, least: u32, wanted| {
            let value_is_right = value >= least;
            value_is_right.then_some(()).ok_or(ModelProblem { field, value: f64::from(value), wanted })
        };
        size("maxNumSeqs", self.max_num_seqs, 1, "at least 1")?;
        size(
            "maxNumBatchedTokens",
            self.max_num_batched_tokens,
            self.max_num_seqs,
            "at least maxNumSeqs: every running request needs one token a step",
        )?;
        size("kvBlocks", self.kv_blocks, 1, "at least 1")?;
        let StepTime {
            decode_base_ms,
            decode_per_request_ms,
            decode_per_context_token_ms,
            prefill_base_ms,
            prefill_per_token_ms,
        } = self.step_time;
        let times = [
            ("stepTime.decodeBaseMs", decode_base_ms, 1e-3, "0.001 to 1000000 ms"),
            ("stepTime.decodePerRequestMs", decode_per_request_ms, 0.0, "0 to 1000000 ms"),
            ("stepTime.decodePerContextTokenMs", decode_per_context_token_ms, 0.0, "0 to 1000000 ms"),
            ("stepTime.prefillBaseMs", prefill_base_ms, 1e-3, "0.001 to 1000000 ms"),
            ("stepTime.prefillPerTokenMs", prefill_per_token_ms, 0.0, "0 to 1000000 ms"),
        ];
        for (field, value, least, wanted) in times {
            if !(least..=1e6).contains(&value) {
                return Err(ModelProblem { field, value, wanted });
            }
        }
        Ok(())
    }
}
