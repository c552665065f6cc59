//! Waiting for a slot, by two clocks: one while replicas serve, one while none does.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    pool::Ticket,
    scaler::{Scaler, Slot},
};

/// How long a request may wait and has waited, on the wall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    warm_left: Duration,
    cold_left: Duration,
    /// When it was accepted.
    pub(crate) since: Instant,
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
        Self { warm_left: warm, cold_left: cold, since: Instant::now(), was_cold: false }
    }

    /// Waits for the slot of a ticket. When the future is dropped, the place is given up.
    pub(crate) async fn wait(
        &mut self,
        scaler: &Arc<Scaler>,
        ticket: Ticket,
        mut granted: oneshot::Receiver<Slot>,
    ) -> Result<Slot, OutOfPatience> {
        let _place = Place { scaler, ticket };
        let mut warm = scaler.warm();
        loop {
            let is_warm = *warm.borrow_and_update();
            let left = if is_warm { self.warm_left } else { self.cold_left };
            let started = Instant::now();
            let slot = tokio::select! {
                biased;
                slot = &mut granted => Some(slot),
                _ = warm.changed() => None,
                () = tokio::time::sleep(left) => {
                    return Err(if is_warm { OutOfPatience::Warm } else { OutOfPatience::Cold });
                }
            };
            let waited = started.elapsed();
            if is_warm {
                self.warm_left = self.warm_left.saturating_sub(waited);
            } else {
                self.cold_left = self.cold_left.saturating_sub(waited);
                self.was_cold = true;
            }
            if let Some(Ok(slot)) = slot {
                return Ok(slot);
            }
            if let Some(Err(_)) = slot {
                // The sender is dropped only with the pool, that is, with the gateway.
                return Err(OutOfPatience::Cold);
            }
        }
    }
}

/// A place in the queue, given up when whoever held it goes away.
struct Place<'a> {
    scaler: &'a Arc<Scaler>,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.scaler.cancel(self.ticket);
    }
}
