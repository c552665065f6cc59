//! Waiting for a slot, by two clocks: one while replicas serve, one while none does.

use std::time::Duration;

use crate::{
    pool::Clocks,
    scaler::{Place, Scaler, Slot},
};

/// Shortest time between two looks at the clocks.
const MIN_SLEEP: Duration = Duration::from_millis(20);

/// How much longer a request may wait, on the wall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    warm_left: Duration,
    cold_left: Duration,
    /// Whether it waited for a cold start.
    pub(crate) was_cold: bool,
}

/// Which clock ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfPatience {
    /// Replicas serve, and none had a slot in time.
    Warm,
    /// No replica became ready in time.
    Cold,
}

impl Patience {
    pub(crate) fn new(warm: Duration, cold: Duration) -> Self {
        Self { warm_left: warm, cold_left: cold, was_cold: false }
    }

    /// Waits for the slot of a place.
    pub(crate) async fn wait(&mut self, scaler: &Scaler, mut place: Place) -> Result<Slot, OutOfPatience> {
        let began = place.clocks;
        let mut clocks = began;
        loop {
            let left = self.charged(began, clocks);
            // Only the clock that runs can run out. Which one runs may change unnoticed in between; since the
            // sleep is no longer than either has left, the next look is never late.
            let out = match clocks.is_warm() {
                true => left.warm_left.is_zero().then_some(OutOfPatience::Warm),
                false => left.cold_left.is_zero().then_some(OutOfPatience::Cold),
            };
            let sleep = if out.is_some() {
                Duration::ZERO
            } else {
                left.warm_left.min(left.cold_left).max(MIN_SLEEP)
            };
            tokio::select! {
                biased;
                slot = place.slot() => {
                    *self = self.charged(began, slot.clocks);
                    return Ok(slot);
                }
                () = tokio::time::sleep(sleep) => match out {
                    Some(out) => return Err(out),
                    None => clocks = scaler.clocks(),
                },
            }
        }
    }

    fn charged(self, began: Clocks, now: Clocks) -> Self {
        let (warm, cold) = now.since(&began);
        Self {
            warm_left: self.warm_left.saturating_sub(warm),
            cold_left: self.cold_left.saturating_sub(cold),
            was_cold: self.was_cold || !cold.is_zero() || !now.is_warm(),
        }
    }
}
