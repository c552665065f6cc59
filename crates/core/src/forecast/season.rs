//! What is usual at a time of the hour, of the day or of the week: jobs that start on the hour, people who start at nine, but
//! not on Saturday.
//!
//! Kept is the mean load of each part of such a span, the latest spans most. What is said of it is how the load
//! usually changes from now until a lead time later; how much there is now, the forecaster sees for itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{STEP, surprise::Surprises};
use crate::Timestamp;

/// A span that comes again. What comes every so many minutes or hours is in the span that it divides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Span {
    /// An hour, by minutes.
    Hour,
    /// A day, by five minutes.
    Day,
    /// A week, by quarters of an hour.
    Week,
}

impl Span {
    /// Its length, and that of the parts that are told apart, in steps.
    fn steps(self) -> (usize, usize) {
        match self {
            Span::Hour => (240, 4),
            Span::Day => (24 * 240, 20),
            Span::Week => (7 * 24 * 240, 60),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Span::Hour => "hour",
            Span::Day => "day",
            Span::Week => "week",
        })
    }
}

/// Weight of the last span in what is usual.
const NEWEST: f64 = 0.3;
/// What is kept is a whole number of hundredths, which is fine enough and takes little room.
const LOG_UNIT: f64 = 0.01;

/// What is usual at each time of a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Season {
    pub(super) span: Span,
    /// By part, the logarithm of one more than the load; `None` until it was seen.
    usual: Vec<Option<u16>>,
    /// The part under way, counted from the epoch, the sum of its loads, and their number.
    open: (i64, f64, u32),
    /// What was usual at the moments that a forecaster's mean is made of: weighted sum and weights.
    lately: (f64, f64),
    /// What surprises whoever follows it. Where jobs come on the hour, they surprise all but those who expect them.
    pub(super) surprises: Surprises,
}

/// What is usual: at the times that were of late, and at most until a lead time from now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Course {
    pub(super) lately: f64,
    pub(super) most: f64,
}

impl Season {
    pub(super) fn new(span: Span) -> Self {
        let (length, part) = span.steps();
        Self {
            span,
            usual: vec![None; length / part],
            open: (0, 0.0, 0),
            lately: (0.0, 0.0),
            surprises: Surprises::default(),
        }
    }

    /// Whether anything is.
    pub(super) fn is_known(&self) -> bool {
        self.usual.iter().any(Option::is_some)
    }

    /// Takes in the load of the step that ends at this moment. `None` while nothing is known of this time of the span. The
    /// times of late are those of a mean with this time constant.
    pub(super) fn observe(
        &mut self,
        at: Timestamp,
        load: f64,
        lag: usize,
        mean_seconds: u32,
    ) -> Option<Course> {
        let part = self.part(at);
        if part != self.open.0 {
            self.close();
            self.open = (part, 0.0, 0);
        }
        self.open = (part, self.open.1 + load, self.open.2.saturating_add(1));
        let Some(now) = self.usual(part) else {
            // What was usual before a time that is not known says nothing after it.
            self.lately = (0.0, 0.0);
            return None;
        };
        let kept = (-STEP.as_secs_f64() / f64::from(mean_seconds)).exp();
        self.lately = (self.lately.0 * kept + now, self.lately.1 * kept + 1.0);
        // What is needed sooner is not taken away for what is not needed later.
        let last = self.part(at + STEP * u32::try_from(lag).unwrap_or(u32::MAX));
        let most =
            (part..=last).take(self.usual.len()).filter_map(|part| self.usual(part)).fold(0.0, f64::max);
        Some(Course { lately: self.lately.0 / self.lately.1, most })
    }

    fn close(&mut self) {
        let (part, sum, steps) = self.open;
        // Who looked at a moment of it has not seen it.
        if steps == 0 || 2 * (steps as usize) < self.span.steps().1 {
            return;
        }
        let last = sum / f64::from(steps);
        let mixed = self.usual(part).map_or(last, |usual| usual + NEWEST * (last - usual));
        let place = self.place(part);
        if let Some(usual) = self.usual.get_mut(place) {
            // `as` saturates, at more than any load.
            *usual = Some((mixed.ln_1p() / LOG_UNIT).round() as u16);
        }
    }

    /// The part in whose middle a step is that ends at this moment.
    fn part(&self, at: Timestamp) -> i64 {
        let part_millis = (STEP.as_millis() as i64) * self.span.steps().1 as i64;
        (at - STEP / 2).as_millis().div_euclid(part_millis)
    }

    fn place(&self, part: i64) -> usize {
        part.rem_euclid(self.usual.len().max(1) as i64) as usize
    }

    fn usual(&self, part: i64) -> Option<f64> {
        let usual = (*self.usual.get(self.place(part))?)?;
        Some((f64::from(usual) * LOG_UNIT).exp_m1())
    }
}
