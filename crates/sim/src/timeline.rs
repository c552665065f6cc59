//! What a run looked like, for charts.

use serde::Serialize;

/// One moment of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moment {
    /// Seconds from the start.
    pub at_seconds: f64,
    /// Replicas asked for.
    pub target: u32,
    /// Replicas that serve.
    pub ready: u32,
    /// Replicas on their way.
    pub coming: u32,
    /// Requests being worked on.
    pub in_flight: u32,
    /// Requests that wait.
    pub queued: u32,
    /// What forewarm's own policy expects a cold start ahead: the load of late, and the load that is exceeded only
    /// with the probability that the objective allows; in requests at a time.
    pub anticipated: Option<[f64; 2]>,
}

/// The requests that came between two moments, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Arrivals {
    /// All of them.
    pub sent: u32,
    /// Those that did not attain the objective.
    pub missed: u32,
}

/// Moments every 15 s, and the decisions in between.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Timeline {
    /// In the order of time.
    pub moments: Vec<Moment>,
    /// What came after each moment and before the next.
    pub arrivals: Vec<Arrivals>,
    /// When the target changed, and why: seconds and the decision's summary.
    pub decisions: Vec<(f64, String)>,
}

/// A timeline cut into equal spans, each with its smallest, mean and largest values: a week is drawn in a thousand
/// strokes, and no peak is lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Course {
    /// Beginning of each span, in seconds.
    pub at_seconds: Vec<f64>,
    /// Replicas asked for.
    pub target: Vec<[f64; 3]>,
    /// Replicas that serve.
    pub ready: Vec<[f64; 3]>,
    /// Replicas that serve or are on their way.
    pub with_coming: Vec<[f64; 3]>,
    /// Requests being worked on or waiting.
    pub in_system: Vec<[f64; 3]>,
    /// Requests that wait.
    pub queued: Vec<[f64; 3]>,
    /// Means of what was anticipated; empty where the policy does not.
    pub anticipated: Vec<[f64; 2]>,
}

impl Timeline {
    /// Counts a request by the number of the last moment before it came.
    pub(crate) fn count(&mut self, moment: usize, missed: bool) {
        if self.arrivals.len() <= moment {
            self.arrivals.resize(moment + 1, Arrivals::default());
        }
        if let Some(arrivals) = self.arrivals.get_mut(moment) {
            arrivals.sent += 1;
            arrivals.missed += u32::from(missed);
        }
    }

    /// The course of the run in at most `spans` spans.
    pub fn course(&self, spans: usize) -> Course {
        let span = self.moments.len().div_ceil(spans.max(1)).max(1);
        let anticipates = self.moments.iter().any(|moment| moment.anticipated.is_some());
        let mut course = Course::default();
        for moments in self.moments.chunks(span) {
            let measured = |value: fn(&Moment) -> u32| {
                let values = moments.iter().map(|moment| f64::from(value(moment)));
                let [low, sum, high] = values.fold([f64::INFINITY, 0.0, 0.0], |[low, sum, high], value| {
                    [low.min(value), sum + value, high.max(value)]
                });
                // Two digits: it is for drawing.
                [low, (sum / moments.len() as f64 * 100.0).round() / 100.0, high]
            };
            course.at_seconds.push(moments.first().map_or(0.0, |moment| moment.at_seconds));
            course.target.push(measured(|moment| moment.target));
            course.ready.push(measured(|moment| moment.ready));
            course.with_coming.push(measured(|moment| moment.ready + moment.coming));
            course.in_system.push(measured(|moment| moment.in_flight + moment.queued));
            course.queued.push(measured(|moment| moment.queued));
            let anticipated: Vec<[f64; 2]> = moments.iter().filter_map(|moment| moment.anticipated).collect();
            if let Some(count) = std::num::NonZeroUsize::new(anticipated.len()) {
                let mean = |which: usize| {
                    let sum: f64 = anticipated.iter().map(|pair| pair[which]).sum();
                    (sum / count.get() as f64 * 100.0).round() / 100.0
                };
                course.anticipated.push([mean(0), mean(1)]);
            } else if anticipates {
                course.anticipated.push([0.0, 0.0]);
            }
        }
        course
    }
}
