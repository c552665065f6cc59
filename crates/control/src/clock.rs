//! The only place that reads a clock and turns it into a [`Timestamp`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forewarm_core::Timestamp;
use tokio::time::Instant;

/// Modelled time: Unix time when it starts, running `speed` times as fast as the wall's.
///
/// It never steps: after the start it follows the monotonic clock, so an adjusted wall clock cannot
/// reorder decisions.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Timestamp,
    started: Instant,
    speed: f64,
}

impl Clock {
    /// A clock that starts now. `speed` divides every modelled time: at 60, a minute takes a second.
    pub fn start(speed: f64) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Timestamp::from_millis(0) + unix, started: Instant::now(), speed }
    }

    /// The same clock, set to another time.
    pub fn set_to(self, now: Timestamp) -> Self {
        Self { origin: now, started: Instant::now(), ..self }
    }

    /// Now, in modelled time.
    pub fn now(&self) -> Timestamp {
        self.origin + self.started.elapsed().mul_f64(self.speed)
    }

    /// How many times faster than the wall's this clock runs.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// The time on the wall that a modelled span takes.
    pub fn wall(&self, modelled: Duration) -> Duration {
        modelled.div_f64(self.speed)
    }

    /// Waits until a modelled moment.
    pub async fn sleep_until(&self, at: Timestamp) {
        tokio::time::sleep_until(self.started + self.wall(at.since(self.origin))).await;
    }
}
