//! Double exponential smoothing (Holt 1957): a level and its slope, on a fixed grid.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Requests, Timestamp};

/// A level and a slope, updated once a grid step with the largest value seen in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trend {
    /// The step that is being filled, and its largest value so far.
    open: Option<(i64, f64)>,
    /// Smoothed value at the last closed step.
    level: Option<f64>,
    /// Smoothed change a step.
    slope: f64,
}

impl Trend {
    /// The grid of forecasts: the 15 s of HPA's sync period and of the exporter in `examples/seed/`.
    pub const STEP: Duration = Duration::from_secs(15);
    /// Weight of the newest step in the level.
    const LEVEL_WEIGHT: f64 = 0.5;
    /// Weight of the newest change in the slope.
    const SLOPE_WEIGHT: f64 = 0.3;
    /// Steps of silence after which the past says nothing: the trend starts anew.
    const FORGET_STEPS: i64 = 40;

    /// Takes in a value seen `now`.
    pub fn observe(&mut self, now: Timestamp, value: Requests) {
        let step = now.as_millis().div_euclid(Self::STEP.as_millis() as i64);
        match self.open {
            Some((open, peak)) if step <= open => self.open = Some((open, peak.max(value.get()))),
            Some((open, _)) if step - open > Self::FORGET_STEPS => {
                *self = Self { open: Some((step, value.get())), level: None, slope: 0.0 };
            }
            Some((open, peak)) => {
                // Steps without an observation repeat the last value: nothing said that it changed.
                for _ in open..step {
                    self.close(peak);
                }
                self.open = Some((step, value.get()));
            }
            None => self.open = Some((step, value.get())),
        }
    }

    fn close(&mut self, value: f64) {
        match self.level {
            None => self.level = Some(value),
            Some(level) => {
                let next = Self::LEVEL_WEIGHT * value + (1.0 - Self::LEVEL_WEIGHT) * (level + self.slope);
                self.slope = Self::SLOPE_WEIGHT * (next - level) + (1.0 - Self::SLOPE_WEIGHT) * self.slope;
                self.level = Some(next);
            }
        }
    }

    /// The values expected at the next `steps` grid steps, index 0 being the one for now; empty before
    /// anything was observed.
    pub fn forecast(&self, steps: usize) -> Vec<Requests> {
        let Some((_, now)) = self.open else { return Vec::new() };
        (0..steps)
            .map(|ahead| {
                // The level lags on a ramp, so the line starts at what is there now.
                let value = (now + self.slope * ahead as f64).max(0.0);
                Requests::new(value).unwrap_or_default()
            })
            .collect()
    }
}
