//! Step 3: replicas that are started before the queue asks for them.
//!
//! [`verdict`] is the rule that users of threshold pre-warming have today, exactly: start when
//! `queue / max_queue >= threshold`, else when `forecast[lead_time / 15 s] / max_queue >= threshold`,
//! where `forecast[0]` is the value for now.

use std::time::Duration;

use crate::{
    Phase, Policy, PreWarm, QueueDepth, Reason, Requests, ScalerState, Stage,
    forecast::Trend,
    pipeline::{Draft, propose::Proposals},
};

/// What the pre-warming rule says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing to start.
    Wait,
    /// Start: the queue itself is at the threshold.
    Queue,
    /// Start: the queue is expected to be at the threshold after the lead time.
    Forecast(Requests),
}

/// Why the pre-warming rule cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PreWarmError {
    /// A share of an empty maximum is no number.
    #[error("`maxQueue` is 0, so no share of it can be computed; it must be above 0")]
    ZeroMaxQueue,
    /// The forecast ends before the lead time.
    #[error(
        "the forecast has {steps} steps of 15 s, and step {needed} is needed for a lead time of {lead_seconds} s"
    )]
    ForecastTooShort {
        /// Steps there are, the one for now included.
        steps: usize,
        /// The index that the lead time asks for.
        needed: usize,
        /// The lead time.
        lead_seconds: f64,
    },
}

/// The index of the forecast that `lead_time` asks for, on the 15-second grid with index 0 = now.
pub fn lead_index(lead_time: Duration) -> usize {
    usize::try_from(lead_time.as_millis() / Trend::STEP.as_millis()).unwrap_or(usize::MAX)
}

/// Applies the rule.
///
/// # Errors
/// [`PreWarmError`] when `max_queue` is 0, or when the queue does not decide and the forecast is shorter
/// than the lead time.
pub fn verdict(rule: &PreWarm, queue: Requests, forecast: &[Requests]) -> Result<Verdict, PreWarmError> {
    let max_queue = rule.max_queue.get();
    if max_queue <= 0.0 {
        return Err(PreWarmError::ZeroMaxQueue);
    }
    if queue.get() / max_queue >= rule.threshold {
        return Ok(Verdict::Queue);
    }
    let needed = lead_index(rule.lead_time);
    let expected = forecast.get(needed).copied().ok_or(PreWarmError::ForecastTooShort {
        steps: forecast.len(),
        needed,
        lead_seconds: rule.lead_time.as_secs_f64(),
    })?;
    if expected.get() / max_queue >= rule.threshold {
        Ok(Verdict::Forecast(expected))
    } else {
        Ok(Verdict::Wait)
    }
}

/// Raises the wish when the rule says so: to what the queue it looks at will need, and by one at least
/// unless replicas are on their way already.
pub(super) fn pre_warm(draft: &mut Draft<'_>, state: &mut ScalerState, proposals: &Proposals) {
    let Policy::QueueDepth(QueueDepth { per_replica, pre_warm: Some(rule) }) = &draft.spec.policy else {
        return;
    };
    let Some(queue) = proposals.queue else { return };
    state.trend.observe(draft.now, queue);
    let forecast = state.trend.forecast(lead_index(rule.lead_time).saturating_add(1).min(MAX_FORECAST_STEPS));
    let (level, reason) = match verdict(rule, queue, &forecast) {
        Ok(Verdict::Wait) => return,
        Ok(Verdict::Queue) => {
            let PreWarm { max_queue, threshold, .. } = *rule;
            (queue, Reason::PreWarmQueue { queue, max_queue, threshold })
        }
        Ok(Verdict::Forecast(expected)) => {
            let PreWarm { max_queue, threshold, lead_time } = *rule;
            let lead_seconds = lead_time.as_secs_f64();
            (expected, Reason::PreWarmForecast { forecast: expected, lead_seconds, max_queue, threshold })
        }
        Err(error) => {
            draft.step(Stage::PreWarm, Reason::PreWarmUnavailable { why: error.to_string() });
            return;
        }
    };
    let needed = level.replicas_at(*per_replica).map_or(0, |replicas| replicas.0);
    let coming = draft.observation.count_where(Phase::is_coming) > 0;
    let one_more = if coming { draft.current } else { draft.current.saturating_add(1) };
    let raised = draft.replicas.max(needed).max(one_more);
    draft.set(Stage::PreWarm, raised, reason);
}

/// A day on the 15-second grid: a longer lead time is a mistake, and must not allocate without a limit.
const MAX_FORECAST_STEPS: usize = 24 * 60 * 4;
