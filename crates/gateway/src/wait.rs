//! Waiting for a slot, by two clocks: one while replicas serve, one while none does.

use std::time::Duration;

use crate::{
    pool::Clocks,
    scaler::{Lost, Place, Scaler, Slot},
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

/// Why there was no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// Replicas serve, and none had a slot in time.
    Warm,
    /// No replica became ready in time.
    Cold,
    /// Others took its place.
    Shed,
}

impl Patience {
    pub(crate) fn new(warm: Duration, cold: Duration) -> Self {
        Self { warm_left: warm, cold_left: cold, was_cold: false }
    }

    /// Waits for the slot of a place.
    pub(crate) async fn wait(&mut self, scaler: &Scaler, mut place: Place) -> Result<Box<Slot>, Unserved> {
        let began = place.clocks;
        let mut clocks = began;
        loop {
            let left = self.charged(began, clocks);
            // Only the clock that runs can run out. Which one runs may change unnoticed in between; since the
            // sleep is no longer than either has left, the next look is never late.
            let out = match clocks.is_warm() {
                true => left.warm_left.is_zero().then_some(Unserved::Warm),
                false => left.cold_left.is_zero().then_some(Unserved::Cold),
            };
            let sleep = if out.is_some() {
                Duration::ZERO
            } else {
                left.warm_left.min(left.cold_left).max(MIN_SLEEP)
            };
            tokio::select! {
                biased;
                outcome = place.slot() => {
                    let slot = outcome.map_err(|lost| match lost {
                        Lost::Shed => Unserved::Shed,
                        Lost::TooLate => Unserved::Warm,
                    })?;
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

    /// How much longer it waits while replicas serve.
    pub(crate) fn warm_left(&self) -> Duration {
        self.warm_left
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
