//! Windows and volume.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Request, Workload};

/// Copies of a request come this long before or after it at most.
const JITTER: Duration = Duration::from_secs(30);

/// Requests on top of a workload: what happens when all users come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// When the first ones come.
    pub at: Duration,
    /// How many.
    pub requests: u32,
    /// Over how long a time they are spread, evenly.
    pub over: Duration,
}

impl Workload {
    /// The part from `start` on, of this length; arrivals count from `start`.
    #[must_use]
    pub fn window(mut self, start: Duration, length: Duration) -> Self {
        self.requests.retain(|request| request.arrival >= start && request.arrival - start < length);
        for request in &mut self.requests {
            request.arrival -= start;
        }
        self
    }

    /// `copies` requests for each one: all but the first jittered by up to 30 s either way, seeded.
    #[must_use]
    pub fn scaled(self, copies: u32, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut requests = Vec::with_capacity(self.requests.len().saturating_mul(copies as usize));
        for request in self.requests {
            for copy in 0..copies {
                let jitter = if copy == 0 { 0.0 } else { rng.random_range(-1.0..1.0) * JITTER.as_secs_f64() };
                // Mirrored at the start, where copies that would come before it must not pile up.
                let arrival = (request.arrival.as_secs_f64() + jitter).abs();
                let arrival = if copy == 0 { request.arrival } else { Duration::from_secs_f64(arrival) };
                requests.push(Request { arrival, ..request });
            }
        }
        requests.sort_by_key(|request| request.arrival);
        Self { requests, notes: self.notes }
    }

    /// The same requests `speed` times as fast one after the other: the load grows, the requests do not change.
    #[must_use]
    pub fn sped_up(mut self, speed: f64) -> Self {
        for request in &mut self.requests {
            request.arrival = request.arrival.div_f64(speed);
        }
        self
    }

    /// With a burst on top, whose requests are as long as ones drawn from the workload, seeded. Nothing is added
    /// to a workload without requests.
    #[must_use]
    pub fn with_burst(mut self, burst: Burst, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let own = self.requests.len();
        for index in 0..burst.requests {
            let Some(&like) =
                (own > 0).then(|| rng.random_range(0..own)).and_then(|at| self.requests.get(at))
            else {
                break;
            };
            let share = f64::from(index) / f64::from(burst.requests);
            self.requests.push(Request { arrival: burst.at + burst.over.mul_f64(share), ..like });
        }
        self.requests.sort_by_key(|request| request.arrival);
        self
    }
}
