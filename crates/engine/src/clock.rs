//! Between the model's time and the wall's: the only place that knows the speed-up.

use std::time::Duration;

use tokio::time::Instant;

/// Modelled time since the engine became ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelClock {
    started: Instant,
    speed: f64,
}

impl ModelClock {
    /// Starts modelled time at zero, now.
    pub(crate) fn start(speed: f64) -> Self {
        Self { started: Instant::now(), speed }
    }

    /// The modelled time now.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed().mul_f64(self.speed)
    }

    /// When the modelled time `at` comes on the wall. Rounded up, so that at that moment [`now`](Self::now) has
    /// reached `at` and a sleeper doesn't wake just before its event.
    pub(crate) fn wall(&self, at: Duration) -> Instant {
        self.started + at.div_f64(self.speed) + Duration::from_nanos(2)
    }
}

/// The wall time that `modelled` takes.
pub(crate) fn wall_duration(modelled: Duration, speed: f64) -> Duration {
    modelled.div_f64(speed)
}
