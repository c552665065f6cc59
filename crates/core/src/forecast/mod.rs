//! What is expected to come. One method a file; each is updated in constant time and serialises.

mod budget;
mod burst;
mod expert;
mod offered;
pub(crate) mod panel;
mod season;
mod surprise;
mod trend;

pub use budget::MissBudget;
pub use burst::StepLoad;
pub use expert::{Forecaster, Level};
pub use offered::{Look, OfferedLoad};
pub use panel::{MayMiss, Outlook, Panel};
pub use season::Span;
pub use trend::Trend;

use std::time::Duration;

/// The grid of demand: load is averaged over steps of this length, but for [bursts](StepLoad) of short requests. HPA looks as
/// often.
pub const STEP: Duration = Duration::from_secs(15);

/// What is left of a weight of 1 after `span`, when `kept_a_day` of it is left after a day.
fn decay(kept_a_day: f64, span: Duration) -> f64 {
    kept_a_day.powf(span.as_secs_f64() / 86_400.0)
}
