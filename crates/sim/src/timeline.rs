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
}

/// Moments every 15 s, and the decisions in between.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Timeline {
    /// In the order of time.
    pub moments: Vec<Moment>,
    /// When the target changed, and why: seconds and the decision's summary.
    pub decisions: Vec<(f64, String)>,
}
