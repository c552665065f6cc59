//! Steps with the same requests in them: their times form an arithmetic progression.

use super::StepTime;
use crate::time::Micros;

/// Picoseconds: fine enough for the time of one token of context, and whole, so that sums are exact.
pub(super) type Picos = u128;

const PICOS_PER_MICRO: Picos = 1_000_000;

pub(super) fn picos(at: Micros) -> Picos {
    Picos::from(at) * PICOS_PER_MICRO
}

/// Rounded up: nothing is seen before it happened.
pub(super) fn ceil_micros(at: Picos) -> Micros {
    u64::try_from(at.div_ceil(PICOS_PER_MICRO)).unwrap_or(u64::MAX)
}

/// [`StepTime`] in picoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coefficients {
    decode_base: Picos,
    decode_per_request: Picos,
    decode_per_context_token: Picos,
    prefill_base: Picos,
    prefill_per_token: Picos,
}

impl Coefficients {
    /// Time to read so many tokens when there is nothing else to do.
    pub(super) fn prefill_alone(&self, tokens: u64, step_tokens: u64) -> Picos {
        let steps = tokens.div_ceil(step_tokens);
        self.prefill_base * Picos::from(steps) + self.prefill_per_token * Picos::from(tokens)
    }
}

impl From<StepTime> for Coefficients {
    fn from(time: StepTime) -> Self {
        // `as` saturates, and maps NaN to 0.
        let picos = |ms: f64| (ms * 1e9).round() as Picos;
        Self {
            decode_base: picos(time.decode_base_ms),
            decode_per_request: picos(time.decode_per_request_ms),
            decode_per_context_token: picos(time.decode_per_context_token_ms),
            prefill_base: picos(time.prefill_base_ms),
            prefill_per_token: picos(time.prefill_per_token_ms),
        }
    }
}

/// One or more steps with the same requests in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    start: Picos,
    /// Time of the first step.
    first: Picos,
    /// How much longer each step takes than the one before: a token of context for each decoding request.
    growth: Picos,
    pub(super) steps: u64,
    pub(super) end: Picos,
}

impl Phase {
    /// `context` counts the tokens that the first step attends to.
    pub(super) fn new(
        start: Picos,
        time: &Coefficients,
        decoding: u64,
        context: u64,
        prefill_tokens: u64,
        steps: u64,
    ) -> Self {
        let fixed = if decoding > 0 {
            time.decode_base
                + time.decode_per_request * Picos::from(decoding)
                + time.decode_per_context_token * Picos::from(context)
        } else {
            time.prefill_base
        };
        let first = fixed + time.prefill_per_token * Picos::from(prefill_tokens);
        let growth = time.decode_per_context_token * Picos::from(decoding);
        let phase = Self { start, first, growth, steps, end: start };
        Self { end: start + phase.span(steps), ..phase }
    }

    /// Time of the first so many steps.
    fn span(&self, steps: u64) -> Picos {
        let steps = Picos::from(steps);
        steps * self.first + self.growth * (steps * steps.saturating_sub(1) / 2)
    }

    /// Ends the phase with the step that is under way at `now`, which lies before its end.
    pub(super) fn cut(&mut self, now: Picos) {
        let elapsed = now.saturating_sub(self.start);
        // Done at `now`: at least as many as if all took as long as the last, at most as if all took as the first.
        let last = self.first + self.growth * Picos::from(self.steps.saturating_sub(1));
        let bound = |step: Picos| u64::try_from(elapsed / step.max(1)).unwrap_or(u64::MAX).min(self.steps);
        let (mut done, mut not_done) = (bound(last), bound(self.first).saturating_add(1));
        while not_done - done > 1 {
            let middle = done + (not_done - done) / 2;
            if self.span(middle) <= elapsed {
                done = middle;
            } else {
                not_done = middle;
            }
        }
        self.steps = self.steps.min(done + 1);
        self.end = self.start + self.span(self.steps);
    }
}
