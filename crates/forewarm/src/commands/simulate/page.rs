//! Comparisons as one page that needs nothing beside itself: its data is in it as JSON, and its own script draws.

use forewarm_sim::{Course, Timeline, compare::Row};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{commands::scenario::Scenario, exit::Failure};

const PAGE: &str = include_str!("../../../pages/simulate.html");
const STYLE: &str = include_str!("../../../pages/simulate.css");
const SCRIPT: &str = include_str!("../../../pages/simulate.js");

/// Spans that a timeline is drawn in: one for two or three pixels.
const SPANS: usize = 600;
/// Decisions that are listed for a run; the rest is counted.
const MAX_DECISIONS: usize = 1_000;

/// A run with its course.
#[derive(Serialize)]
struct Run<'a> {
    row: &'a Row,
    course: Course,
    decisions: &'a [(f64, String)],
    decisions_left_out: usize,
}

/// The page of a comparison.
pub(crate) fn compared(scenario: &Scenario, runs: &[(Row, Timeline)]) -> Result<String, Failure> {
    let traces: Vec<Value> = scenario
        .traces
        .iter()
        .map(|trace| {
            let load = scenario.load(trace);
            let runs: Vec<Run<'_>> = runs
                .iter()
                .filter(|(row, _)| row.trace == trace.name)
                .map(|(row, timeline)| {
                    let decisions = &timeline.decisions;
                    let shown = decisions.len().min(MAX_DECISIONS);
                    Run {
                        row,
                        course: timeline.course(SPANS),
                        decisions: decisions.get(..shown).unwrap_or_default(),
                        decisions_left_out: decisions.len() - shown,
                    }
                })
                .collect();
            json!({
                "name": trace.short_name(),
                "requests": trace.requests.len(),
                "hours": trace.hours(),
                "mean_load": load.mean,
                "peak_load": load.peak,
                "runs": runs,
            })
        })
        .collect();
    filled(&json!({
        "kind": "simulate",
        "rests_on": scenario.in_words(),
        "wanted_percent": scenario.objective.percent,
        "slots": scenario.terms.max_concurrency,
        "traces": traces,
    }))
}

/// The page with its data in it.
pub(crate) fn filled(data: &Value) -> Result<String, Failure> {
    // Inside a script element only `</` and `<!--` could end the data before its time.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let version = env!("CARGO_PKG_VERSION");
    Ok(PAGE
        .replace("{style}", STYLE)
        .replace("{script}", SCRIPT)
        .replace("{version}", version)
        .replace("{data}", &data))
}
